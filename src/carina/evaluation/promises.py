"""What the operating points of a site promised, held against films they were not chosen on. Pure.

A promise is *broken* when even the upper limit of what is found here lies below it: then these films
are not like those it was made on (another hospital, another mixture, another machine), and the site
must be calibrated anew. Otherwise it is *kept* when the target is measured, and *open* when it is not
but so few people cannot tell. Films that the thresholds were chosen on can break a promise and never keep it:
then it is *not tested*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from carina.evaluation import conformal
from carina.evaluation.calibration import Reliability, reliability
from carina.evaluation.conformal import SetsHeld
from carina.evaluation.people import People, Scores, people, persons_of
from carina.evaluation.planner import lower_limit, upper_limit
from carina.evaluation.predictions import Predictions
from carina.evaluation.shift import Shift, shift_of
from carina.scoring.operating import OperatingPoint, Site, Watch
from carina.scoring.probabilities import ProbabilityMap

Verdict = Literal["kept", "open", "broken", "not tested", "nobody to find"]
INTERVAL = 0.95


@dataclass(frozen=True, slots=True)
class Found:
    """Of ``people`` people ``hits``, with the two-sided exact 95 % interval; None where nobody was."""

    hits: int
    people: int
    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, hits: int, count: int) -> Found:
        """``hits`` of ``count``."""
        if not count:
            return cls(0, 0, None, None, None)
        sure = (1 + INTERVAL) / 2
        return cls(hits, count, hits / count, lower_limit(hits, count, sure), upper_limit(hits, count, sure))


@dataclass(frozen=True, slots=True)
class Held:
    """One operating point on these films."""

    target: float
    confidence: float
    per_class: bool
    threshold: float
    promised: float  # the lower limit that was shown
    verdict: Verdict
    sensitivity: Found
    specificity: Found
    classes: dict[str, Found]  # the worst first
    films: int
    below: int

    @property
    def useless(self) -> bool:
        """Whether as many are found by drawing lots: a promise can be kept by flagging everybody."""
        return (self.specificity.low or 0.0) + (self.sensitivity.low or 0.0) <= 1


@dataclass(frozen=True, slots=True)
class Claims:
    """Probabilities and operating points on one selection of films.

    ``site`` is None, and ``points`` empty, where the bundle has none; ``corrected`` is how reliable the
    site's corrected probabilities are here, ``sets`` what its prediction sets do. ``same_films``: the
    thresholds were chosen on these very films.
    """

    reliability: Reliability | None  # None where all films are on one side
    site: str | None = None
    points: tuple[Held, ...] = ()
    corrected: Reliability | None = None
    method: str | None = None
    same_films: bool = False
    sets: SetsHeld | None = None
    watch: Watch | None = None  # what the films of the site looked like
    shift: Shift | None = None  # of these against them; None where the thresholds were chosen on these


def claims(
    predictions: Predictions, site: tuple[str, Site] | None, *, same_films: bool = False, seed: int = 0
) -> Claims:
    """How reliable the probabilities are, and whether the points of the (named) site hold."""
    raw = _reliability(predictions, None, seed)
    if site is None:
        return Claims(raw)
    name, known = site
    map_ = None if known.corrected is None else known.corrected.map
    shown = people(predictions)
    ill = predictions.sick[predictions.labels[predictions.scored]]
    return Claims(
        reliability=raw,
        site=name,
        points=tuple(held(point, shown, same_films=same_films) for point in known.points),
        corrected=None if map_ is None else _reliability(predictions, map_, seed),
        method=None if map_ is None else map_.method,
        same_films=same_films,
        sets=None if known.sets is None else conformal.held(predictions, known.sets),
        watch=known.watch,
        shift=shift_of(shown.films, known.watch, ill) if known.watch is not None and not same_films else None,
    )


def held(point: OperatingPoint, shown: People, *, same_films: bool = False) -> Held:
    """What one operating point does among these people; ``same_films``: it was chosen on some of them."""
    sensitivity = _found(shown.ill, point.threshold)
    classes = {name: _found(scores, point.threshold) for name, scores in shown.by_class.items()}
    spared = int((shown.well < point.threshold).sum())
    verdict = _verdict([*classes.values()] if point.per_class else [sensitivity], point)
    if same_films and verdict in ("kept", "open"):
        verdict = "not tested"
    return Held(
        target=point.target,
        confidence=point.confidence,
        per_class=point.per_class,
        threshold=point.threshold,
        promised=point.sensitivity.limit,
        verdict=verdict,
        sensitivity=sensitivity,
        specificity=Found.of(spared, len(shown.well)),
        classes=dict(sorted(classes.items(), key=lambda item: _order(item[1]))),
        films=len(shown.films),
        below=int((shown.films < point.threshold).sum()),
    )


def _verdict(counts: list[Found], point: OperatingPoint) -> Verdict:
    """The worst of what is to be kept: all disease together, or each for itself."""
    met = [each for each in counts if each.value is not None]
    if not met:
        return "nobody to find"
    # Several diseases are several chances to be called broken by luck alone: each gets its part of α.
    sure = 1 - (1 - point.confidence) / len(met)
    if any(upper_limit(each.hits, each.people, sure) < point.target for each in met):
        return "broken"
    return "kept" if all((each.value or 0.0) >= point.target for each in met) else "open"


def _order(found: Found) -> tuple[float, float]:
    """The worst first, and before it diseases of which there was nobody to find."""
    return (-1.0 if found.value is None else found.value, found.low or 0.0)


def _found(scores: Scores, threshold: float) -> Found:
    return Found.of(int((scores >= threshold).sum()), len(scores))


def _reliability(predictions: Predictions, map_: ProbabilityMap | None, seed: int) -> Reliability | None:
    rows = predictions.scored
    probabilities, labels = predictions.probabilities[rows], predictions.labels[rows]
    if len(np.unique(predictions.sick[labels])) < 2:
        return None
    mapped = probabilities if map_ is None else map_(probabilities)
    return reliability(mapped, labels, persons_of(predictions), predictions.sick, seed=seed)
