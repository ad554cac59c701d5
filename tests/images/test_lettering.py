"""Letters in the margins: found, masked; what lies within the lungs is never touched."""

from __future__ import annotations

import numpy as np
import pytest

from carina.images.lettering import CANVAS, letter_mask, outside_ellipse, without_letters
from carina.images.phantom import phantom
from carina.images.prepare import Preparation, prepare
from tests.data.shortcuts import letters


def film(size: int = CANVAS) -> np.ndarray:
    return prepare(phantom("Normal", seed=3, patient=1, size=size).pixels, Preparation(size, "stretch"))


def lettered(corner: str = "left") -> np.ndarray:
    return letters(film().astype(np.float32), "AP", corner).astype(np.uint8)


@pytest.mark.parametrize("corner", ["left", "right"])
def test_letters_in_a_corner_are_found_and_nothing_else(corner: str) -> None:
    added = lettered(corner) > film()
    mask = letter_mask(lettered(corner))
    assert mask[added].mean() > 0.95
    assert mask.mean() < 0.03
    assert letter_mask(film()).sum() == 0


@pytest.mark.parametrize("size", [64, 192, 320])
def test_masked_letters_are_gone_at_every_size(size: int) -> None:
    masked = Preparation(size, "stretch", mask_letters=True)
    left, before = prepare(lettered(), masked).astype(int), prepare(film(), masked)
    plain = prepare(lettered(), Preparation(size, "stretch")).astype(int)
    corner = (slice(0, size // 6), slice(0, size // 5))
    assert np.abs(plain - before)[corner].max() > 100
    assert np.abs(left - before)[corner].max() < 40
    assert np.abs(left - before)[corner].mean() < 6


def test_a_nodule_or_a_clip_within_the_lungs_stays() -> None:
    shown = film()
    shown[90:96, 55:61] = 255
    assert not outside_ellipse(CANVAS)[90:96, 55:61].any()
    assert np.array_equal(without_letters(shown, shown, (0, 0, CANVAS, CANVAS)), shown)


def test_sixteen_bits_keep_their_depth() -> None:
    deep = lettered().astype(np.uint16) * 257
    masked = without_letters(deep, deep, (0, 0, CANVAS, CANVAS))
    assert masked.dtype == np.uint16
    assert masked[:24, :40].max() < 0.7 * 65535


def test_an_edge_of_the_film_is_no_letter() -> None:
    edge = np.full((CANVAS, CANVAS), 40, np.uint8)
    edge[:, :6] = 255
    edge[:9] = 255
    assert letter_mask(edge).sum() == 0
