"""Films as the model saw them, for people to look at: drawn by lot, or because they went wrong.

They are scored a second time, so that an evaluation never keeps the maps of thousands of films.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carina.data.pixels import PixelCache
from carina.evaluation.answers import looks
from carina.evaluation.metrics import losses
from carina.evaluation.predictions import Predictions
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
    predictions: Predictions, rows: NDArray[np.int64], scorer: Scorer, cache: PixelCache | None
) -> tuple[FilmPicture, ...]:
    """Pictures of these (scored) rows, in order; a film that can no longer be had is left out."""
    seen = looks(scorer, predictions.films.take(rows), cache)
    loss = losses(predictions.probabilities[rows], predictions.labels[rows])
    paths, sources = predictions.column("path"), predictions.column("source")
    pictures = []
    for row, own, look in zip(rows.tolist(), loss, seen, strict=True):
        if look is None:
            continue
        top = int(predictions.probabilities[row].argmax())
        pictures.append(
            FilmPicture(
                name="/".join(Path(paths[row]).parts[-2:]),
                source=sources[row],
                actual=predictions.classes[predictions.labels[row]],
                predicted=predictions.classes[top],
                probability=float(predictions.probabilities[row, top]),
                loss=float(own),
                prepared=look.prepared,
                heatmap=blend(look.prepared, look.cam[top], _SIDE)[0],
            )
        )
    return tuple(pictures)


def sample_rows(labels: NDArray[np.int64], per_class: int, seed: int) -> NDArray[np.int64]:
    """Rows drawn by lot, at most ``per_class`` of each label, in order of label."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.concatenate([order[labels[order] == label][:per_class] for label in np.unique(labels)])
