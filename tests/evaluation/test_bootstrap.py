"""Intervals by patient: never narrower than the data behind them allow."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from carina.data.confounding import area as confounding_area
from carina.evaluation.bootstrap import (
    _newcombe_variance,
    _score_interval,
    areas,
    exact_interval,
    shares,
)


def alone(count: int) -> np.ndarray:
    return np.arange(count).astype(str)


def one_share(hit: np.ndarray, patients: np.ndarray, **options: int):
    return shares(patients, [(hit, np.ones(len(hit), dtype=bool))], **options)[0]


def test_a_share_is_counted_exactly() -> None:
    hit = np.array([True, True, True, False])
    rate = one_share(hit, np.array(["a", "a", "b", "c"]))
    assert (rate.value, rate.hits, rate.films, rate.patients) == (0.75, 3, 4, 3)


def test_an_interval_of_independent_films_is_close_to_the_binomial_one() -> None:
    hit = np.arange(1000) < 900
    rate = one_share(hit, alone(1000))
    low, high = stats.binomtest(900, 1000).proportion_ci(method="exact")
    assert rate.low == pytest.approx(low, abs=0.003)
    assert rate.high == pytest.approx(high, abs=0.003)


def test_ten_alike_films_of_a_patient_count_as_one() -> None:
    hit = np.repeat(np.arange(40) < 32, 10)  # 80 %, whole patients right or wrong
    by_patient = one_share(hit, np.repeat(alone(40), 10))
    by_film = one_share(hit, alone(400))
    widths = [rate.high - rate.low for rate in (by_patient, by_film)]
    assert by_patient.value == by_film.value == 0.8
    assert widths[0] > 2.5 * widths[1]  # √10 is 3.2


@pytest.mark.parametrize(
    ("films", "patients", "low"),
    [
        (30, 30, 0.8843),  # Clopper-Pearson: 0.025 ** (1 / 30)
        (30, 3, 0.2924),  # 0.025 ** (1 / 3)
        (299, 299, 0.9877),
    ],
)
def test_a_faultless_share_still_has_a_lower_limit(films: int, patients: int, low: float) -> None:
    names = np.repeat(alone(patients), -(-films // patients))[:films]
    rate = one_share(np.ones(films, dtype=bool), names)
    assert (rate.value, rate.high) == (1.0, 1.0)
    assert rate.low == pytest.approx(low, abs=1e-4)


def test_a_share_of_nothing_found_has_an_upper_limit() -> None:
    rate = one_share(np.zeros(30, dtype=bool), alone(30))
    assert (rate.value, rate.low) == (0.0, 0.0)
    assert rate.high == pytest.approx(1 - 0.8843, abs=1e-4)


def test_a_share_of_no_films_is_unknown_and_says_so() -> None:
    rate = shares(alone(3), [(np.ones(3, dtype=bool), np.zeros(3, dtype=bool))])[0]
    assert (rate.value, rate.low, rate.high, rate.films) == (None, None, None, 0)
    assert rate.why


def test_one_patient_says_next_to_nothing() -> None:
    rate = one_share(np.ones(50, dtype=bool), np.full(50, "a"))
    assert rate.low == pytest.approx(0.025)


def test_the_effective_number_is_never_above_the_number_of_films() -> None:
    exact = stats.binomtest(90, 100).proportion_ci(method="exact")
    assert exact_interval(0.9, 100, 100, variance=1e-9) == pytest.approx(tuple(exact))


@pytest.mark.parametrize(
    ("hits", "films", "low", "high"),
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_with_one_film_a_patient_the_limits_are_those_of_newcombe_1998(
    hits: int, films: int, low: float, high: float
) -> None:
    """The worked examples of Newcombe 1998 (Stat Med 17:857), table I, method 5: Clopper-Pearson."""
    share = hits / films
    limits = exact_interval(share, films, films, share * (1 - share) / films)
    assert limits == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("share", "films", "patients", "variance", "low", "high"),
    [
        (0.9, 120, 40, 0.0012, 0.8063321857230219, 0.9582379160882183),
        (4 / 183, 183, 15, 0.0002, 0.0026109091279322, 0.0772059636465032),
    ],
)
def test_clustered_limits_are_those_of_the_beta_method_of_r_survey(
    share: float, films: int, patients: int, variance: float, low: float, high: float
) -> None:
    """``svyciprop(method = "beta")`` of R's survey: n_eff = p (1 - p) / v · (t(n - 1) / t(df))².

    The numbers are those of statsmodels 0.15, ``proportion_confint(p * n_eff, n_eff, method="beta")``.
    """
    assert exact_interval(share, films, patients, variance) == pytest.approx((low, high), rel=1e-9)


def test_the_same_seed_gives_the_same_interval_and_another_seed_nearly_so() -> None:
    hit = np.random.default_rng(1).random(300) < 0.7
    patients = np.repeat(alone(100), 3)
    first, again, other = (one_share(hit, patients, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.low == pytest.approx(other.low, abs=0.02)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for world in range(300):
        rng = np.random.default_rng(world)
        skill = rng.beta(9.5, 0.5, 40)  # patients differ: mean 95 %
        hit = rng.random(120) < np.repeat(skill, 3)
        rate = one_share(hit, np.repeat(alone(40), 3), draws=400, seed=world)
        covered += rate.low <= 0.95 <= rate.high
    assert covered / 300 >= 0.93


def test_an_area_is_the_one_of_scikit_learn_ties_included() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 8, 200) / 8, rng.random(200) < 0.3
    area = areas(alone(200), [(scores, positive)])[0]
    assert area.value == pytest.approx(roc_auc_score(positive, scores))
    assert area.low < area.value < area.high


def test_an_area_computed_by_hand() -> None:
    scores, positive = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    assert areas(alone(4), [(scores, positive)])[0].value == 0.75


def test_a_faultless_area_of_few_films_is_not_certain() -> None:
    few, many = (
        areas(alone(2 * n), [(np.arange(2 * n, dtype=float), np.arange(2 * n) >= n)])[0] for n in (10, 500)
    )
    assert (few.value, many.value) == (1.0, 1.0)
    assert few.low < 0.85
    assert 0.99 < many.low < 1.0


def test_the_score_interval_of_an_area_is_newcombes() -> None:
    """The worked example of R's SingleCaseES, whose ``NAP`` is this area with method 5 of Newcombe 2006.

    Its documentation gives 0.9166667 (0.5973406 to 0.9860176), found by a root-finder good to four digits.
    """
    before, after = np.array([20, 20, 26, 25, 22, 23.0]), np.array([28, 25, 24, 27, 30, 30, 29.0])
    scores, positive = np.concatenate([before, after]), np.arange(13) >= 6
    area = areas(alone(13), [(scores, positive)])[0]
    assert area.value == pytest.approx(0.9166667, abs=1e-7)
    variance = _newcombe_variance(area.value, 7, 6)
    low, high = _score_interval(area.value, (7, 6), (7, 6), variance)
    assert (low, high) == pytest.approx((0.5973406, 0.9860176), abs=1e-4)
    without_scipy = confounding_area._score_interval(area.value, (7, 6), (7, 6), variance)
    assert without_scipy == pytest.approx((low, high), abs=1e-8)


def test_an_area_by_patient_is_wider_than_by_film() -> None:
    rng = np.random.default_rng(3)
    positive = np.repeat(np.arange(60) < 30, 5)
    scores = np.repeat(rng.normal(size=60), 5) + positive * 1.5
    wide, narrow = (areas(names, [(scores, positive)])[0] for names in (np.repeat(alone(60), 5), alone(300)))
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


@pytest.mark.parametrize(("positive", "missing"), [(True, "negative"), (False, "positive")])
def test_an_area_needs_both_sides(positive: bool, missing: str) -> None:
    area = areas(alone(5), [(np.arange(5.0), np.full(5, positive))])[0]
    assert area.value is None
    assert missing in str(area.why)


def test_the_weighted_areas_of_the_draws_are_those_of_repeated_films() -> None:
    from carina.evaluation.bootstrap import _areas, _ranked

    rng = np.random.default_rng(5)
    scores, positive, weights = rng.integers(0, 5, 40) / 5, rng.random(40) < 0.5, rng.integers(0, 4, 40)
    repeated = np.repeat(np.arange(40), weights)
    expected = roc_auc_score(positive[repeated], scores[repeated])
    given = _areas(weights[:, np.newaxis].astype(float), *_ranked(scores, positive))
    assert given[0] == pytest.approx(expected)
