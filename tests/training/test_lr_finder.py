from __future__ import annotations

import math

import numpy as np
import pytest

from carina.training.lr_finder import HIGHEST, LOWEST, STEPS, smoothed, suggest, sweep

RATES = np.geomspace(LOWEST, HIGHEST, STEPS)


def curve(falls_at: float, *, depth: float = 1.5, diverges_at: float = 1.0, noise: float = 0.0) -> np.ndarray:
    """A loss that starts at 2, falls by ``depth`` around one rate and runs away around another."""
    x = np.log10(RATES)
    fall = depth / (1 + np.exp(-4 * (x - math.log10(falls_at))))
    rise = np.exp(np.clip(6 * (x - math.log10(diverges_at)), -50, 3))
    return 2 - fall + rise + np.random.default_rng(0).normal(0, noise, len(x))


def test_the_sweep_goes_from_low_to_high_in_even_ratios_and_stops_when_the_loss_runs_away() -> None:
    seen: list[float] = []

    def step(rate: float) -> float:
        seen.append(rate)
        return 1.0 if rate < 0.1 else 1000.0

    rates, losses = sweep(step)
    assert seen == pytest.approx(RATES[: len(seen)])
    assert len(rates) == len(losses) == len(seen) == int((RATES < 0.1).sum()) + 1


def test_a_loss_that_is_no_number_ends_the_sweep_and_stands_in_no_curve() -> None:
    _, losses = sweep(lambda rate: 1.0 if rate < 1e-3 else math.nan)
    assert np.isfinite(losses).all()
    assert len(losses) == int((RATES < 1e-3).sum())


def test_the_smoothed_loss_is_the_weighted_mean_of_all_before() -> None:
    losses = np.array([3.0, 1.0, 2.0])
    weights = 0.98 ** np.arange(2, -1, -1)
    assert smoothed(losses)[2] == pytest.approx((weights * losses).sum() / weights.sum())


@pytest.mark.parametrize("falls_at", [1e-4, 1e-3, 1e-2])
def test_suggestions_lie_in_the_fall_and_well_before_the_rise(falls_at: float) -> None:
    found = suggest(0, RATES, curve(falls_at, noise=0.02))
    assert found.by == "valley"
    assert found.steep is not None
    assert found.valley is not None
    assert falls_at / 10 < found.lr == found.valley < 0.3
    assert falls_at / 3 < found.steep < 1
    assert found.rises is not None
    assert found.lr < found.rises
    assert 0.01 < found.minimum < 0.1


def test_a_flat_curve_falls_back_to_a_tenth_of_where_the_loss_rises_and_says_so() -> None:
    found = suggest(0, RATES, curve(1e-3, depth=0.0, noise=0.05))
    assert found.steep is None
    assert found.valley is None
    assert found.by == "rise/10"
    assert found.rises == pytest.approx(10 * found.lr)
    assert 0.3 < found.rises < 5
    assert found.text.startswith("no steep region; ")


def test_a_loss_that_never_moves_is_said_too() -> None:
    found = suggest(0, RATES, np.full(STEPS, 0.7))
    assert found.by == "highest/10"
    assert "the loss does not rise" in found.text


def test_noise_alone_is_no_steep_region() -> None:
    by_chance = [
        suggest(0, RATES, np.random.default_rng(seed).normal(0.2, 0.08, STEPS)).valley for seed in range(30)
    ]
    assert sum(valley is not None for valley in by_chance) <= 3


def test_a_sweep_that_runs_away_at_once_still_answers() -> None:
    found = suggest(0, RATES[:3], np.array([1.0, 2.0, 9.0]))
    assert 0 < found.lr <= RATES[2]


def test_a_finding_is_plain_data() -> None:
    found = suggest(2, RATES, curve(1e-3)).to_dict()
    assert found["stage"] == 2
    assert len(found["rates"]) == len(found["losses"]) == len(found["smoothed"]) == STEPS
