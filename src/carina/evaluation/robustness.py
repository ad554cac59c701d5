"""What another framing, exposure or sharpness would do to the figures: the same films, changed one way each.

Held-out films of the same hospitals are framed and exposed as the training films were, so no figure on them
shows whether a threshold survives another hand at the collimator. Here the square that the network
sees is changed: what another machine, another crop and another resize would do. What a bundle's preparation
takes away before the network sees it (margins, tones) is not asked about. No figure here stands for a
hospital; together they say which changes a network has learned to look past. After the corruptions of
Hendrycks and Dietterich (ICLR 2019, arXiv 1903.12261), in those that radiographs meet.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from carina.evaluation.bootstrap import Area, Rate, areas, shares
from carina.evaluation.metrics import Metrics, disease_probability
from carina.evaluation.people import people
from carina.evaluation.predictions import Predictions
from carina.evaluation.promises import Held, held
from carina.evaluation.subgroups import called_diseased
from carina.images.preparation import Preparation
from carina.images.resize import resize
from carina.records import Progress
from carina.scoring.operating import Site
from carina.scoring.scorer import Scorer

Square = NDArray[np.uint8]  # (S, S)
Change = Callable[[Square], Square]
AS_THEY_ARE = "as they are"
_TOGETHER = 64  # squares that are changed and scored at a time


def cropped(square: Square, share: float) -> Square:
    """Without this share of each side, at the old size."""
    side = len(square)
    cut = side * share
    return resize(square, side, side, box=(cut, cut, side - cut, side - cut)).astype(np.uint8)


def framed(square: Square, above: float, beside: float) -> Square:
    """Smaller, within black bars of these shares of a side."""
    side = len(square)
    top, left = round(side * above), round(side * beside)
    frame = np.zeros_like(square)
    frame[top : side - top, left : side - left] = resize(square, side - 2 * left, side - 2 * top)
    return frame


def toned(square: Square, exponent: float = 1.0, gain: float = 1.0, lift: float = 0.0) -> Square:
    """Along a power curve of the gray value, then less contrast. ``lift`` is in gray levels."""
    return np.clip(255 * gain * (square / 255.0) ** exponent + lift, 0, 255).round().astype(np.uint8)


def blurred(square: Square, share: float) -> Square:
    """Reduced to this share of the size, and enlarged again."""
    side, small = len(square), max(1, round(len(square) * share))
    return resize(resize(square, small, small), side, side).astype(np.uint8)


FRAMES: Mapping[str, Change] = {
    "12 % black on each side": lambda square: framed(square, 0.12, 0.12),
    "black bars above and below, 14 %": lambda square: framed(square, 0.14, 0.0),
}
TONES: Mapping[str, Change] = {
    "brighter (exponent 0.6)": lambda square: toned(square, 0.6),
    "darker (exponent 1.6)": lambda square: toned(square, 1.6),
    "little contrast (60 %)": lambda square: toned(square, gain=0.6, lift=40),
}
CHANGES: Mapping[str, Change] = {
    "5 % of each side cut off": lambda square: cropped(square, 0.05),
    "10 % of each side cut off": lambda square: cropped(square, 0.10),
    **FRAMES,
    **TONES,
    "half the resolution": lambda square: blurred(square, 0.5),
}


def changes(preparation: Preparation) -> dict[str, Change]:
    """Those of ``CHANGES`` that reach the network: trimming undoes frames, an evened tone the tones."""
    undone = {*(FRAMES if preparation.trim else ()), *(TONES if preparation.tone != "plain" else ())}
    return {name: change for name, change in CHANGES.items() if name not in undone}


@dataclass(frozen=True, slots=True)
class Changed:
    """The figures of the films under one change: at the most probable class, and at the site's points."""

    change: str
    area: Area
    recall: Rate
    specificity: Rate
    points: tuple[Held, ...]  # as many as the site has; none without a site


def robustness(
    predictions: Predictions,
    metrics: Metrics,
    squares: Iterable[Square],
    scorer: Scorer,
    site: Site | None,
    *,
    same_films: bool = False,
    seed: int = 0,
    tell: Callable[[Progress], None] | None = None,
) -> tuple[Changed, ...]:
    """The films as they are, whose figures are those of ``metrics``, then under each change.

    ``squares`` are the scored films as the network sees them, (S, S) uint8 each, in their order;
    ``same_films`` is as for ``held``. ``tell`` hears ``robustness``, how many films of how many.
    """
    asked = changes(scorer.bundle.preparation)
    found = {name: predictions.probabilities.copy() for name in asked}
    rows, done, waiting = predictions.scored, 0, iter(squares)
    while some := list(itertools.islice(waiting, _TOGETHER)):
        for name, change in asked.items():
            answer = scorer.predict(np.stack([change(square) for square in some]))
            found[name][rows[done : done + len(some)]] = answer.probabilities
        done += len(some)
        if tell is not None:
            tell(Progress("robustness", done, len(rows)))
    detection = metrics.detection
    before = Changed(
        AS_THEY_ARE,
        metrics.disease_auc,
        detection.sensitivity,
        detection.specificity,
        _points(predictions, site, same_films),
    )
    after = (
        _figures(name, replace(predictions, probabilities=probabilities), site, same_films, seed)
        for name, probabilities in found.items()
    )
    return before, *after


def _figures(name: str, predictions: Predictions, site: Site | None, same_films: bool, seed: int) -> Changed:
    rows = predictions.scored
    ill, called = predictions.sick[predictions.labels[rows]], called_diseased(predictions)
    patients = np.array(predictions.column("patient"))[rows]
    recall, specificity = shares(patients, [(called, ill), (~called, ~ill)], seed=seed)
    scores = disease_probability(predictions.probabilities[rows], predictions.sick)
    (area,) = areas(patients, [(scores, ill)], seed=seed)
    return Changed(name, area, recall, specificity, _points(predictions, site, same_films))


def _points(predictions: Predictions, site: Site | None, same_films: bool) -> tuple[Held, ...]:
    if site is None:
        return ()
    shown = people(predictions)
    return tuple(held(point, shown, same_films=same_films) for point in site.points)
