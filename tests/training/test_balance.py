from __future__ import annotations

import numpy as np
import pytest

from carina.training import dice
from carina.training.balance import MOST, by_source, shares, visits


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ([90, 10], [60, 40]),  # ten films, four times each; the rest from the other source
        ([60, 40], [50, 50]),
        ([1340, 402, 257], [667, 666, 666]),
        ([852, 243, 94, 34], [362, 362, 363, 136]),
        ([7], [7]),
        ([1, 1, 1], [1, 1, 1]),
    ],
)
def test_sources_get_even_parts_and_no_film_is_shown_too_often(counts: list[int], shown: list[int]) -> None:
    found = shares(np.array(counts))
    assert found.sum() == sum(counts)
    assert (found <= MOST * np.array(counts)).all()
    assert sorted(found) == pytest.approx(sorted(shown), abs=1)


def test_each_class_keeps_its_films_and_shows_its_sources_evenly() -> None:
    labels = np.repeat([0, 1], [120, 40])
    sources = np.concatenate([np.repeat([0, 1], [90, 30]), np.repeat([1, 2], [20, 20])])
    shown = by_source(dice.order(0, 0, 160), labels, sources)
    assert np.bincount(labels[shown]).tolist() == [120, 40]
    assert np.bincount(sources[shown][labels[shown] == 0]).tolist() == [60, 60]
    assert np.bincount(shown).max() == 2  # thirty films that fill sixty places
    assert len(set(shown[:80].tolist()) & set(shown[80:].tolist())) > 0  # mixed, not source after source


def test_another_epoch_shows_other_films_of_a_large_source() -> None:
    labels, sources = np.zeros(100, np.int64), np.repeat([0, 1], [80, 20])
    one, two = (set(by_source(dice.order(0, epoch, 100), labels, sources).tolist()) for epoch in (0, 1))
    assert one != two
    assert {*range(80, 100)} <= one & two


def test_one_source_a_class_changes_nothing_but_the_order() -> None:
    labels = np.repeat([0, 1], 30)
    assert sorted(by_source(dice.order(0, 0, 60), labels, labels)) == list(range(60))


def test_a_film_that_comes_again_knows_how_often_it_was_seen() -> None:
    assert visits(np.array([3, 1, 3, 0, 3, 1])).tolist() == [0, 0, 1, 0, 2, 1]
