from __future__ import annotations

import numpy as np
import pytest
import torch

from carina.training import dice
from carina.training.augment import affine_grid, augment
from carina.training.recipe import Augment

NONE = {"rotate": 0, "scale": 0, "shift": 0, "brightness": 0, "contrast": 0}


def films(count: int = 4, size: int = 64) -> torch.Tensor:
    """A bright disc to the right of the middle, on gray. (N, 1, S, S) float32"""
    y, x = np.mgrid[:size, :size]
    disc = np.hypot(y - size * 0.5, x - size * 0.7) < size * 0.1
    return (
        torch.from_numpy(np.where(disc, 200.0, 100.0).astype(np.float32)).expand(count, 1, size, size).clone()
    )


def ids(count: int = 4) -> np.ndarray:
    return np.arange(count).astype(np.uint64)


def centre(film: torch.Tensor) -> tuple[float, float]:
    """Of the bright disc, as shares of the height and the width."""
    y, x = np.nonzero(film[0].numpy() > 150)
    return y.mean() / film.shape[1], x.mean() / film.shape[2]


def test_no_augmentation_leaves_every_bit() -> None:
    pixels = films()
    assert torch.equal(augment(pixels, ids(), Augment(**NONE), seed=0, epoch=0), pixels)


def test_the_same_film_in_the_same_epoch_is_changed_the_same_way_in_any_batch() -> None:
    together = augment(films(4), ids(4), Augment(), seed=0, epoch=2)
    alone = augment(films(1), ids(4)[2:3], Augment(), seed=0, epoch=2)
    assert torch.equal(together[2], alone[0])


def test_another_epoch_changes_it_another_way() -> None:
    one, two = (augment(films(1), ids(1), Augment(), seed=0, epoch=epoch) for epoch in (0, 1))
    assert not torch.equal(one, two)


def test_the_heart_stays_on_its_side_unless_flips_are_asked_for() -> None:
    changed = augment(films(100), ids(100), Augment(), seed=0, epoch=0)
    assert all(centre(film)[1] > 0.55 for film in changed)
    flipped = augment(films(100), ids(100), Augment(**NONE | {"flip": True}), seed=0, epoch=0)
    assert 30 < sum(centre(film)[1] < 0.45 for film in flipped) < 70


@pytest.mark.parametrize(("limit", "value"), [("shift", 0.1), ("rotate", 10), ("scale", 0.2)])
def test_the_disc_moves_no_further_than_the_limit(limit: str, value: float) -> None:
    changed = augment(films(200), ids(200), Augment(**NONE | {limit: value}), seed=0, epoch=0)
    moved = np.array([np.subtract(centre(film), (0.5, 0.7)) for film in changed])
    most = {"shift": 0.1, "rotate": 0.2 * np.sin(np.deg2rad(10)), "scale": 0.2 * 0.25}[limit]
    assert np.abs(moved).max() == pytest.approx(most, abs=0.015)


def test_a_film_becomes_wider_or_higher_and_keeps_its_area() -> None:
    disc = films(200, size=128)
    changed = augment(disc, ids(200), Augment(**NONE | {"aspect": 0.4}), seed=0, epoch=0)[:, 0].numpy() > 150
    widths, heights = (changed.any(axis).sum(1) for axis in (1, 2))
    ratio = widths / heights
    assert 1.25 < ratio.max() <= 1.5
    assert 1 / 1.5 <= ratio.min() < 1 / 1.25
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.04)
    assert changed.sum((1, 2)) == pytest.approx((disc[0, 0].numpy() > 150).sum(), rel=0.06)


def test_resolution_is_lost_film_by_film_and_by_every_other_one() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (200, 1, 64, 64)).astype(np.float32))
    changed = augment(noise, ids(200), Augment(**NONE | {"resolution": 0.6}), seed=0, epoch=0)
    kept = (changed.std((1, 2, 3)) / noise.std((1, 2, 3))).numpy()
    untouched = (changed == noise).flatten(1).all(1).numpy()
    assert 80 < untouched.sum() < 120
    assert kept[~untouched].min() < 0.35  # 26 of 64 pixels left
    assert kept[~untouched].std() > 0.05  # each its own share
    assert changed.mean() == pytest.approx(float(noise.mean()), abs=0.5)
    alone = augment(noise[7:8], ids(200)[7:8], Augment(**NONE | {"resolution": 0.6}), seed=0, epoch=0)
    assert torch.equal(alone[0], changed[7])


def test_what_a_film_lost_before_the_option_existed_is_what_it_loses_now() -> None:
    """The numbers that are drawn for a film leave the first seven as they were."""
    seven, more = (dice.augmentation(0, 3, ids(), count) for count in (7, 15))
    assert np.array_equal(seven, more[:, :7])


def test_brightness_and_contrast_stay_within_their_limits_and_the_gray_range() -> None:
    bright = augment(films(200), ids(200), Augment(**NONE | {"brightness": 0.1}), seed=0, epoch=0)
    corner = bright[:, 0, 0, 0] - 100
    assert 20 < corner.max() <= 25.5
    assert -25.5 <= corner.min() < -20
    hard = augment(
        films(200), ids(200), Augment(**NONE | {"contrast": 0.5, "brightness": 1}), seed=0, epoch=0
    )
    assert hard.min() >= 0
    assert hard.max() <= 255


def test_gamma_bends_the_tone_between_its_limits_and_leaves_black_and_white() -> None:
    pixels = torch.tensor([0.0, 127.5, 255.0]).reshape(1, 1, 1, 3).expand(300, 1, 3, 3).clone()
    bent = augment(pixels, ids(300), Augment(**NONE | {"gamma": 0.5}), seed=0, epoch=0)
    assert bent[:, 0, :, 0].max() == 0
    assert bent[:, 0, :, 2].min() == 255
    middle = bent[:, 0, 0, 1] / 255
    assert middle.min() == pytest.approx(0.5**1.5, abs=0.005)
    assert middle.max() == pytest.approx(0.5 ** (1 / 1.5), abs=0.005)


def test_erasing_takes_a_rectangle_from_its_share_of_the_films() -> None:
    pixels = films(400)
    changed = augment(pixels, ids(400), Augment(**NONE | {"erase": 0.4}), seed=0, epoch=0) != pixels
    share = changed.flatten(1).float().mean(1)
    assert 0.33 < (share > 0).float().mean() < 0.47
    assert share.max() <= 0.21
    one = changed[int(share.argmax()), 0]
    rows, columns = one.any(1).sum(), one.any(0).sum()
    assert int(one.sum()) == int(rows * columns)


@pytest.mark.parametrize("size", [5, 64])
def test_the_grid_is_torchs(size: int) -> None:
    theta = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0))
    torchs = torch.nn.functional.affine_grid(theta, [7, 1, size, size], align_corners=False)
    torch.testing.assert_close(affine_grid(theta, size), torchs, atol=1e-6, rtol=1e-6)
