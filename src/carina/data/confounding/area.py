"""The area under the ROC curve of one score, with an interval that counts patients, not films.

Pure numpy, so that a catalogue can be judged where no statistics library is installed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054  # of a two-sided 95 % interval


@dataclass(frozen=True, slots=True)
class Auc:
    """An area with its 95 % interval, and the groups (patients with their copies) behind it.

    ``value``, ``low`` and ``high`` are None where ``why`` says what is missing.
    """

    value: float | None
    low: float | None
    high: float | None
    positives: int  # films
    negatives: int
    groups: tuple[int, int]  # with a positive film, with a negative film
    why: str | None = None


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_], groups: NDArray[np.int64]) -> Auc:
    """The Mann-Whitney area of ``scores`` (N,) for ``positive`` (N,), ties counting one half.

    Its variance over clustered films is that of Obuchowski 1997 (Biometrics 53:567); the interval is
    Newcombe's (2006, Stat Med 25:559, method 5) at the number of films that would have this variance, at
    least one a group, so that a few films told apart without a mistake do not look certain.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    behind = len(np.unique(groups[positive])), len(np.unique(groups[~positive]))
    if not (m and n):
        why = "no film to find" if not m else "no other film to compare with"
        return Auc(None, None, None, m, n, behind, why)
    placements = np.empty(len(scores))
    placements[positive] = _beaten(scores[positive], scores[~positive])
    placements[~positive] = 1 - _beaten(scores[~positive], scores[positive])
    value = float(placements[positive].mean())
    variance = _clustered_variance(placements - value, positive, groups)
    low, high = _score_interval(value, (m, n), behind, variance)
    return Auc(value, low, high, m, n, behind)


def _beaten(mine: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of ``others`` that lies below each of ``mine``; equals count one half."""
    others = np.sort(others)
    below = np.searchsorted(others, mine, "left") + np.searchsorted(others, mine, "right")
    return np.asarray(below / (2 * len(others)), np.float64)


def _clustered_variance(
    gaps: NDArray[np.float64], positive: NDArray[np.bool_], groups: NDArray[np.int64]
) -> float:
    """Obuchowski's variance from each film's placement less the area, (N,)."""
    _, inverse = np.unique(groups, return_inverse=True)
    count = int(inverse.max()) + 1
    sums = [np.bincount(inverse[side], gaps[side], minlength=count) for side in (positive, ~positive)]
    there = [len(np.unique(inverse[side])) for side in (positive, ~positive)]
    m, n = int(positive.sum()), int((~positive).sum())
    if min(*there, count) < 2:
        return float("inf")
    own = [
        factor / (factor - 1) * float((part**2).sum()) / films
        for factor, part, films in zip(there, sums, (m, n), strict=True)
    ]
    shared = count / (count - 1) * float((sums[0] * sums[1]).sum())
    return max(0.0, own[0] / m + own[1] / n + 2 * shared / (m * n))


def _score_interval(
    value: float, films: tuple[int, int], groups: tuple[int, int], variance: float
) -> tuple[float, float]:
    """The areas that ``value`` does not contradict, by bisection on either side of it."""
    plain = _newcombe_variance(value, *films)
    inflation = variance / plain if plain > 0 and variance > 0 else float("inf")
    m, n = (
        float(np.clip(count / inflation, least, count)) for count, least in zip(films, groups, strict=True)
    )

    def fits(theta: float) -> bool:
        return (theta - value) ** 2 <= Z**2 * _newcombe_variance(theta, m, n)

    def edge(outer: float) -> float:
        inner = value
        for _ in range(50):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if fits(middle) else (inner, middle)
        return (inner + outer) / 2

    return edge(0.0), edge(1.0)


def _newcombe_variance(theta: float, m: float, n: float) -> float:
    """Hanley and McNeil's variance with both m - 1 and n - 1 replaced by (m + n) / 2 - 1."""
    half = (m + n) / 2 - 1
    return theta * (1 - theta) * (1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)) / (m * n)
