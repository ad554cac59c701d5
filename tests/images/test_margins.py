"""Black margins: cut off as a viewer would, never more than that."""

from __future__ import annotations

import films
import numpy as np
import pytest

from carina.images.margins import within_margins
from carina.images.prepare import Preparation, load, prepare
from carina.images.read import read
from carina.images.resize import resize


def whole(pixels: np.ndarray) -> tuple[float, float, float, float]:
    return 0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0])


def framed(margin: tuple[int, int, int, int], shape: tuple[int, int] = (500, 400)) -> np.ndarray:
    """A film of gray with noisy black margins (left, top, right, bottom) in pixels."""
    rng = np.random.default_rng(0)
    film = rng.integers(0, 12, shape).astype(np.uint8)
    left, top, right, bottom = margin
    film[top : shape[0] - bottom, left : shape[1] - right] = 90
    return film


@pytest.mark.parametrize("margin", [(40, 0, 0, 0), (0, 60, 0, 30), (30, 30, 30, 30), (0, 0, 100, 0)])
def test_black_margins_go_and_the_film_stays(margin: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = margin
    found = within_margins(framed(margin), (0, 0, 400, 500))
    assert found == pytest.approx((left, top, 400 - right, 500 - bottom), abs=5)
    inner = framed(margin)[round(found[1]) : round(found[3]), round(found[0]) : round(found[2])]
    assert inner.min() == 90


def test_a_film_without_margins_is_left_alone() -> None:
    film = films.chest(300, 240)
    film[:, :] = np.maximum(film, 30)
    assert within_margins(film, whole(film)) == whole(film)


def test_letters_in_a_margin_do_not_save_it() -> None:
    film = framed((0, 60, 0, 0))
    film[20:40, 10:40] = 255  # 7.5 % of a row
    assert within_margins(film, whole(film))[1] == pytest.approx(60, abs=5)


@pytest.mark.parametrize("film", [np.zeros((300, 200), np.uint8), framed((150, 10, 150, 10))])
def test_where_hardly_anything_would_be_left_nothing_is_cut(film: np.ndarray) -> None:
    left, _, right, _ = within_margins(film, whole(film))
    assert (left, right) == (0, film.shape[1])


def test_sixteen_bits_have_the_same_margins() -> None:
    film = framed((30, 50, 20, 0))
    assert within_margins(film.astype(np.uint16) * 257, whole(film)) == within_margins(film, whole(film))


@pytest.mark.parametrize("share", [0.25, 0.5, 2.0])
def test_a_resized_copy_loses_the_same_share(share: float) -> None:
    film = framed((36, 52, 20, 40), (800, 640))
    copy = resize(film, round(640 * share), round(800 * share))
    assert np.array(within_margins(copy, whole(copy))) / share == pytest.approx(
        np.array(within_margins(film, whole(film))), abs=4
    )


def test_a_margin_per_class_is_gone_from_the_square() -> None:
    """The same film with and without a black frame gives nearly the same square."""
    film = np.maximum(films.chest(400, 320), 30)
    with_frame = np.pad(film, 50)
    apart = [
        np.abs(prepare(film, each).astype(int) - prepare(with_frame, each)).mean()
        for each in (Preparation(64), Preparation(64, trim=True))
    ]
    assert apart[0] > 30
    assert apart[1] < 4


def test_what_was_cut_off_does_not_shine_through_at_the_edge() -> None:
    bright = np.full((400, 400), 255, np.uint8)
    bright[40:360, 40:360] = 100
    assert (prepare(bright, Preparation(64, crop=0.1)) == 100).all()


@pytest.mark.parametrize("size", [64, 224])
def test_scaled_decoding_finds_the_same_margins(size: int) -> None:
    film = np.pad(np.maximum(films.chest(1100, 900), 30), ((120, 0), (90, 90)))
    content = films.encode(film, "JPEG", quality=90)
    asked = Preparation(size, trim=True, crop=0.05)
    fast, _ = load(content, asked)
    exact = prepare(read(content).pixels, asked)
    assert np.abs(fast.astype(int) - exact).mean() < 1
