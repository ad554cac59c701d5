"""Films that the bundle knows from its training are counted, each once, for the strongest reason."""

from __future__ import annotations

import pytest

from carina.evaluation.contamination import Contamination, Identity, contamination, warning

TRAIN = [("t1", "g1", "p1"), ("t2", "g2", "p2")]


def identity(rows: list[tuple[str, str, str]]) -> Identity:
    return Identity(*(list(column) for column in zip(*rows, strict=True)))


@pytest.mark.parametrize(
    ("film", "counts"),
    [
        (("v", "gv", "pv"), (0, 0, 0)),
        (("t1", "g1", "p1"), (1, 0, 0)),
        (("v", "g1", "pv"), (0, 1, 0)),
        (("v", "gv", "p2"), (0, 0, 1)),
        (("v", "g1", "p1"), (0, 1, 0)),
    ],
    ids=["new", "the same film", "a near copy", "the same patient", "copy and patient count once"],
)
def test_each_kind_of_acquaintance(film: tuple[str, str, str], counts: tuple[int, int, int]) -> None:
    found = contamination(identity([film]), identity([*TRAIN, film]), {"t1", "t2"})
    assert (found.same_film, found.near_copy, found.same_patient) == counts


def test_a_bundle_without_a_list_of_films_is_unknown_not_clean() -> None:
    found = contamination(identity(TRAIN), identity(TRAIN), frozenset())
    assert found.same_film is None
    assert "nobody can tell" in str(warning(found, "test"))


def test_new_films_give_no_warning() -> None:
    assert warning(Contamination(10, 0, 0, 0), "test") is None


def test_known_films_are_named_with_number_and_cure() -> None:
    text = str(warning(Contamination(100, 7, 2, 0), "test"))
    assert text.startswith("9 of 100 films are not new to this bundle")
    assert "7 films: it was trained on them" in text
    assert "too good" in text


def test_training_films_are_said_to_be_training_films() -> None:
    assert "what the bundle remembers" in str(warning(Contamination(100, 100, 0, 0), "train"))
