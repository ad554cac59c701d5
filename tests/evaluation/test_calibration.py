"""Probabilities that say too much are put right, and a fit is judged on people it has not seen."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from carina.evaluation.calibration import correct, fit, reliability
from carina.evaluation.metrics import losses
from carina.scoring.probabilities import ProbabilityMap, at_prevalence

SICK = np.array([True, True, False])
Numbers = NDArray[np.float64]
Labels = NDArray[np.int64]


def softmax(logits: Numbers) -> Numbers:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def world(count: int, *, seed: int = 0, bias: Numbers | None = None) -> tuple[Numbers, Labels]:
    """True log-odds, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, 3)) + (np.zeros(3) if bias is None else bias)
    labels = np.array([rng.choice(3, p=row) for row in softmax(logits)])
    return logits, labels


def test_an_overconfident_network_gets_its_temperature_back() -> None:
    logits, labels = world(3000)
    loud = softmax(2.5 * logits)
    found = fit("temperature", loud, labels, SICK)
    assert 1 / found.scale[0] == pytest.approx(2.5, rel=0.1)
    assert losses(found(loud), labels).mean() < losses(loud, labels).mean() - 0.1
    assert (found(loud).argmax(axis=1) == loud.argmax(axis=1)).all()  # one number never re-orders classes


def test_a_bias_of_a_class_takes_a_vector() -> None:
    logits, labels = world(3000, seed=1)
    shifted = softmax(logits + np.array([1.5, 0.0, -1.0]))
    chosen = correct(shifted, labels, np.arange(3000), SICK)
    assert chosen.map.method in ("vector", "isotonic")
    assert chosen.before.off
    assert chosen.after.ece < 0.3 * chosen.before.ece
    assert chosen.after.brier < chosen.before.brier


def test_probabilities_that_are_right_are_left_alone() -> None:
    kept = 0
    for seed in range(10):
        logits, labels = world(400, seed=seed)
        kept += correct(softmax(logits), labels, np.arange(400), SICK).map.method == "none"
    assert kept >= 7


def test_a_rising_curve_needs_a_thousand_people() -> None:
    logits, labels = world(1200, seed=2)
    few = correct(softmax(logits), labels, np.arange(1200) // 2, SICK)
    assert [each.method for each in few.candidates] == ["none", "temperature", "vector"]
    many = correct(softmax(logits), labels, np.arange(1200), SICK)
    assert [each.method for each in many.candidates][-1] == "isotonic"


def test_the_curve_puts_a_bent_score_right_and_keeps_who_is_likelier_among_the_diseased() -> None:
    logits, labels = world(4000, seed=3)
    true = softmax(logits)
    ill = true[:, :2].sum(axis=1)
    bent = np.column_stack([true[:, :2] * (ill**3 / ill)[:, None], 1 - ill**3])
    found = fit("isotonic", bent, labels, SICK)
    mapped = found(bent)
    assert mapped.sum(axis=1) == pytest.approx(1)
    assert np.abs(mapped[:, :2].sum(axis=1) - ill).mean() < 0.03
    assert mapped[:, 0] / mapped[:, 1] == pytest.approx(bent[:, 0] / bent[:, 1])
    assert mapped.min() > 0
    assert mapped.max() < 1


def test_calibration_error_is_held_against_what_chance_gives() -> None:
    within = 0
    for seed in range(40):
        logits, labels = world(300, seed=seed)
        within += not reliability(softmax(logits), labels, np.arange(300), SICK).off
    assert within >= 34  # 38 expected


def test_ten_films_of_one_person_are_no_ten_chances() -> None:
    """60 people with ten alike films each: chance does as much as to 60 films, not as little as to 600."""
    within, alone = 0, []
    for seed in range(40):
        logits, labels = world(60, seed=seed)
        each, who = np.repeat(softmax(logits), 10, axis=0), np.repeat(np.arange(60), 10)
        found = reliability(each, np.repeat(labels, 10), who, SICK)
        alone.append(
            found.ece_by_chance / reliability(softmax(logits), labels, np.arange(60), SICK).ece_by_chance
        )
        within += not found.off
    assert within >= 34  # 38 expected; by films it would be none
    assert np.mean(alone) == pytest.approx(1, abs=0.15)


def test_bins_have_equally_many_films_and_hold_their_share() -> None:
    logits, labels = world(1000, seed=5)
    found = reliability(softmax(logits), labels, np.arange(1000), SICK)
    assert [each.share.films for each in found.bins] == [100] * 10
    assert sum((each.share.low or 0) <= each.said <= (each.share.high or 0) for each in found.bins) >= 8
    flat = reliability(np.tile([0.2, 0.2, 0.6], (50, 1)), labels[:50], np.arange(50), SICK)
    assert len(flat.bins) == 1


def test_another_prevalence_moves_the_odds_and_nothing_else() -> None:
    probabilities = np.array([[0.3, 0.1, 0.6], [0.05, 0.05, 0.9]])
    moved = at_prevalence(probabilities, ~SICK, trained=0.5, prevalence=0.05)
    ill = moved[:, :2].sum(axis=1)
    odds = ill / (1 - ill)
    assert odds == pytest.approx(np.array([0.4 / 0.6, 0.1 / 0.9]) / 19)
    assert moved[:, 0] / moved[:, 1] == pytest.approx(probabilities[:, 0] / probabilities[:, 1])
    assert at_prevalence(probabilities, ~SICK, 0.5, 0.5) == pytest.approx(probabilities)


def test_after_the_shift_probabilities_are_right_where_disease_is_rare() -> None:
    logits, labels = world(20_000, seed=6)
    rng = np.random.default_rng(0)
    rare = rng.random(20_000) < np.where(SICK[labels], 0.05, 1.0)
    trained = float(SICK[labels].mean())
    prevalence = float(SICK[labels[rare]].mean())
    told = at_prevalence(softmax(logits[rare]), ~SICK, trained, prevalence)[:, :2].sum(axis=1)
    untold = softmax(logits[rare])[:, :2].sum(axis=1)
    assert told.mean() == pytest.approx(prevalence, abs=0.01)
    assert untold.mean() > 3 * prevalence


@pytest.mark.parametrize(
    "parts",
    [
        {"method": "temperature", "scale": ()},
        {"method": "temperature", "scale": (-1.0,)},
        {"method": "vector", "scale": (1.0, 1.0, 1.0), "bias": (0.0, float("nan"), 0.0)},
        {"method": "isotonic", "knots": (0.0, 0.5), "values": (0.4, 0.3)},
        {"method": "isotonic", "knots": (0.0, 1.0), "values": (0.4, 1.3)},
        {"method": "none", "scale": (1.0,)},
        {"method": "guess"},
    ],
)
def test_a_map_that_is_none_is_refused(parts: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        ProbabilityMap.model_validate({"healthy": (False, False, True), **parts})
