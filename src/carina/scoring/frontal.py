"""Does this look like one whole, upright frontal chest film? A small check that no bundle is part of.

Knows prepared squares and 1,000 gray values, no network and no header. The square is freed of black
borders, reduced to 32 × 32 and equalised, so that size, aspect, window and gamma do not count; its
coordinates on principal axes go through one small layer (multinomial, one hidden layer), which says
what it is most like: a frontal chest film, an inverted, turned or upside-down one, a part of one, or
something else. Beside it stands the distance from all chest films it was taught with (probabilistic
principal components: Tipping & Bishop 1999, J. R. Stat. Soc. B 61:611), for what nobody thought of.
Whether left and right are exchanged is asked apart (:mod:`carina.scoring.sides`).
The numbers lie in ``frontal.npz``; ``benchmarks/frontal.py`` makes and measures them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.records import Looks
from carina.scoring.sides import mirrored, ranks

SIDE = 32
LIKE = ("frontal", "inverted", "turned", "upside_down", "part", "other")
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_BORDER = 0.06  # of the brightest gray: darker rows and columns at the edges are no film
_FLAT = 4.0  # gray levels: a row or column of hardly more shows nothing
_ALIKE = 0.25  # gray levels, on average: lines that differ by less are one line twice
_MOST_BORDER = 0.15  # of a side is taken away at each edge; a half that was lost stays lost


def looks(prepared: NDArray[np.uint8]) -> Looks:
    """What a prepared film (S, S) uint8 looks like."""
    lines = [_quantiles(each, 0.02, 0.95, 0.98) for each in (prepared, prepared.T)]
    film = _within(prepared, [bright for _, bright, _ in lines])
    x = equalised(film)
    numbers = _numbers()
    return Looks(
        like=tuple(_like(x, numbers).tolist()),
        strange=_strange(x, numbers),
        mirrored=mirrored(film),
        spread=float(film.std()),
        grays=_grays(film),
        lost=max(_lost(low, high) for low, _, high in lines),
        stuck=max(_stuck(film), _stuck(film.T)),
    )


def _grays(film: NDArray[np.uint8]) -> tuple[float, float, float]:
    """The share of black pixels (up to 2), that of white ones (from 253), and the bits of its grays."""
    shares = np.bincount(film.ravel(), minlength=256) / film.size
    met = shares[shares > 0]
    return float(shares[:3].sum()), float(shares[253:].sum()), float(-(met * np.log2(met)).sum())


def _lost(low: Doubles, high: Doubles) -> float:
    """How much wider the band without any picture is at one edge than at the opposite one, of the side;
    from the dark and the bright of each line."""
    met = np.flatnonzero(high - low > _FLAT)
    return abs(float(met[0]) + float(met[-1]) - (len(low) - 1)) / len(low) if len(met) else 0.0


def _stuck(film: NDArray[np.uint8]) -> float:
    """The longest run of rows that hardly differ from the one before, of the height: what a decoder or a
    detector repeats in place of what was lost, or fills with one gray."""
    rows = film.astype(np.int16)
    alike = np.abs(np.diff(rows, axis=0)).mean(axis=1) < _ALIKE
    ends = np.flatnonzero(~np.concatenate([[False], alike, [False]]))
    return float(np.diff(ends).max(initial=1) - 1) / len(rows)


def without_borders(prepared: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The film without black bars at its edges, as far as they are bars and no lost half."""
    return _within(prepared, [_quantiles(each, 0.95)[0] for each in (prepared, prepared.T)])


def _within(prepared: NDArray[np.uint8], bright: Sequence[Doubles]) -> NDArray[np.uint8]:
    """The part of a film whose rows and columns are ``bright`` enough."""
    dark = _BORDER * float(_quantiles(prepared.reshape(1, -1), 0.99)[0][0])
    rows, columns = (_kept(each > dark) for each in bright)
    return prepared[rows, columns]


def _quantiles(lines: NDArray[np.uint8], *shares: float) -> list[Doubles]:
    """Those of each of the N lines (N, M), as ``np.quantile`` has them, at a third of its time: (N,) each."""
    ordered = np.sort(lines, axis=1, kind="stable")  # bytes are sorted by their digits
    found = []
    for share in shares:
        place = share * (lines.shape[1] - 1)
        low = int(place)
        one, next_ = (ordered[:, at].astype(np.float64) for at in (low, min(low + 1, lines.shape[1] - 1)))
        found.append(one + (place - low) * (next_ - one))
    return found


def equalised(film: NDArray[np.uint8]) -> Floats:
    """(H, W) uint8 → (1024,): 32 × 32 ranks of the gray values, from -1 (darkest) to 1."""
    height, width = film.shape
    across = film.astype(np.float32) @ _hamming(width).T  # (H, 32)
    small = (_hamming(height) @ across).astype(np.float32)
    for axis in (0, 1):  # a little smoother: grain is no shape
        beside = _shifted(small, 1, axis) + _shifted(small, -1, axis)
        small = (0.5 * small + 0.25 * beside).astype(np.float32)
    return ranks(small.ravel())


@cache
def _hamming(side: int) -> Floats:
    """(32, side): the weights of a reduction by a Hamming window, as Pillow's ``Resampling.HAMMING``.

    Pillow itself is not asked, because one film is scored before Pillow would be there.
    """
    scale = side / SIDE
    wide = max(scale, 1.0)
    centres = (np.arange(SIDE) + 0.5) * scale
    away = np.abs((np.arange(side) + 0.5 - centres[:, np.newaxis]) / wide)
    window = np.sinc(away) * (0.54 + 0.46 * np.cos(np.pi * away)) * (away < 1)
    weights: Floats = (window / window.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


def _shifted(values: Floats, by: int, axis: int) -> Floats:
    """The neighbours' values; at the edge the value itself."""
    places = np.clip(np.arange(SIDE) + by, 0, SIDE - 1)
    neighbours: Floats = np.take(values, places, axis=axis)
    return neighbours


def _kept(bright: NDArray[np.bool_]) -> slice:
    count, most = len(bright), int(_MOST_BORDER * len(bright))
    found = np.flatnonzero(bright)
    if not len(found):
        return slice(0, count)
    return slice(min(int(found[0]), most), max(int(found[-1]) + 1, count - most))


def _like(x: Floats, numbers: Mapping[str, Floats]) -> Floats:
    inner = (x - numbers["mean"]) @ numbers["axes"].T  # (K,)
    left = np.linalg.norm(x - numbers["mean"] - inner @ numbers["axes"])
    features = np.append(inner, left).astype(np.float32) / numbers["scale"]
    hidden = np.maximum(features @ numbers["w1"] + numbers["b1"], 0)
    logits = hidden @ numbers["w2"] + numbers["b2"]
    powers = np.exp(logits - logits.max())
    shares: Floats = (powers / powers.sum()).astype(np.float32)
    return shares


def _strange(x: Floats, numbers: Mapping[str, Floats]) -> float:
    """-2 log density, but for a constant: Σ z²/λ + rest²/σ²."""
    centred = x - numbers["chest_mean"]
    z = centred @ numbers["chest_axes"].T
    rest = float(centred @ centred - z @ z)
    return float((z * z / numbers["chest_variance"]).sum() + rest / float(numbers["chest_noise"][0]))


@cache
def _numbers() -> Mapping[str, Floats]:
    with files("carina.scoring").joinpath("frontal.npz").open("rb") as file:
        stored: Any = np.load(file, allow_pickle=False)
        return {name: stored[name].astype(np.float32) for name in stored.files}
