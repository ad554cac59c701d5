"""Figures are never rounded into certainty."""

from __future__ import annotations

import pytest

from carina.evaluation.bootstrap import Area, Rate
from carina.evaluation.wording import area_value, counted, interval, listed, percent, with_interval


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.9423, "94.2 %"),
        (0.99996, "99.9 %"),
        (1.0, "100.0 %"),
        (0.00001, "0.1 %"),
        (0.0, "0.0 %"),
        (None, "–"),
    ],
)
def test_a_share_is_100_percent_only_when_nothing_is_missing(value: float | None, said: str) -> None:
    assert percent(value) == said


def test_an_area_is_1_only_when_it_is() -> None:
    assert area_value(Area(0.99991, 0.99, 1.0, 5, 5)) == "0.999"
    assert area_value(Area(1.0, 0.9, 1.0, 5, 5)) == "1.000"


def test_an_interval_stands_beside_its_figure() -> None:
    assert with_interval(Rate(0.9, 0.85, 0.9312, 90, 100, 60)) == "90.0 % (95 % interval 85.0–93.1 %)"
    assert interval(Area(0.9, 0.85, 0.93, 5, 5)) == "0.850–0.930"


def test_an_unknown_figure_says_why() -> None:
    assert with_interval(Rate(None, None, None, 0, 0, 0, "no film of TB")) == "not measured: no film of TB"


def test_words_follow_their_number() -> None:
    assert [counted(1, "film"), counted(1024, "film"), counted(6, "class")] == [
        "1 film",
        "1,024 films",
        "6 classes",
    ]
    assert [listed(["A"]), listed(["A", "B"]), listed(["A", "B", "C"])] == ["A", "A and B", "A, B and C"]
