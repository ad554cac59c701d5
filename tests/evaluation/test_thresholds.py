"""The promise about a threshold is kept in as many worlds as it says: drawn, and counted."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from carina.errors import ClaimError
from carina.evaluation.people import People
from carina.evaluation.thresholds import HAIR, operating_point, points

WORLDS = 2000
SLACK = 3 * (0.05 * 0.95 / WORLDS) ** 0.5  # three standard errors of a share of 5 %


def world(
    ill: NDArray[np.float64], *others: NDArray[np.float64], well: NDArray[np.float64] | None = None
) -> People:
    """People with one film each; further arrays are further diseases."""
    groups = {f"disease {number}": scores for number, scores in enumerate((ill, *others))}
    well = np.linspace(0, 0.5, 50) if well is None else well
    return People(
        np.concatenate(list(groups.values())), groups, well, np.concatenate([*groups.values(), well])
    )


@pytest.mark.parametrize(("target", "count"), [(0.90, 61), (0.95, 100), (0.98, 300)])
def test_over_2000_worlds_the_promise_fails_in_at_most_the_promised_share(target: float, count: int) -> None:
    truth = stats.beta(4, 1.5)  # how the scores of the diseased really lie
    drawn = truth.rvs((WORLDS, count), random_state=7)
    chosen = [operating_point(world(scores), target, 0.95) for scores in drawn]
    kept = truth.sf([point.threshold for point in chosen])
    limits = np.array([point.sensitivity.limit for point in chosen])
    assert (kept < target).mean() <= 0.05 + SLACK
    assert abs((kept < limits).mean() - 0.05) <= SLACK  # the limit said beside it is exact
    assert limits.min() >= target


def test_a_threshold_by_the_measured_share_fails_in_nearly_every_second_world() -> None:
    """What everybody does; the reason for all this."""
    truth, target, count = stats.beta(4, 1.5), 0.95, 100
    drawn = np.sort(truth.rvs((WORLDS, count), random_state=7), axis=1)
    measured = drawn[:, round((1 - target) * count)]  # 95 of 100 are found here
    assert 0.35 < float((truth.sf(measured) < target).mean()) < 0.65


def test_with_several_films_each_person_still_counts_once() -> None:
    """Films of one person resemble each other; the promise is about people all of whose films are found."""
    rng, target, count = np.random.default_rng(3), 0.9, 80
    films = 1 + rng.integers(0, 4, size=(WORLDS, count))
    person = rng.normal(1.0, 1.0, size=(WORLDS, count, 1))
    scores = stats.norm.cdf(person + rng.normal(0, 0.5, size=(WORLDS, count, 4)))
    worst = np.where(np.arange(4) < films[:, :, None], scores, 1.0).min(axis=2)
    many = np.sort(worst.ravel())  # 160,000 people stand for the truth
    failed = 0
    for lowest in worst:
        threshold = operating_point(world(lowest), target, 0.95).threshold
        failed += 1 - np.searchsorted(many, threshold) / many.size < target
    assert failed / WORLDS <= 0.05 + SLACK


def test_per_class_every_disease_keeps_the_target_at_once() -> None:
    rng, target = np.random.default_rng(11), 0.9
    truths = (stats.beta(4, 1.5), stats.beta(3, 1.5), stats.beta(3, 1.5))
    drawn = [
        truth.rvs((WORLDS, count), random_state=rng)
        for truth, count in zip(truths, (120, 61, 61), strict=True)
    ]
    chosen = [
        operating_point(world(*ill), target, 0.95, per_class=True).threshold
        for ill in zip(*drawn, strict=True)
    ]
    short = np.any([truth.sf(chosen) < target for truth in truths], axis=0)
    assert short.mean() <= 0.05 + SLACK


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("digits", [2, 12], ids=["tied", "apart"])
def test_the_limit_of_each_disease_holds_at_the_threshold_chosen_for_all(
    per_class: bool, digits: int
) -> None:
    rng, counts = np.random.default_rng(13), (150, 50)
    truths = (stats.beta(5, 1.2), stats.beta(2.5, 1.5))  # the second is the one that hides behind the first
    drawn = [
        truth.rvs((WORLDS, count), random_state=rng).round(digits)
        for truth, count in zip(truths, counts, strict=True)
    ]
    chosen = [
        operating_point(world(*ill), 0.85, 0.95, per_class=per_class) for ill in zip(*drawn, strict=True)
    ]
    lowest = np.array([point.threshold for point in chosen])
    if digits == 2:  # a score of 0.42 stands for 0.415 to 0.425
        lowest = np.ceil(lowest * 100 - 1e-6) / 100 - 0.005
    true = np.array([truth.sf(lowest) for truth in truths])  # (2, WORLDS)
    limits = np.array([[point.classes[f"disease {number}"].limit for point in chosen] for number in (0, 1)])
    together = np.array([point.sensitivity.limit for point in chosen])
    assert ((true < limits).mean(axis=1) <= 0.05 + SLACK).all()
    assert (np.average(true, axis=0, weights=counts) < together).mean() <= 0.05 + SLACK


def test_the_closed_form_is_the_walk_that_the_docstring_describes() -> None:
    rng = np.random.default_rng(2)
    for count in (59, 75, 200):
        scores = rng.random(count).round(2)
        stopped = 0.0
        for threshold in np.unique(scores):  # upwards, each tested, up to the first failure
            if stats.binom.cdf(int((scores < threshold).sum()), count, 0.05) > 0.05:
                break
            stopped = float(threshold)
        point = operating_point(world(scores), 0.95, 0.95)
        assert stopped - 2 * HAIR <= point.threshold < stopped


def test_what_the_data_cannot_carry_is_refused() -> None:
    scores = np.linspace(0.3, 1, 112)
    with pytest.raises(ClaimError) as refused:
        operating_point(world(scores), 0.99, 0.95)
    assert str(refused.value).startswith(
        "112 positives can show at most 97.4 % at 95 % confidence; 299 without a miss are needed for 99 %"
    )
    with pytest.raises(ClaimError, match=r"disease 1: 20 positives can show at most 86\.1 %"):
        operating_point(world(scores, scores[:20]), 0.95, 0.95, per_class=True)


def test_of_several_targets_those_are_refused_that_cannot_be_carried() -> None:
    carried, refused = points(world(np.linspace(0.3, 1, 112)), (0.99, 0.9, 0.95), 0.95)
    assert [point.target for point in carried] == [0.9, 0.95]
    assert carried[0].threshold > carried[1].threshold
    assert len(refused) == 1
    with pytest.raises(ClaimError, match="299 without a miss"):
        points(world(np.linspace(0.3, 1, 112)), (0.99,), 0.95)


def test_the_worst_disease_comes_first_and_an_unseen_one_before_it() -> None:
    good, bad = np.linspace(0.5, 1, 190), np.linspace(0.1, 1, 10)
    made = world(good, bad, np.zeros(0))
    point = operating_point(made, 0.95, 0.95)
    assert list(point.classes) == ["disease 2", "disease 1", "disease 0"]
    assert point.sensitivity.value is not None
    assert point.sensitivity.value > 0.95
    assert point.classes["disease 1"].value == 0.6  # 98 % of all hide 60 % of this one
    assert point.classes["disease 2"].value is None


def test_specificity_counts_healthy_people_with_an_exact_interval() -> None:
    point = operating_point(world(np.full(100, 0.4), well=np.linspace(0, 0.5, 50)), 0.95, 0.95)
    assert point.specificity.spared == 40
    assert (point.specificity.low, point.specificity.high) == pytest.approx(
        tuple(stats.beta.ppf(q, a, b) for q, a, b in ((0.025, 40, 11), (0.975, 41, 10)))
    )
    assert point.below == 40


def test_a_threshold_leaves_room_for_the_last_digits_of_a_score() -> None:
    scores = np.linspace(0.2, 1, 59)
    point = operating_point(world(scores), 0.95, 0.95)
    assert scores[0] - 2 * HAIR <= point.threshold <= scores[0] - HAIR
    assert point.sensitivity.found == 59
    assert operating_point(world(np.zeros(59)), 0.95, 0.95).threshold == 0.0
