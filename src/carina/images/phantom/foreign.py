"""Drawn radiographs and slices that are not frontal chest films: hand, foot, skull, pelvis, lateral chest …

For teaching and testing the check that refuses them. They are coarse: what tells them from a chest is
the large shapes, and those are there. Nothing here stands for a real patient.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Film = NDArray[np.uint8]
Rng = np.random.Generator
Point = tuple[float, float]

_DRAW = 192  # pixels a side while drawing


class _Plate:
    """A square plate on which thicknesses add up; coordinates run from 0 to 1."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.sum = np.zeros((_DRAW, _DRAW), np.float32)

    def add(self, level: float, draw: Callable[[ImageDraw.ImageDraw], None], blur: float = 1.0) -> None:
        layer = Image.new("L", (_DRAW, _DRAW))
        draw(ImageDraw.Draw(layer))
        soft = layer.filter(ImageFilter.GaussianBlur(blur))
        self.sum += level * np.asarray(soft, np.float32) / 255

    def ellipse(self, at: Point, radii: Point, level: float, blur: float = 1.5) -> None:
        (x, y), (a, b) = at, radii
        box = [(x - a) * _DRAW, (y - b) * _DRAW, (x + a) * _DRAW, (y + b) * _DRAW]
        self.add(level, lambda pen: pen.ellipse(box, fill=255), blur)

    def ring(self, at: Point, radii: Point, width: float, level: float) -> None:
        (x, y), (a, b) = at, radii
        box = [(x - a) * _DRAW, (y - b) * _DRAW, (x + a) * _DRAW, (y + b) * _DRAW]
        self.add(level, lambda pen: pen.ellipse(box, outline=255, width=max(1, round(width * _DRAW))), 1.0)

    def shape(self, points: list[Point], level: float, blur: float = 1.5) -> None:
        corners = [(x * _DRAW, y * _DRAW) for x, y in points]
        self.add(level, lambda pen: pen.polygon(corners, fill=255), blur)

    def bone(self, start: Point, end: Point, width: float, level: float = 0.5) -> None:
        """A long bone: a shaft with a dense cortex, thick at both ends."""
        line = [(start[0] * _DRAW, start[1] * _DRAW), (end[0] * _DRAW, end[1] * _DRAW)]
        whole = max(2, round(width * _DRAW))
        self.add(level, lambda pen: pen.line(line, fill=255, width=whole), 0.8)
        self.add(-0.35 * level, lambda pen: pen.line(line, fill=255, width=max(1, whole // 2)), 0.8)
        for end_point in (start, end):
            self.ellipse(end_point, (0.72 * width, 0.62 * width), 0.45 * level, 1.0)

    def film(self, size: int) -> Film:
        """Exposed: background, grain, contrast by lot; (size, size) uint8."""
        rng = self.rng
        gray = 1 - np.exp(-rng.uniform(1.0, 2.4) * np.maximum(self.sum, 0))
        gray = gray / max(float(gray.max()), 1e-3)
        y, x = np.mgrid[-1 : 1 : _DRAW * 1j, -1 : 1 : _DRAW * 1j]
        gray += rng.uniform(0, 0.12) + 0.06 * (rng.normal() * x + rng.normal() * y)
        gray = np.clip(gray, 0, 1) ** rng.uniform(0.6, 1.5) + rng.normal(
            0, rng.uniform(0.005, 0.03), gray.shape
        )
        pixels = (np.clip(gray, 0, 1) * 255).astype(np.uint8)
        turned = Image.fromarray(pixels).rotate(rng.uniform(-25, 25), Image.Resampling.BILINEAR, fillcolor=0)
        return np.asarray(turned.resize((size, size), Image.Resampling.BILINEAR), np.uint8)


def _hand(plate: _Plate, rng: Rng) -> None:
    wide = rng.uniform(0.8, 1.15)
    plate.ellipse((0.5, 0.62), (0.2 * wide, 0.17), 0.35, 4)
    plate.shape([(0.4, 0.7), (0.6, 0.7), (0.58, 1.0), (0.42, 1.0)], 0.35, 3)
    for finger in range(4):
        x = 0.5 + wide * (finger - 1.5) * 0.09
        tip = (0.5 + wide * (finger - 1.5) * rng.uniform(0.12, 0.2), 0.12 + 0.05 * abs(finger - 1.2))
        joints = [(x + (tip[0] - x) * t, 0.66 + (tip[1] - 0.66) * t) for t in (0, 0.4, 0.68, 0.86, 1)]
        for start, end in pairwise(joints):
            plate.bone(start, end, 0.035)
        plate.shape(
            [(x - 0.045, 0.55), (x + 0.045, 0.55), (tip[0] + 0.035, tip[1]), (tip[0] - 0.035, tip[1])], 0.3, 3
        )
    plate.bone((0.4, 0.72), (0.27, 0.55), 0.04)
    plate.bone((0.27, 0.55), (0.2, 0.42), 0.035)
    for _ in range(8):
        plate.ellipse((rng.uniform(0.42, 0.58), rng.uniform(0.7, 0.77)), (0.03, 0.025), 0.4)
    plate.bone((0.45, 0.8), (0.44, 1.02), 0.06)
    plate.bone((0.55, 0.8), (0.56, 1.02), 0.05)


def _foot(plate: _Plate, rng: Rng) -> None:
    plate.shape([(0.3, 0.1), (0.68, 0.14), (0.66, 0.6), (0.6, 0.98), (0.4, 0.98), (0.34, 0.6)], 0.35, 6)
    for toe in range(5):
        x = 0.36 + 0.07 * toe
        plate.bone((x + 0.03, 0.52), (x, 0.27 + 0.025 * toe), 0.045 if toe else 0.06)
        plate.bone((x, 0.25 + 0.025 * toe), (x - 0.01, 0.13 + 0.03 * toe), 0.035)
    for _ in range(7):
        plate.ellipse((rng.uniform(0.4, 0.6), rng.uniform(0.55, 0.72)), (0.06, 0.05), 0.35)
    plate.ellipse((0.5, 0.85), (0.09, 0.13), 0.6)


def _skull(plate: _Plate, rng: Rng) -> None:
    tall = rng.uniform(0.3, 0.38)
    plate.ellipse((0.5, 0.42), (0.3, tall), 0.5, 2)
    plate.ring((0.5, 0.42), (0.3, tall), 0.03, 0.7)
    plate.shape([(0.34, 0.6), (0.66, 0.6), (0.6, 0.92), (0.4, 0.92)], 0.45, 3)
    for side in (-1, 1):
        plate.ellipse((0.5 + side * 0.12, 0.52), (0.075, 0.065), -0.4)
        plate.ring((0.5 + side * 0.12, 0.52), (0.075, 0.065), 0.012, 0.4)
    plate.shape([(0.46, 0.55), (0.54, 0.55), (0.56, 0.7), (0.44, 0.7)], -0.3)
    for tooth in range(9):
        plate.ellipse((0.4 + 0.025 * tooth, 0.78), (0.01, 0.03), 0.6, 0.6)


def _skull_side(plate: _Plate, rng: Rng) -> None:
    side = rng.choice([-1, 1])
    plate.ellipse((0.5 - 0.05 * side, 0.4), (0.34, 0.3), 0.45, 2)
    plate.ring((0.5 - 0.05 * side, 0.4), (0.34, 0.3), 0.025, 0.7)
    plate.shape(
        [
            (0.5 + 0.08 * side, 0.55),
            (0.5 + 0.32 * side, 0.5),
            (0.5 + 0.28 * side, 0.85),
            (0.5 + 0.1 * side, 0.8),
        ],
        0.5,
        3,
    )
    for level in range(5):
        plate.ellipse((0.5 - 0.12 * side, 0.7 + 0.065 * level), (0.07, 0.028), 0.5)


def _pelvis(plate: _Plate, rng: Rng) -> None:
    plate.ellipse((0.5, 0.5), (0.46, 0.5), 0.5, 6)
    for side in (-1, 1):
        x = 0.5 + side * rng.uniform(0.19, 0.22)
        plate.shape(
            [(0.5 + side * 0.08, 0.4), (0.5 + side * 0.4, 0.18), (0.5 + side * 0.42, 0.36), (x, 0.58)], 0.4, 3
        )
        plate.ring((x + side * 0.04, 0.62), (0.085, 0.085), 0.02, 0.5)
        plate.ellipse((x + side * 0.05, 0.62), (0.065, 0.065), 0.5)
        plate.bone((x + side * 0.07, 0.64), (x + side * 0.15, 0.74), 0.07)
        plate.bone((x + side * 0.15, 0.72), (x + side * 0.12, 1.05), 0.09)
        plate.ring((0.5 + side * 0.1, 0.78), (0.075, 0.06), 0.025, 0.5)
    plate.shape([(0.42, 0.3), (0.58, 0.3), (0.52, 0.58), (0.48, 0.58)], 0.45)
    for level in range(4):
        plate.ellipse((0.5, 0.03 + 0.08 * level), (0.075, 0.032), 0.5)


def _knee(plate: _Plate, rng: Rng) -> None:
    plate.shape([(0.3, 0), (0.7, 0), (0.68, 0.5), (0.64, 1), (0.36, 1), (0.32, 0.5)], 0.4, 6)
    plate.bone((0.5, -0.05), (0.5, 0.4), 0.15, 0.6)
    plate.ellipse((0.43, 0.43), (0.1, 0.08), 0.5)
    plate.ellipse((0.57, 0.43), (0.1, 0.08), 0.5)
    plate.shape([(0.33, 0.53), (0.67, 0.53), (0.58, 0.68), (0.43, 0.68)], 0.5)
    plate.bone((0.5, 0.58), (0.49, 1.05), 0.13, 0.6)
    plate.bone((0.66, 0.6), (0.63, 1.05), 0.05, 0.5)


def _limb(plate: _Plate, rng: Rng) -> None:
    lean = rng.uniform(-0.15, 0.15)
    plate.shape([(0.3 + lean, 0), (0.7 + lean, 0), (0.66 - lean, 1), (0.36 - lean, 1)], 0.4, 5)
    for shift in (-0.07, 0.09):
        plate.bone((0.5 + shift + lean, -0.05), (0.5 + shift - lean, 1.05), rng.uniform(0.06, 0.1), 0.6)


def _spine(plate: _Plate, rng: Rng) -> None:
    plate.shape([(0.15, 0), (0.85, 0), (0.85, 1), (0.15, 1)], 0.35, 8)
    for level in range(9):
        x = 0.5 + 0.06 * np.sin(level / 2 + rng.uniform(0, 1))
        plate.shape(
            [
                (x - 0.1, 0.02 + 0.11 * level),
                (x + 0.1, 0.02 + 0.11 * level),
                (x + 0.11, 0.1 + 0.11 * level),
                (x - 0.11, 0.1 + 0.11 * level),
            ],
            0.5,
        )
        plate.ellipse((x + rng.choice([-1, 1]) * 0.14, 0.06 + 0.11 * level), (0.05, 0.02), 0.35)


def _abdomen(plate: _Plate, rng: Rng) -> None:
    plate.ellipse((0.5, 0.5), (0.45, 0.6), 0.6, 6)
    for level in range(7):
        plate.shape(
            [
                (0.42, 0.03 + 0.13 * level),
                (0.58, 0.03 + 0.13 * level),
                (0.58, 0.13 + 0.13 * level),
                (0.42, 0.13 + 0.13 * level),
            ],
            0.45,
        )
    for _ in range(rng.integers(6, 16)):
        at = rng.uniform(0.15, 0.85), rng.uniform(0.2, 0.9)
        plate.ellipse(at, (rng.uniform(0.03, 0.1), rng.uniform(0.02, 0.06)), -0.3, 2)


def _chest_side(plate: _Plate, rng: Rng) -> None:
    side = rng.choice([-1, 1])
    plate.shape(
        [
            (0.5 - 0.35 * side, 0.12),
            (0.5 + 0.2 * side, 0.1),
            (0.5 + 0.36 * side, 0.45),
            (0.5 + 0.32 * side, 1),
            (0.5 - 0.36 * side, 1),
        ],
        0.75,
        5,
    )
    plate.ellipse((0.5 - 0.04 * side, 0.47), (0.26, 0.34), -0.42, 5)
    plate.ellipse((0.5 + 0.14 * side, 0.6), (0.15, 0.16), 0.35, 5)
    plate.shape(
        [(0.5 - 0.3 * side, 0.85), (0.5 + 0.3 * side, 0.68), (0.5 + 0.3 * side, 1), (0.5 - 0.3 * side, 1)],
        0.35,
        4,
    )
    for level in range(10):
        x = 0.5 - side * (0.26 - 0.04 * np.sin(level / 3))
        plate.ellipse((x, 0.08 + 0.095 * level), (0.06, 0.036), 0.35)
    plate.shape(
        [(0.5 + 0.2 * side, 0), (0.5 + 0.5 * side, 0.1), (0.5 + 0.45 * side, 0.22), (0.5 + 0.1 * side, 0.14)],
        0.5,
        4,
    )


def _shoulder(plate: _Plate, rng: Rng) -> None:
    side = rng.choice([-1, 1])
    plate.shape(
        [(0.5 - 0.5 * side, 0.2), (0.5 + 0.3 * side, 0.25), (0.5 + 0.35 * side, 1), (0.5 - 0.5 * side, 1)],
        0.5,
        8,
    )
    plate.bone((0.5 + 0.14 * side, 0.4), (0.5 + 0.24 * side, 1.05), 0.13, 0.6)
    plate.ellipse((0.5 + 0.12 * side, 0.38), (0.11, 0.11), 0.5)
    plate.bone((0.5 - 0.5 * side, 0.2), (0.5 + 0.1 * side, 0.24), 0.05, 0.5)
    plate.shape([(0.5, 0.35), (0.5 - 0.3 * side, 0.4), (0.5 - 0.12 * side, 0.8)], 0.3, 3)
    for level in range(4):
        plate.bone((0.5 - 0.5 * side, 0.4 + 0.13 * level), (0.5 - 0.2 * side, 0.5 + 0.13 * level), 0.03, 0.3)


def _breast(plate: _Plate, rng: Rng) -> None:
    side = rng.choice([0.0, 1.0])
    plate.ellipse((side, 0.5), (rng.uniform(0.45, 0.7), rng.uniform(0.35, 0.48)), 0.5, 3)
    for _ in range(30):
        at = side + (1 - 2 * side) * rng.uniform(0, 0.4), rng.uniform(0.3, 0.7)
        plate.ellipse(at, (rng.uniform(0.02, 0.08), rng.uniform(0.01, 0.04)), 0.2, 3)


def _teeth(plate: _Plate, rng: Rng) -> None:
    plate.shape([(0, 0.15), (1, 0.15), (0.9, 0.9), (0.1, 0.9)], 0.35, 8)
    for tooth in range(16):
        x = 0.06 + 0.0587 * tooth
        y = 0.5 - 0.9 * (x - 0.5) ** 2
        plate.ellipse((x, y - 0.08), (0.022, 0.085), 0.6, 0.8)
        plate.ellipse((x, y + 0.1), (0.022, 0.085), 0.6, 0.8)


def _slice(plate: _Plate, rng: Rng) -> None:
    """An axial CT slice of the chest, belly or head."""
    kind = rng.integers(3)
    radii = (rng.uniform(0.36, 0.45), rng.uniform(0.26, 0.34)) if kind < 2 else (0.3, rng.uniform(0.34, 0.4))
    plate.ellipse((0.5, 0.5), radii, 0.5, 1)
    if kind == 0:
        for side in (-1, 1):
            plate.ellipse((0.5 + side * 0.2, 0.48), (0.13, 0.2), -0.45, 1)
    elif kind == 1:
        plate.ellipse((0.36, 0.45), (0.18, 0.16), 0.15, 2)
    else:
        plate.ring((0.5, 0.5), radii, 0.03, 1.0)
    plate.ellipse((0.5, 0.5 + radii[1] * 0.62), (0.055, 0.05), 0.6)
    plate.ring((0.5, 0.5), (radii[0] * 1.02, radii[1] * 1.02), 0.01, 0.2)


KINDS: dict[str, Callable[[_Plate, Rng], None]] = {
    "hand": _hand,
    "foot": _foot,
    "skull": _skull,
    "skull from the side": _skull_side,
    "pelvis": _pelvis,
    "knee": _knee,
    "limb": _limb,
    "spine": _spine,
    "abdomen": _abdomen,
    "chest from the side": _chest_side,
    "shoulder": _shoulder,
    "breast": _breast,
    "teeth": _teeth,
    "slice": _slice,
}


def foreign(kind: str, *, seed: int, size: int = 256) -> Film:
    """One drawn radiograph or slice of ``kind`` (``KINDS``), (size, size) uint8; ``ValueError`` otherwise."""
    if kind not in KINDS:
        raise ValueError(f"no drawing of {kind!r}; there are {', '.join(KINDS)}")
    rng = np.random.default_rng((seed, sorted(KINDS).index(kind)))
    plate = _Plate(rng)
    KINDS[kind](plate, rng)
    return plate.film(size)
