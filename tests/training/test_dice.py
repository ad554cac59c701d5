from __future__ import annotations

import numpy as np

from carina.training import dice


def test_an_epoch_sees_every_film_once_in_an_order_of_its_own() -> None:
    first, second = dice.order(3, 0, 100), dice.order(3, 1, 100)
    assert sorted(first) == sorted(second) == list(range(100))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, dice.order(3, 0, 100))


def test_what_is_drawn_for_a_film_does_not_depend_on_its_neighbours() -> None:
    ids = np.array([5, 2**63, 17], np.uint64)
    together = dice.augmentation(1, 4, ids, 7)
    alone = np.concatenate([dice.augmentation(1, 4, ids[i : i + 1], 7) for i in range(3)])
    assert np.array_equal(together, alone)


def test_the_numbers_are_even_and_differ_by_film_epoch_and_seed() -> None:
    ids = np.arange(20_000).astype(np.uint64)
    drawn = dice.augmentation(0, 0, ids, 4)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.abs(drawn.mean(0) - 0.5).max() < 0.01
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.03
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.03  # neighbouring ids
    for seed, epoch in ((1, 0), (0, 1)):
        assert abs(np.corrcoef(drawn[:, 0], dice.augmentation(seed, epoch, ids, 4)[:, 0])[0, 1]) < 0.03


def test_a_step_has_one_seed_on_each_device() -> None:
    seeds = {dice.step_seed(0, step, rank) for step in range(50) for rank in range(4)}
    assert len(seeds) == 200


def test_a_balanced_epoch_shows_every_class_as_often_and_rare_films_evenly() -> None:
    labels = np.array([0] * 80 + [1] * 15 + [2] * 5)
    which, visit = dice.balanced_order(0, 0, labels)
    assert len(which) == 100
    assert sorted(np.bincount(labels[which]).tolist()) == [33, 33, 34]
    rare = np.bincount(which, minlength=100)[95:]
    assert rare.max() - rare.min() <= 1
    seen = set(zip(which.tolist(), visit.tolist(), strict=True))
    assert len(seen) == 100  # a film's visits are counted
    assert not np.array_equal(which, dice.balanced_order(0, 1, labels)[0])


def test_a_films_copies_and_visits_draw_numbers_of_their_own() -> None:
    ids = np.arange(3).astype(np.uint64)
    count = np.array([0, 1, 2])
    assert dice.copy_of(ids, count)[0] == dice.again(ids, count)[0] == ids[0]
    numbers = {int(n) for k in range(1, 9) for f in (dice.copy_of, dice.again) for n in f(ids, np.full(3, k))}
    assert len(numbers) == 48
