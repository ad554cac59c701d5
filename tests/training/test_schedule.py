from __future__ import annotations

from typing import Any

import pytest

from carina.training.schedule import Plan, one_cycle, spread


def test_the_rate_rises_for_a_quarter_and_falls_to_almost_nothing() -> None:
    rates = [one_cycle(step, 100)[0] for step in range(101)]
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == rates[25] == pytest.approx(1)
    assert rates[100] == pytest.approx(1e-5)
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)


def test_the_momentum_goes_the_other_way_round() -> None:
    assert [round(one_cycle(step, 100)[1], 9) for step in (0, 25, 100)] == [0.95, 0.85, 0.95]


def test_it_is_the_curve_of_fastai() -> None:
    # combined_cos(0.25, lr / 25, lr, lr / 1e5) of fastai.callback.schedule with lr = 1, worked by hand
    known = {0.1: 0.3716845, 0.2: 0.9083281, 0.5: 0.7500025, 0.9: 0.0432367}
    for place, rate in known.items():
        assert one_cycle(int(place * 1000), 1000)[0] == pytest.approx(rate, abs=5e-4)


def test_layer_groups_get_rates_in_even_ratios() -> None:
    assert spread(1e-5, 1e-3, 3) == pytest.approx([1e-5, 1e-4, 1e-3])
    assert spread(1e-5, 1e-3, 1) == [1e-3]


def test_a_stage_of_one_step_has_a_rate() -> None:
    assert one_cycle(0, 1)[0] == pytest.approx(1 / 25)


def test_a_plan_counts_steps_and_work(small: Any) -> None:
    recipe = small.recipe(
        {"size": 32, "epochs": 2, "lr": 1, "frozen": True}, {"size": 64, "epochs": 3, "lr": 1, "batch": 10}
    )
    plan = Plan.of(recipe, train=100, valid=10)
    assert plan.batches == (7, 10)  # 100 films by 16, with a smaller share for each, and by 10
    assert plan.steps == 2 * 7 + 3 * 10
    assert plan.epochs_before(1) == 2
    assert plan.work(0, 0, 0) == 0
    assert plan.work(1, 0, 0) < plan.work(1, 1, 0) < plan.work(1, 1, 5) < plan.work(2, 0, 0)
    assert plan.work(1, 1, 0) - plan.work(1, 0, 0) == pytest.approx((3 * 100 + 10) * 64**2)
