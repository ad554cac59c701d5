"""Pictures that are no radiograph at all, and true films gone wrong.

For teaching and testing the check that refuses them: photograph-like scenes, textures, noise, text,
ultrasound fans, blank plates; and films that were inverted, turned, mirrored, cut or half lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from carina.records import Pixels

Picture = NDArray[np.uint8]
Rng = np.random.Generator

_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz     ,.0123456789"))


def _noise(rng: Rng, size: int) -> Picture:
    level = rng.uniform(30, 220)
    return rng.normal(level, rng.uniform(5, 70), (size, size)).clip(0, 255).astype(np.uint8)


def _clouds(rng: Rng, size: int) -> Picture:
    """Noise whose power falls with frequency, as that of photographs does."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.normal(size=(size, size))) / frequency ** rng.uniform(0.6, 2.2)
    return _stretched(np.fft.irfft2(spectrum, (size, size)))


def _scene(rng: Rng, size: int) -> Picture:
    """Sky, ground and things standing about."""
    horizon = rng.uniform(0.2, 0.8) * size
    picture = Image.new("L", (size, size), int(rng.integers(0, 256)))
    pen = ImageDraw.Draw(picture)
    pen.rectangle([0, horizon, size, size], fill=int(rng.integers(0, 256)))
    for _ in range(rng.integers(2, 25)):
        x, y = rng.uniform(-0.2, 1, 2) * size
        w, h = rng.uniform(0.03, 0.5, 2) * size
        draw = (pen.rectangle, pen.ellipse)[rng.integers(2)]
        draw([x, y, x + w, y + h], fill=int(rng.integers(0, 256)))
    for _ in range(rng.integers(0, 6)):
        pen.line([*(rng.uniform(0, size, 4))], fill=int(rng.integers(0, 256)), width=int(rng.integers(1, 9)))
    soft = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 4)))
    return (
        (np.asarray(soft, np.float32) + rng.normal(0, rng.uniform(0, 12), (size, size)))
        .clip(0, 255)
        .astype(np.uint8)
    )


def _face(rng: Rng, size: int) -> Picture:
    """A portrait in rough strokes: symmetrical about the middle, as a chest is."""
    back, skin, dark = (int(v) for v in rng.integers(0, 256, 3))
    picture = Image.new("L", (size, size), back)
    pen = ImageDraw.Draw(picture)
    s = size
    pen.ellipse([0.05 * s, 0.75 * s, 0.95 * s, 1.5 * s], fill=dark)
    pen.ellipse([0.25 * s, 0.15 * s, 0.75 * s, 0.85 * s], fill=skin)
    pen.pieslice([0.22 * s, 0.08 * s, 0.78 * s, 0.6 * s], 180, 360, fill=dark)
    for x in (0.4, 0.6):
        pen.ellipse([(x - 0.05) * s, 0.43 * s, (x + 0.05) * s, 0.48 * s], fill=255 - skin)
    pen.ellipse([0.42 * s, 0.66 * s, 0.58 * s, 0.71 * s], fill=dark)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4))), np.uint8)


def _text(rng: Rng, size: int) -> Picture:
    dark = rng.random() < 0.3
    picture = Image.new("L", (size, size), 15 if dark else 245)
    pen, height = ImageDraw.Draw(picture), int(rng.integers(9, 40))
    font = ImageFont.load_default(height)
    for y in range(4, size, round(height * 1.4)):
        pen.text((6, y), "".join(rng.choice(_LETTERS, 60)), fill=235 if dark else 20, font=font)
    return np.asarray(picture, np.uint8)


def _letter(rng: Rng, size: int) -> Picture:
    """One or two large letters or digits, soft or sharp, bright or dark."""
    dark = rng.random() < 0.6
    picture = Image.new("L", (size, size), 0 if dark else 255)
    font = ImageFont.load_default(int(size * rng.uniform(0.5, 1.1)))
    text = "".join(rng.choice(_LETTERS[:26] if rng.random() < 0.4 else _LETTERS[-10:], rng.integers(1, 3)))
    at = (size * rng.uniform(0.3, 0.7), size * rng.uniform(0.35, 0.65))
    ImageDraw.Draw(picture).text(at, text, fill=255 if dark else 0, font=font, anchor="mm")
    coarse = int(rng.integers(8, 64))
    return np.asarray(picture.resize((coarse, coarse)).resize((size, size)), np.uint8)


