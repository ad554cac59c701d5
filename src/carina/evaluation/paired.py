"""Two models asked about the same films: is the difference more than chance?

Both are right or wrong on the *same* films, so their figures go up and down together, and the interval
of the difference is not that of either figure. Patients are drawn, never films, and a draw holds the
answers of both models. Pure: arrays in, frozen differences out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from carina.evaluation.bootstrap import CONFIDENCE, DRAWS, Mask, areas, drawn_areas, drawn_sums

_Z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
_HAIR = 1e-9


@dataclass(frozen=True, slots=True)
class Difference:
    """The second model's figure less the first's, with its 95 % interval.

    ``first``, ``second``, ``value``, ``low`` and ``high`` are None where nothing could be measured, and
    ``why`` then says why. ``films`` are those the figure is counted on, of ``patients`` patients.
    """

    name: str
    first: float | None
    second: float | None
    value: float | None
    low: float | None
    high: float | None
    films: int
    patients: int
    why: str | None = None

    @property
    def is_more_than_chance(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def share_differences(
    patients: NDArray[np.str_],
    questions: Sequence[tuple[str, Mask, Mask, Mask]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Difference]:
    """The difference of two shares counted on the same films, for each ``(name, first, second, among)``.

    All arrays are (N,); ``first`` and ``second`` say which films either model has right. The interval
    joins the percentile interval of resampled patients with Tango's score interval for paired shares
    (Statistics in Medicine 1998, 17:891) at the effective number of films: two models that agree on each
    of 30 films may still differ by 11 %.
    """
    _, inverse = np.unique(patients, return_inverse=True)
    masks = np.column_stack(
        [each for _, one, other, among in questions for each in (among & other & ~one, among & one & ~other)]
        + [among for _, _, _, among in questions]
    )  # (N, 3Q): right only in the second, right only in the first; all
    counts = np.zeros((int(inverse.max(initial=-1)) + 1, masks.shape[1]), dtype=np.int64)  # (P, 3Q)
    np.add.at(counts, inverse, masks.astype(np.int64))
    drawn = drawn_sums(counts, draws, seed)  # (draws, 3Q)
    found = []
    for number, (name, one, other, among) in enumerate(questions):
        columns = [2 * number, 2 * number + 1, 2 * len(questions) + number]
        shares = [float(each[among].mean()) if among.any() else None for each in (one, other)]
        found.append(_share_difference(name, shares, counts[:, columns], drawn[:, columns]))
    return found


def area_difference(
    name: str,
    patients: NDArray[np.str_],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    positive: Mask,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """The difference of two areas under the ROC curve on the same films; all arrays are (N,).

    The interval joins the percentile interval of resampled patients with the one that is recovered from
    the two areas' own intervals and the correlation of their resamplings (Zou & Donner, Statistics in
    Medicine 2008, 27:1693), because models without a mistake never vary when they are resampled.
    """
    one, other = areas(patients, [(first, positive), (second, positive)], draws=draws, seed=seed)
    people = len(np.unique(patients))
    if one.value is None or other.value is None:
        return Difference(name, None, None, None, None, None, len(patients), people, one.why or other.why)
    drawn = drawn_areas(patients, [(first, positive), (second, positive)], draws=draws, seed=seed)
    drawn = drawn[:, ~np.isnan(drawn).any(axis=0)]  # (2, draws)
    value = other.value - one.value
    low, high = _recovered(
        (other.value, float(other.low or 0), float(other.high or 1)),
        (one.value, float(one.low or 0), float(one.high or 1)),
        _correlation(drawn),
    )
    if drawn.size:
        ends = np.quantile(drawn[1] - drawn[0], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        low, high = min(low, float(ends[0])), max(high, float(ends[1]))
    return Difference(name, one.value, other.value, value, low, high, len(patients), people)


def paired_interval(second_only: float, first_only: float, films: float) -> tuple[float, float]:
    """Tango's score interval of ``(second_only - first_only) / films``; numbers of films, whole or not."""
    value = (second_only - first_only) / films

    def gap(delta: float) -> float:
        b = 2 * films * delta - second_only - first_only - (second_only - first_only) * delta
        c = -first_only * delta * (1 - delta)
        q = (np.sqrt(max(b * b - 8 * films * c, 0.0)) - b) / (4 * films)
        variance = films * (2 * q + delta * (1 - delta))
        return float((second_only - first_only - films * delta) ** 2 - _Z**2 * variance)

    low = optimize.brentq(gap, -1 + _HAIR, value - _HAIR) if value > -1 + 2 * _HAIR else -1.0
    high = optimize.brentq(gap, value + _HAIR, 1 - _HAIR) if value < 1 - 2 * _HAIR else 1.0
    return float(low), float(high)


def _share_difference(
    name: str, shares: Sequence[float | None], counts: NDArray[np.int64], drawn: NDArray[np.int64]
) -> Difference:
    """One difference from its counts per patient (P, 3) and per draw (draws, 3)."""
    second_only, first_only, films = map(int, counts.sum(axis=0))
    people = int((counts[:, 2] > 0).sum())
    if not films:
        return Difference(name, None, None, None, None, None, 0, 0, "no film to count")
    value = (second_only - first_only) / films
    told = drawn[drawn[:, 2] > 0]
    each = (told[:, 0] - told[:, 1]) / told[:, 2]
    effective = _effective(second_only, first_only, films, people, float(each.var()))
    low, high = paired_interval(second_only * effective, first_only * effective, films * effective)
    ends = np.quantile(each, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    first, second = shares
    return Difference(
        name, first, second, value, min(low, float(ends[0])), max(high, float(ends[1])), films, people
    )


def _effective(second_only: int, first_only: int, films: int, people: int, variance: float) -> float:
    """The share of the films that count as independent: between one a patient and all of them.

    The variance that independent films would have over that of the resampled difference, shrunk for the
    few patients it was learnt from as Korn & Graubard (1998) do for one share.
    """
    plain = (second_only + first_only - (second_only - first_only) ** 2 / films) / films**2
    if variance <= 0 or plain <= 0 or people < 2:
        return people / films
    tail = (1 + CONFIDENCE) / 2
    shrink = (stats.t.ppf(tail, films - 1) / stats.t.ppf(tail, people - 1)) ** 2
    return float(min(1.0, plain / variance * shrink))


def _recovered(
    second: tuple[float, float, float], first: tuple[float, float, float], correlation: float
) -> tuple[float, float]:
    """The interval of second less first from (value, low, high) of both."""
    value = second[0] - first[0]
    down = second[0] - second[1], first[2] - first[0]
    up = second[2] - second[0], first[0] - first[1]
    low, high = (
        np.sqrt(max(0.0, a * a + b * b - 2 * correlation * a * b)) for a, b in (down, up)
    )  # how far the interval reaches to either side
    return max(-1.0, float(value - low)), min(1.0, float(value + high))


def _correlation(drawn: NDArray[np.float64]) -> float:
    """Between two rows of draws; 0 where either never varies, which is the careful answer."""
    if drawn.shape[1] < 2 or (drawn.std(axis=1) <= 0).any():
        return 0.0
    one, other = drawn - drawn.mean(axis=1, keepdims=True)
    return float(np.clip(one @ other / np.sqrt((one @ one) * (other @ other)), 0.0, 1.0))
