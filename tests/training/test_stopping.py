from __future__ import annotations

from typing import Any

import pytest

from carina.training.stopping import best_epoch, is_over, shipped


def records(*values: float | None, metric: str = "accuracy") -> list[dict[str, Any]]:
    return [{metric: value} for value in values]


def test_the_best_epoch_is_the_earliest_of_the_highest() -> None:
    assert best_epoch(records(0.5, 0.9, 0.9, 0.8), "accuracy") == 1
    assert best_epoch(records(0.5, 0.2, 0.3, metric="valid_loss"), "valid_loss") == 1
    assert best_epoch(records(None, 0.1, metric="auc_disease"), "auc_disease") == 1


@pytest.mark.parametrize(
    ("values", "patience", "over"),
    [
        ([], 2, False),
        ([0.5], 1, False),
        ([0.5, 0.5], 1, True),
        ([0.5, 0.4, 0.6], 1, False),
        ([0.5, 0.4, 0.4], 2, True),
        ([0.5, 0.4, 0.4], 3, False),
        ([0.5] * 9, 0, False),
    ],
)
def test_it_is_over_after_so_many_epochs_without_a_gain(
    values: list[float], patience: int, over: bool
) -> None:
    assert is_over(records(*values), "accuracy", patience) is over


def test_the_record_that_ships_is_that_of_the_weights_that_ship() -> None:
    history = [{"stage": 0, "accuracy": 0.9}, *({"stage": 1, "accuracy": each} for each in (0.5, 0.7, 0.6))]
    assert shipped(history, "accuracy", 0)["accuracy"] == 0.6
    assert shipped(history, "accuracy", 2)["accuracy"] == 0.7
