"""Early stopping: a stage ends when its figure has not improved for some epochs, and goes on from its best.

A function of the history, so that a resumed run stops where the other would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

LOWER_IS_BETTER = frozenset({"valid_loss"})
THERE = "_at_prevalence"  # ends the names of figures where classes occur as the recipe's prevalence says


def best_epoch(records: Sequence[Mapping[str, Any]], metric: str) -> int:
    """The place of the best epoch among a stage's records; of equals the earliest."""
    return max(range(len(records)), key=lambda place: (_goodness(records[place], metric), -place))


def shipped(history: Sequence[Mapping[str, Any]], metric: str, patience: int) -> Mapping[str, Any]:
    """The record of the epoch whose weights a run ends with: the last, or with ``patience`` the best of the
    last stage."""
    if not patience:
        return history[-1]
    stage = [each for each in history if each["stage"] == history[-1]["stage"]]
    return stage[best_epoch(stage, metric)]


def is_over(records: Sequence[Mapping[str, Any]], metric: str, patience: int) -> bool:
    """Whether the last ``patience`` epochs of a stage brought nothing. ``patience`` 0: never."""
    return bool(patience and records) and len(records) - 1 - best_epoch(records, metric) >= patience


def watched(record: Mapping[str, Any], metric: str) -> tuple[str, Any]:
    """The figure that the metric means, and its name: at the prevalence, where the recipe has one."""
    there = f"{metric}{THERE}"
    return (there, record[there]) if there in record else (metric, record[metric])


def _goodness(record: Mapping[str, Any], metric: str) -> float:
    _, value = watched(record, metric)
    if value is None:  # no film to measure it on
        return -math.inf
    return -value if metric in LOWER_IS_BETTER else value
