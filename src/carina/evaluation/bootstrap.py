"""Intervals for figures counted on films that come several to a patient.

Films of one patient resemble each other, so ten films of one patient are not ten witnesses. Every
interval here therefore resamples patients, never films, and is then widened where resampling is
known to be too sure of itself: at shares near 0 and 1 and with few patients. Pure: arrays in,
frozen figures out; knows nothing of classes, bundles or pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

CONFIDENCE = 0.95
DRAWS = 2000
_CELLS = 1_000_000  # numbers held at once while drawing: 8 MB

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of films, its 95 % interval, and how much data stands behind it.

    ``hits`` of ``films`` films (from ``patients`` patients). ``value``, ``low`` and ``high`` are in
    [0, 1]; all three are None where nothing could be measured, and ``why`` then says why.
    """

    value: float | None
    low: float | None
    high: float | None
    hits: int
    films: int
    patients: int
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Area:
    """An area under the ROC curve with its 95 % interval; None with ``why`` where it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    positives: int
    negatives: int
    why: str | None = None


def shares(
    patients: NDArray[np.str_],
    questions: Sequence[tuple[Mask, Mask]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Rate]:
    """How many of the films ``among`` are ``hit``, for each question ``(hit, among)``, with intervals.

    ``patients`` is (N,), one name a film; each mask is (N,). All questions are answered on the same
    resampled patients. The interval joins two: the percentile interval of ``draws`` resamplings of
    the patients (Efron & Tibshirani 1993, ch. 13; clusters as units: Field & Welsh 2007), and the
    exact binomial interval at the effective number of films (see :func:`exact_interval`).
    """
    _, inverse = np.unique(patients, return_inverse=True)
    masks = np.column_stack(
        [column for hit, among in questions for column in (hit & among, among)]
    )  # (N, 2Q)
    counts = np.zeros((int(inverse.max(initial=-1)) + 1, masks.shape[1]), dtype=np.int64)  # (P, 2Q)
    np.add.at(counts, inverse, masks.astype(np.int64))
    drawn = drawn_sums(counts, draws, seed)  # (draws, 2Q)
    return [
        _rate(counts[:, column], counts[:, column + 1], drawn[:, column], drawn[:, column + 1])
        for column in range(0, masks.shape[1], 2)
    ]


def exact_interval(value: float, films: int, patients: int, variance: float) -> tuple[float, float]:
    """The Clopper-Pearson interval of a share counted on clustered films.

    Korn & Graubard 1998 (Survey Methodology 24:193): the binomial limits hold for the *effective*
    number of films ``value (1 - value) / variance``, where ``variance`` is that of the resampled
    share, shrunk for the few patients it was learnt from and never above the number of films. Where
    the share does not vary at all (0 of n, n of n) each patient counts once: 30 of 30 films of 30
    patients show at least 88.4 %, 30 films of 3 patients no more than 29.2 %.
    """
    if variance > 0 and patients > 1:
        tail = (1 + CONFIDENCE) / 2
        shrink = (stats.t.ppf(tail, films - 1) / stats.t.ppf(tail, patients - 1)) ** 2
        effective = min(value * (1 - value) / variance * shrink, float(films))
    else:
        effective = float(patients)
    hits, tail = value * effective, (1 - CONFIDENCE) / 2
    low = float(stats.beta.ppf(tail, hits, effective - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, effective - hits)) if value < 1 else 1.0
    return low, high


def areas(
    patients: NDArray[np.str_],
    questions: Sequence[tuple[NDArray[np.float64], Mask]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Area]:
    """The area under the ROC curve for each question ``(scores, positive)``, with intervals by patient.

    All arrays are (N,). Ties count one half (Mann-Whitney). The percentile interval is joined with
    the score interval of Newcombe 2006 (Stat Med 25:559, method 5) at the effective numbers of
    films, because resampling films that are told apart without a mistake says [1, 1] however few
    they are.
    """
    values = [
        _areas(np.ones((len(patients), 1)), *_ranked(scores, positive)) for scores, positive in questions
    ]
    drawn = drawn_areas(patients, questions, draws=draws, seed=seed)
    return [
        _area(float(value[0]), column, positive, patients)
        for value, column, (_, positive) in zip(values, drawn, questions, strict=True)
    ]


def drawn_areas(
    patients: NDArray[np.str_],
    questions: Sequence[tuple[NDArray[np.float64], Mask]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """The areas on resampled patients, (Q, draws); a draw's patients are the same for all questions.

    NaN where a draw has no positive or no negative film.
    """
    names, inverse = np.unique(patients, return_inverse=True)
    ranked = [_ranked(scores, positive) for scores, positive in questions]
    drawn: list[list[NDArray[np.float64]]] = [[np.zeros(0)] for _ in questions]
    for weights in _patient_weights(len(names), len(patients), draws, seed):
        films = weights[inverse]  # (N, chunk)
        for column, ranks in zip(drawn, ranked, strict=True):
            column.append(_areas(films, *ranks))
    return np.stack([np.concatenate(column) for column in drawn])


def drawn_sums(counts: NDArray[np.int64], draws: int, seed: int) -> NDArray[np.int64]:
    """Column sums (draws, K) over patients drawn with replacement from ``counts`` (P, K).

    Patients with equal counts are exchangeable, so a resampling is one multinomial draw over the
    distinct rows: thousands of patients become a few dozen kinds.
    """
    kinds, frequency = np.unique(counts, axis=0, return_counts=True)
    rng, people = np.random.default_rng(seed), len(counts)
    step = max(1, _CELLS // max(1, len(kinds)))
    sums = [
        rng.multinomial(people, frequency / people, size=min(step, draws - done)) @ kinds
        for done in range(0, draws, step)
        if people
    ]
    return np.concatenate(sums) if sums else np.zeros((draws, counts.shape[1]), dtype=np.int64)


def _rate(
    hits: NDArray[np.int64],
    films: NDArray[np.int64],
    drawn_hits: NDArray[np.int64],
    drawn_films: NDArray[np.int64],
) -> Rate:
    """One share from its counts per patient (P,) and per draw (draws,)."""
    total, people = int(films.sum()), int((films > 0).sum())
    if not total:
        return Rate(None, None, None, 0, 0, 0, "no film to count")
    value = float(hits.sum() / total)
    told = drawn_films > 0
    drawn = drawn_hits[told] / drawn_films[told]
    low, high = exact_interval(value, total, people, float(drawn.var()))
    ends = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Rate(value, min(low, float(ends[0])), max(high, float(ends[1])), int(hits.sum()), total, people)


def _patient_weights(people: int, films: int, draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each patient is drawn, (people, chunk) at a time; chunks keep (films, chunk) small."""
    rng, step = np.random.default_rng(seed), max(1, _CELLS // max(1, films))
    for done in range(0, draws if people else 0, step):
        chunk = min(step, draws - done)
        cells = rng.integers(people, size=(people, chunk)) * chunk + np.arange(chunk)
        yield np.bincount(cells.ravel(), minlength=people * chunk).reshape(people, chunk).astype(np.float64)


Ranks = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _ranked(scores: NDArray[np.float64], positive: Mask) -> Ranks:
    """Positive films; negative films by rising score; and how many of the latter lie below, and not above."""
    above, below = np.flatnonzero(positive), np.flatnonzero(~positive)
    below = below[np.argsort(scores[below], kind="stable")]
    left = np.searchsorted(scores[below], scores[above], side="left")
    right = np.searchsorted(scores[below], scores[above], side="right")
    return above, below, left, right


def _areas(
    weights: NDArray[np.float64],
    above: NDArray[np.int64],
    below: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Weighted Mann-Whitney areas (draws,); ``weights`` is (N, draws). NaN where one side is empty."""
    beaten = np.zeros((len(below) + 1, weights.shape[1]))
    np.cumsum(weights[below], axis=0, out=beaten[1:])
    mine = weights[above]
    wins = np.einsum("pd,pd->d", mine, beaten[left] + beaten[right]) / 2
    pairs = mine.sum(axis=0) * beaten[-1]
    result: NDArray[np.float64] = np.divide(wins, pairs, out=np.full_like(wins, np.nan), where=pairs > 0)
    return result


def _area(value: float, drawn: NDArray[np.float64], positive: Mask, patients: NDArray[np.str_]) -> Area:
    """One area from its resamplings (draws,)."""
    films = int(positive.sum()), int((~positive).sum())
    if not all(films):
        missing = "negative" if films[0] else "positive"
        return Area(None, None, None, *films, why=f"no {missing} film to compare with")
    drawn = drawn[~np.isnan(drawn)]  # a draw without a positive or a negative film says nothing
    people = len(np.unique(patients[positive])), len(np.unique(patients[~positive]))
    low, high = _score_interval(value, films, people, float(drawn.var()) if drawn.size else 0.0)
    if drawn.size:
        ends = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        low, high = min(low, float(ends[0])), max(high, float(ends[1]))
    return Area(value, low, high, *films)


def _score_interval(
    value: float, films: tuple[int, int], patients: tuple[int, int], variance: float
) -> tuple[float, float]:
    """Newcombe's method 5 for an area, at films deflated by the design effect of the resampling."""
    plain = _newcombe_variance(value, *films)
    inflation = variance / plain if plain > 0 and variance > 0 else np.inf
    m, n = (
        float(np.clip(count / inflation, people, count))
        for count, people in zip(films, patients, strict=True)
    )
    z = stats.norm.ppf((1 + CONFIDENCE) / 2)

    def gap(theta: float) -> float:
        return float((theta - value) ** 2 - z**2 * _newcombe_variance(theta, m, n))

    hair = 1e-9
    low = optimize.brentq(gap, 0.0, value - hair) if value > hair else 0.0
    high = optimize.brentq(gap, value + hair, 1.0) if value < 1 - hair else 1.0
    return float(low), float(high)


def _newcombe_variance(theta: float, m: float, n: float) -> float:
    """Hanley & McNeil's variance of an area with both m - 1 and n - 1 replaced by (m + n) / 2 - 1."""
    half = (m + n) / 2 - 1
    return theta * (1 - theta) * (1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)) / (m * n)
