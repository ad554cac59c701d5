"""Early stopping: a stage ends when its figure has not improved for some epochs, and goes on from its best.

A function of the history, so that a resumed run stops where the other would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

LOWER_IS_BETTER = frozenset({"valid_loss"})


def best_epoch(records: Sequence[Mapping[str, Any]], metric: str) -> int:
    """The place of the best epoch among a stage's records; of equals the earliest."""
    return max(range(len(records)), key=lambda place: (_goodness(records[place], metric), -place))


def is_over(records: Sequence[Mapping[str, Any]], metric: str, patience: int) -> bool:
    """Whether the last ``patience`` epochs of a stage brought nothing. ``patience`` 0: never."""
    return bool(patience and records) and len(records) - 1 - best_epoch(records, metric) >= patience


def _goodness(record: Mapping[str, Any], metric: str) -> float:
    value = record[metric]
    if value is None:  # no film to measure it on
        return -math.inf
    return -value if metric in LOWER_IS_BETTER else value
