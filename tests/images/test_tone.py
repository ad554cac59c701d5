"""One film curve for all films."""

from __future__ import annotations

import films
import numpy as np
import pytest

from carina.images.prepare import Preparation, prepare
from carina.images.tone import TILES, equalised, locally_equalised


def test_equalising_is_that_of_a_known_histogram() -> None:
    # 4 pixels of 10 (the darkest, no weight), then 2, 1 and 1: (0, 2, 3, 4) / 4 of 255
    film = np.array([[10, 10, 10, 10], [50, 50, 90, 200]], np.uint8)
    assert equalised(film).tolist() == [[0, 0, 0, 0], [128, 128, 191, 255]]


@pytest.mark.parametrize("bits", [8, 16])
def test_an_equalised_film_uses_every_gray_value_alike(bits: int) -> None:
    shares = np.bincount(equalised(films.chest(300, 200, bits=bits)).ravel() // 64, minlength=4) / 60000
    assert shares == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_an_equalised_film_forgets_its_curve(gamma: float) -> None:
    film = films.chest(300, 200, bits=16)
    other = (65535 * (film / 65535) ** gamma).astype(np.uint16)
    plain, equal = Preparation(64), Preparation(64, tone="equalised")
    apart = [np.abs(prepare(film, each).astype(int) - prepare(other, each)).mean() for each in (plain, equal)]
    assert apart[0] > 20
    assert apart[1] < 3


def test_the_order_of_gray_values_stays() -> None:
    film = films.chest(200, 160)
    order = np.argsort(film.ravel(), kind="stable")
    assert (np.diff(equalised(film).ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize("tone", [equalised, locally_equalised])
@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_film_of_one_value_stays_of_one_value(tone, value: int) -> None:  # type: ignore[no-untyped-def]
    assert np.ptp(tone(np.full((40, 50), value, np.uint8))) <= 1


def test_black_bars_of_a_letterbox_have_no_say() -> None:
    square = prepare(films.chest(200, 100), Preparation(64, "letterbox", tone="equalised"))
    assert (square[:, :16] == 0).all()
    assert np.median(square[:, 16:48]) == pytest.approx(128, abs=15)


def test_local_equalising_lifts_a_faint_lung_and_limits_its_noise() -> None:
    film = np.clip(100 + 0.08 * (films.chest(256, 256).astype(float) - 128), 0, 255).astype(np.uint8)
    lifted = locally_equalised(film)
    assert 1.3 < lifted.std() / film.std() < 4
    assert equalised(film).std() > 2 * lifted.std()


def test_local_equalising_has_no_seams_between_tiles() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    steps = np.abs(np.diff(locally_equalised(ramp).astype(int), axis=1))
    assert steps.max() <= 3


@pytest.mark.parametrize("shape", [(TILES - 1, 50), (TILES, TILES), (33, 190)])
def test_local_equalising_takes_any_shape(shape: tuple[int, int]) -> None:
    film = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert locally_equalised(film).shape == shape
