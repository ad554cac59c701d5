"""Left and right: a mirrored film is told from a film, and gets exactly the opposite answer."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from carina.images.phantom import HOSPITALS, phantom
from carina.images.prepare import Preparation, prepare
from carina.scoring import sides
from carina.scoring.abstain import sane
from carina.scoring.frontal import without_borders
from carina.taxonomy import SIX_CLASSES

SQUARE = Preparation(size=96, fit="letterbox")


@pytest.fixture(scope="module")
def chests() -> list[NDArray[np.uint8]]:
    """Phantoms of all classes and hospitals, prepared: (96, 96) uint8."""
    made = []
    for seed in range(48):
        look = list(HOSPITALS.values())[seed // 6 % 4]
        film = phantom(SIX_CLASSES[seed % 6], seed=83_000 + seed, look=look, size=224)
        whole = (1 << film.look.bits) - 1
        made.append(
            np.asarray(prepare((film.pixels.astype(np.uint32) * 255 // whole).astype(np.uint8), SQUARE))
        )
    return made


def test_mirrored_films_are_refused_as_such_and_true_ones_are_not(chests: list[NDArray[np.uint8]]) -> None:
    assert [sane(film) for film in chests].count("mirrored") <= 1
    assert [sane(film[:, ::-1]) for film in chests].count("mirrored") >= 0.85 * len(chests)


def test_a_mirrored_film_gets_the_opposite_answer(chests: list[NDArray[np.uint8]]) -> None:
    for film in chests[:6]:
        plain = without_borders(film)
        there, back = sides.margin(plain), sides.margin(np.ascontiguousarray(plain[:, ::-1]))
        assert there == pytest.approx(-back, abs=1e-3)


def test_neither_window_nor_size_changes_the_side(chests: list[NDArray[np.uint8]]) -> None:
    film = chests[0]
    darker = (film.astype(np.float32) ** 1.5 / 255**0.5).astype(np.uint8)
    larger = np.kron(film, np.ones((3, 3), np.uint8))
    assert all(np.sign(sides.margin(each)) == np.sign(sides.margin(film)) for each in (darker, larger))


def test_a_symmetric_picture_has_no_side() -> None:
    half = np.random.default_rng(0).integers(0, 256, (64, 32), dtype=np.uint8)
    assert sides.margin(np.concatenate([half, half[:, ::-1]], axis=1)) == pytest.approx(0, abs=1e-3)
    assert sides.margin(np.full((64, 64), 90, np.uint8)) == pytest.approx(0, abs=1e-3)
