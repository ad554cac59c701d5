"""Prediction sets that hold the truth as often as they say, for each class by itself. Pure.

Class-conditional split conformal prediction with the least-ambiguous score 1 - p(class) (Vovk 2012,
"Conditional validity of inductive conformal predictors", ACML; Sadinle, Lei & Wasserman 2019, J. Am. Stat.
Assoc. 114:223). With n calibration people of a class, the class is kept in a set when its probability is
at least the ⌊(n+1)(1-coverage)⌋-th smallest that these people got; then a new person with the class, drawn
as they were, is covered with a probability of at least ``coverage`` (over the draw of both). The
promise is for each class, not for the mixture, so it does not change with the prevalence; it does
change with the hospital. A person counts once, by the film on which their class looks least
likely, so all films of a person are covered together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carina.evaluation.people import persons_of
from carina.evaluation.planner import lower_limit, upper_limit
from carina.evaluation.predictions import Predictions
from carina.scoring.sets import Sets

HAIR = 1e-6  # what other threads or another batch may move a probability by
COVERAGE = 0.9


@dataclass(frozen=True, slots=True)
class Covered:
    """Of ``people`` with a class, ``hits`` whose sets hold it on every film; exact 95 % interval."""

    hits: int
    people: int
    value: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SetsHeld:
    """What the sets of a site do on these films: coverage by class, the worst first, and their sizes."""

    coverage: float
    classes: dict[str, Covered]
    mean_size: float
    single: float  # share of films whose set is one class
    films: int


def choose(predictions: Predictions, coverage: float = COVERAGE) -> Sets:
    """The floor of each class, from the films that could be scored. ``ValueError`` for no share."""
    if not 0 < coverage < 1:
        raise ValueError(f"a coverage of {coverage} is no share between 0 and 1")
    floors, people = {}, {}
    for index, name in enumerate(predictions.classes):
        own = _lowest(predictions, index)
        place = math.floor((len(own) + 1) * (1 - coverage) + 1e-9)
        floor = float(np.sort(own)[place - 1]) if place >= 1 and len(own) else 0.0
        floors[name], people[name] = max(0.0, floor - HAIR), len(own)
    return Sets(coverage=coverage, floors=floors, people=people)


def held(predictions: Predictions, sets: Sets) -> SetsHeld:
    """What these sets do on films they were not chosen on."""
    classes = {}
    for index, name in enumerate(predictions.classes):
        own = _lowest(predictions, index, inside=sets)
        classes[name] = _covered(int((own > 0).sum()), len(own))
    sizes = [len(sets.of(predictions.classes, row)) for row in predictions.probabilities[predictions.scored]]
    return SetsHeld(
        coverage=sets.coverage,
        classes=dict(
            sorted(classes.items(), key=lambda item: -1.0 if item[1].value is None else item[1].value)
        ),
        mean_size=float(np.mean(sizes)),
        single=float(np.mean([size == 1 for size in sizes])),
        films=len(sizes),
    )


def _lowest(predictions: Predictions, index: int, *, inside: Sets | None = None) -> NDArray[np.float64]:
    """For each person with the class, the lowest probability it got on their films of it, (P,).

    With ``inside``, 1 where the sets of all these films hold the class, else 0.
    """
    rows, who = predictions.scored, persons_of(predictions)
    mine = predictions.labels[rows] == index
    if not mine.any():
        return np.zeros(0)
    shares = predictions.probabilities[rows][mine]
    name = predictions.classes[index]
    values = shares[:, index]
    if inside is not None:
        values = np.array([float(name in inside.of(predictions.classes, row)) for row in shares])
    lowest: dict[int, float] = {}
    for person, value in zip(who[mine].tolist(), values.tolist(), strict=True):
        lowest[person] = min(value, lowest.get(person, math.inf))
    return np.array(list(lowest.values()))


def _covered(hits: int, people: int) -> Covered:
    if not people:
        return Covered(0, 0, None, 0.0, 1.0)
    return Covered(
        hits, people, hits / people, lower_limit(hits, people, 0.975), upper_limit(hits, people, 0.975)
    )
