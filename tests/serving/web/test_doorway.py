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
    found = gives_way(connections, now=100.0)  # type: ignore[arg-type]
    assert [connections.index(each) for each in found] == first  # type: ignore[arg-type]


def test_a_flood_is_put_out_in_parts() -> None:
    flood = [Held("a", number) for number in range(400)]
    for now in (399.0, 399.0 + 1000):  # all of a sudden, and long after
        sudden = [Held(each.address, now - each.since / 1000) for each in flood] if now == 399.0 else flood
        found = gives_way(sudden, now)  # type: ignore[arg-type]
        assert found == sorted(sudden, key=lambda each: each.since)[:40]  # type: ignore[comparison-overlap]


def test_who_is_about_to_ask_is_spared_by_the_next_of_a_flood_of_bodies() -> None:
    """Of 1,000 slow bodies each newcomer put out the one who had come before it, with its request unread."""
    flood = [Held("a", 1 + number / 1000, asked=True, busy=True) for number in range(399)]
    asking = Held("a", 9.999)
    assert gives_way([*flood, asking], now=10.0) == [flood[0]]  # type: ignore[list-item, comparison-overlap]
    assert gives_way([*flood, asking], now=20.0) == [asking]  # type: ignore[list-item, comparison-overlap]
