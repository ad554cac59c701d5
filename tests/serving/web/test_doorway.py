"""Who holds the door of the page open is put out, and who asks is answered."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from carina.serving.web.doorway import gives_way


@dataclass
class Held:
    address: str
    since: float
    asked: bool = False
    busy: bool = False


@pytest.mark.parametrize(
    ("connections", "first"),
    [
        ([Held("a", 3), Held("a", 2), Held("b", 1)], 1),  # the oldest of the address that has most
        ([Held("a", 1, asked=True), Held("a", 2, asked=True), Held("b", 3)], 2),  # who never asked goes first
        ([Held("a", 1, asked=True, busy=True), Held("b", 2, asked=True)], 1),  # then one that rests
        ([Held("a", 2, asked=True, busy=True), Held("a", 1, asked=True, busy=True)], 1),  # then the oldest
    ],
)
def test_the_least_loss_gives_way(connections: list[Held], first: int) -> None:
    assert gives_way(connections) is connections[first]  # type: ignore[arg-type, comparison-overlap]
