"""Differences between two models on the same films: as wide as the films allow, no wider."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from carina.evaluation.paired import area_difference, paired_interval, share_differences

WORLDS = 200


def difference(first: np.ndarray, second: np.ndarray, patients: np.ndarray, **options: int):
    return share_differences(patients, [("x", first, second, np.ones(len(first), dtype=bool))], **options)[0]


def test_the_difference_is_counted_on_all_films() -> None:
    first, second = np.array([1, 1, 0, 0, 0], bool), np.array([1, 0, 1, 1, 0], bool)
    found = difference(first, second, np.arange(5).astype(str))
    assert (found.first, found.second) == (0.4, 0.6)
    assert found.value == pytest.approx(0.2)
    assert (found.films, found.patients) == (5, 5)
    assert not found.is_more_than_chance


@pytest.mark.parametrize(("second_only", "first_only", "films"), [(1, 0, 44), (9, 2, 60), (20, 25, 300)])
def test_at_tangos_limits_the_score_statistic_is_two_standard_errors(
    second_only: int, first_only: int, films: int
) -> None:
    """With the likelihood of the discordant share maximised by search instead of by his formula."""
    for delta in paired_interval(second_only, first_only, films):
        q = np.linspace(max(0.0, -delta), (1 - delta) / 2, 2_000_001)[1:-1]  # right only with the first
        agree = films - second_only - first_only
        likelihood = second_only * np.log(q + delta) + first_only * np.log(q)
        best = q[np.argmax(likelihood + agree * np.log(1 - 2 * q - delta))]
        variance = films * (2 * best + delta * (1 - delta))
        statistic = (second_only - first_only - films * delta) / np.sqrt(variance)
        assert abs(statistic) == pytest.approx(1.96, abs=2e-3)


def test_two_models_that_agree_on_thirty_films_may_still_differ_by_eleven_in_a_hundred() -> None:
    hit = np.arange(30) < 27
    found = difference(hit, hit, np.arange(30).astype(str))
    edge = 1.96**2 / (30 + 1.96**2)
    assert found.value == 0
    assert (found.low, found.high) == pytest.approx((-edge, edge), abs=1e-3)


def test_pairing_makes_the_interval_narrow_where_the_models_err_on_the_same_films() -> None:
    first = np.arange(400) < 320
    second = np.arange(400) < 336  # right on the same films, and on 16 more
    found = difference(first, second, np.arange(400).astype(str))
    assert found.value == pytest.approx(0.04)
    assert found.is_more_than_chance
    assert found.high - found.low < 0.045  # unpaired it would be 0.11


def test_films_of_one_patient_are_one_witness() -> None:
    first = np.arange(400) % 40 < 20
    second = np.arange(400) % 40 < 28
    apart = difference(first, second, np.arange(400).astype(str))
    together = difference(first, second, (np.arange(400) % 40).astype(str))
    assert together.value == apart.value
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


def test_nothing_to_count_is_unknown_with_its_reason() -> None:
    none = np.zeros(4, dtype=bool)
    found = share_differences(np.arange(4).astype(str), [("Recall", none, none, none)])[0]
    assert (found.value, found.low, found.why) == (None, None, "no film to count")
    assert not found.is_more_than_chance


def scores(count: int, gain: float, seed: int) -> tuple[np.ndarray, ...]:
    """Two scores that share half of their noise, and the second of which tells ``gain`` more."""
    rng = np.random.default_rng(seed)
    positive = np.arange(count) % 3 == 0
    shared = rng.normal(size=count)
    first = positive + shared + rng.normal(size=count)
    second = (1 + gain) * positive + shared + rng.normal(size=count)
    return first, second, positive


def test_the_area_difference_is_that_of_the_two_areas() -> None:
    first, second, positive = scores(300, 1.0, 0)
    found = area_difference("AUC", np.arange(300).astype(str), first, second, positive, draws=400)
    expected = roc_auc_score(positive, second) - roc_auc_score(positive, first)
    assert found.value == pytest.approx(expected)
    assert found.low is not None
    assert 0 < found.low < expected


def test_two_faultless_areas_are_not_taken_for_equal() -> None:
    positive = np.arange(30) < 15
    found = area_difference("AUC", np.arange(30).astype(str), positive * 1.0, positive * 2.0, positive)
    assert found.value == 0
    assert found.low is not None
    assert found.low < -0.1


def test_an_area_without_healthy_films_is_unknown() -> None:
    every = np.ones(6, dtype=bool)
    found = area_difference("AUC", np.arange(6).astype(str), every * 1.0, every * 1.0, every)
    assert (found.value, found.why) == (None, "no negative film to compare with")


@pytest.mark.parametrize("gain", [0.0, 0.06])
def test_the_interval_holds_the_true_difference_as_often_as_it_says(gain: float) -> None:
    """Two hundred worlds of sixty patients with three films each."""
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(60), 3).astype(str)
    held, told = 0, 0
    for world in range(WORLDS):
        ease = np.repeat(rng.normal(size=60), 3) * 0.5
        luck = rng.uniform(size=180)
        chance = 1 / (1 + np.exp(-ease - 1.2))
        first = luck < chance - gain / 2
        second = (luck + rng.normal(scale=0.08, size=180)) < chance + gain / 2
        found = difference(first, second, patients, draws=300, seed=world)
        assert found.low is not None
        assert found.high is not None
        truth = _truth(gain)
        held += found.low <= truth <= found.high
        told += found.is_more_than_chance
    assert 0.93 <= held / WORLDS <= 0.995
    if gain == 0.0:
        assert told / WORLDS <= 0.07
    else:
        assert told / WORLDS > 0.3


def _truth(gain: float) -> float:
    """The difference over 300,000 films of the worlds above."""
    rng = np.random.default_rng(2)
    chance = 1 / (1 + np.exp(-rng.normal(size=300_000) * 0.5 - 1.2))
    luck = rng.uniform(size=300_000)
    first = luck < chance - gain / 2
    second = (luck + rng.normal(scale=0.08, size=300_000)) < chance + gain / 2
    return float(second.mean() - first.mean())