def _waves(rng: Rng, size: int) -> Picture:
    """Stripes, checks, rings."""
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    angle, count = rng.uniform(0, np.pi), rng.uniform(1, 25)
    along = x * np.cos(angle) + y * np.sin(angle)
    ways = (
        np.sin(2 * np.pi * count * along),
        np.sign(np.sin(2 * np.pi * count * x) * np.sin(2 * np.pi * count * y)),
        np.sin(2 * np.pi * count * np.hypot(x - rng.uniform(0, 1), y - rng.uniform(0, 1))),
        along,
    )
    return _stretched(ways[rng.integers(4)] + rng.normal(0, rng.uniform(0, 0.3), x.shape))


def _ultrasound(rng: Rng, size: int) -> Picture:
    y, x = np.mgrid[0 : 1 : size * 1j, -0.5 : 0.5 : size * 1j]
    fan = (np.abs(np.arctan2(x, y + 0.05)) < rng.uniform(0.5, 0.8)) & (
        np.hypot(x, y) < rng.uniform(0.8, 0.98)
    )
    grain = Image.fromarray(_clouds(rng, size)).filter(ImageFilter.GaussianBlur(1))
    return _gray(np.asarray(grain, np.float32) * fan * rng.gamma(2, 0.5, (size, size)))


def _blank(rng: Rng, size: int) -> Picture:
    level = float(rng.choice([0, 255, int(rng.integers(0, 256))]))
    return _gray(level + rng.normal(0, rng.uniform(0, 3), (size, size)))


def _shapes(rng: Rng, size: int) -> Picture:
    """A few large soft blobs, sometimes two beside each other, as lungs are."""
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    total = np.zeros((size, size))
    for _ in range(rng.integers(1, 9)):
        (cx, cy), (a, b) = rng.uniform(0, 1, 2), rng.uniform(0.04, 0.35, 2)
        total += rng.choice([-1, 1]) * np.exp(-(((x - cx) / a) ** 2) - ((y - cy) / b) ** 2)
    return _stretched(total + rng.normal(0, rng.uniform(0, 0.1), total.shape))


KINDS: dict[str, Callable[[Rng, int], Picture]] = {
    "noise": _noise,
    "clouds": _clouds,
    "scene": _scene,
    "face": _face,
    "text": _text,
    "letter": _letter,
    "waves": _waves,
    "ultrasound": _ultrasound,
    "blank": _blank,
    "shapes": _shapes,
}


def scene(kind: str, *, seed: int, size: int = 256) -> Picture:
    """One picture of ``kind`` (``KINDS``), (size, size) uint8. ``ValueError`` for others."""
    if kind not in KINDS:
        raise ValueError(f"no picture of {kind!r}; there are {', '.join(KINDS)}")
    return KINDS[kind](np.random.default_rng((seed, sorted(KINDS).index(kind))), size)


SPOILT: dict[str, Callable[[Pixels], Pixels]] = {
    "inverted": lambda film: np.iinfo(film.dtype).max - film,
    "turned left": lambda film: np.rot90(film, 1),
    "turned right": lambda film: np.rot90(film, 3),
    "upside down": lambda film: np.rot90(film, 2),
    "mirrored": lambda film: film[:, ::-1],
    "lower half lost": lambda film: _lost(film, np.s_[film.shape[0] // 2 :, :]),
    "upper half lost": lambda film: _lost(film, np.s_[: film.shape[0] // 2, :]),
    "left half lost": lambda film: _lost(film, np.s_[:, : film.shape[1] // 2]),
    "right half lost": lambda film: _lost(film, np.s_[:, film.shape[1] // 2 :]),
    "a corner only": lambda film: film[: film.shape[0] * 2 // 5, : film.shape[1] * 2 // 5],
    "belly only": lambda film: film[film.shape[0] * 2 // 3 :, :],
}


def spoilt(film: Pixels, how: str) -> Pixels:
    """A film gone wrong, one of ``SPOILT``; (H, W) of the same dtype. ``ValueError`` for others."""
    if how not in SPOILT:
        raise ValueError(f"no film goes wrong as {how!r}; there are {', '.join(SPOILT)}")
    return cast("Pixels", np.ascontiguousarray(SPOILT[how](film)))


def _lost(film: Pixels, part: tuple[slice, slice]) -> Pixels:
    left = film.copy()
    left[part] = 0
    return left


def _gray(values: NDArray[np.floating]) -> Picture:
    return values.clip(0, 255).astype(np.uint8)


def _stretched(values: NDArray[np.floating]) -> Picture:
    low, high = float(values.min()), float(values.max())
    return ((values - low) / max(high - low, 1e-9) * 255).astype(np.uint8)
