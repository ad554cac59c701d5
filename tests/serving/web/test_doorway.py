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
        ([Held("a", 3), Held("a", 2), Held("b", 1)], [1, 0]),  # the oldest of the address that has most
        (
            [Held("a", 1, asked=True), Held("a", 2, asked=True), Held("b", 3)],
            [2],
        ),  # who never asked goes first
        ([Held("a", 1, asked=True, busy=True), Held("b", 2, asked=True)], [1]),  # then one that rests
        ([Held("a", 2, asked=True, busy=True), Held("a", 1, asked=True, busy=True)], [1]),  # then the oldest
        ([], []),
    ],
)
def test_the_least_loss_gives_way(connections: list[Held], first: list[int]) -> None:
    found = gives_way(connections)  # type: ignore[arg-type]
    assert [connections.index(each) for each in found] == first  # type: ignore[arg-type]


def test_a_flood_is_put_out_in_parts() -> None:
    flood = [Held("a", number) for number in range(400)]
    assert gives_way(flood) == flood[:40]  # type: ignore[arg-type, comparison-overlap]
