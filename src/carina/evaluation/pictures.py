"""Films as the model saw them, for people to look at: drawn by lot, or because they went wrong.

They are scored a second time, so that an evaluation never keeps the maps of thousands of films.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carina.evaluation.metrics import losses
from carina.evaluation.predictions import Predictions
from carina.records import Prediction
from carina.scoring.heatmap import blend
from carina.scoring.scorer import Scorer

_SIDE = 224  # pixels of a heat map


@dataclass(frozen=True, slots=True)
class FilmPicture:
    """One film as the model saw it, (S, S) uint8, and the heat map over it, (H, W, 3) uint8."""

    name: str
    source: str
    actual: str
    predicted: str
    probability: float  # of the predicted class
    loss: float
    prepared: NDArray[np.uint8]
    heatmap: NDArray[np.uint8]


def film_pictures(
    predictions: Predictions, rows: NDArray[np.int64], scorer: Scorer
) -> tuple[FilmPicture, ...]:
    """Pictures of these (scored) rows, in order; a film that can no longer be read is left out."""
    paths = [predictions.column("path")[row] for row in rows]
    sources = predictions.column("source")
    answers = scorer.score([path for path in paths if os.path.lexists(path)])
    seen = {answer.path: answer for answer in answers if isinstance(answer, Prediction)}
    loss = losses(predictions.probabilities[rows], predictions.labels[rows])
    return tuple(
        _picture(predictions, row, sources[row], float(own), seen[path])
        for row, path, own in zip(rows, paths, loss, strict=True)
        if path in seen
    )


def sample_rows(labels: NDArray[np.int64], per_class: int, seed: int) -> NDArray[np.int64]:
    """Rows drawn by lot, at most ``per_class`` of each label, in order of label."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.concatenate([order[labels[order] == label][:per_class] for label in np.unique(labels)])


def _picture(
    predictions: Predictions, row: np.int64, source: str, loss: float, seen: Prediction
) -> FilmPicture:
    top = int(predictions.probabilities[row].argmax())
    return FilmPicture(
        name=Path(seen.path).name,
        source=source,
        actual=predictions.classes[predictions.labels[row]],
        predicted=predictions.classes[top],
        probability=float(predictions.probabilities[row, top]),
        loss=loss,
        prepared=seen.prepared,
        heatmap=blend(seen.prepared, seen.cam[top], _SIDE)[0],
    )
