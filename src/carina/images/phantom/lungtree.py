"""What branches and what holds air: the lung's vessels, the airways, gas below the diaphragm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carina.images.phantom.canvas import Array, Canvas, Sheet, curve, soften
from carina.images.phantom.patient import Patient, Pose
from carina.images.phantom.thorax import dome_height


def airways(patient: Patient, pose: Pose, canvas: Canvas, rng: np.random.Generator) -> Array:
    """(H, W) what air takes away: windpipe, its division (the carina), main bronchi, gas in the belly."""
    tubes, gas = canvas.sheet(), canvas.sheet()
    x, fork, caliber = pose.turn * 0.6 + rng.normal(0, 0.25), rng.normal(8.6, 0.5), rng.normal(1, 0.1)
    lean = rng.normal(0, 0.25)
    windpipe = np.array([(x - 0.1 + lean, -12.0), (x - 0.1 - 0.4 * lean, 0.0), (x - 0.2, fork)])
    tubes.band(windpipe, np.array([1.5, 1.6, 1.8]) * caliber, 1.0)
    right = curve((x - 0.4, fork - 0.4), (x - 1.4, fork + 1.0), (x - 3.2, fork + 3.8 + rng.normal(0, 0.4)))
    left = curve((x + 0.2, fork - 0.2), (x + 1.6, fork + 1.2), (x + 3.9, fork + 3.0 + rng.normal(0, 0.4)))
    tubes.band(right, np.linspace(1.4, 1.0, 16) * caliber, 0.85)
    tubes.band(left, np.linspace(1.25, 0.9, 16) * caliber, 0.75)
    _belly_gas(gas, dome_height(patient, pose, 1), rng)
    return soften(-0.32 * tubes.array() - 0.55 * gas.array(), 3)


def _belly_gas(sheet: Sheet, dome: float, rng: np.random.Generator) -> None:
    """Draw the stomach's bubble, if there is one, and some loops of bowel below it."""
    middle, width = rng.normal(7.2, 0.9), rng.uniform(1.4, 3.6)
    top, depth = dome + rng.uniform(1.0, 2.0), rng.uniform(1.2, 3.4)
    bubble = curve(
        (middle - width, top + depth),
        (middle - 1.2 * width, top - 0.3 * depth),
        (middle + 1.1 * width, top - 0.3 * depth),
        (middle + width, top + depth),
    )
    if rng.random() < 0.75:
        sheet.polygon(bubble, rng.uniform(0.5, 1.0))
    for _ in range(int(rng.integers(0, 9))):
        at = rng.normal(0, 6.0), dome + rng.uniform(5.0, 14.0)
        sheet.ellipse(*at, rng.uniform(0.6, 1.8), rng.uniform(0.5, 1.3), rng.uniform(0.15, 0.6))


def vessels(patient: Patient, canvas: Canvas, rng: np.random.Generator) -> Array:
    """(H, W) attenuation of the lung's vessels: trees that fork outwards from both hila.

    Murray's law: where a vessel divides, the cubes of the widths add up.
    """
    fans = rng.integers(7, 12, 2)
    bearing = np.concatenate([np.linspace(-1.45, 1.5, fan) + rng.normal(0, 0.17, fan) for fan in fans])
    side = np.repeat([-1.0, 1.0], fans)
    start = np.repeat(patient.hila * [(-1, 1), (1, 1)], fans, axis=0)
    width = (0.5 + 0.14 * (np.abs(bearing) > 0.9)) * rng.uniform(0.8, 1.15, len(bearing))
    length = 2.4 * rng.uniform(0.75, 1.3, len(bearing))
    twigs: list[tuple[float, NDArray[np.float64]]] = []
    while len(bearing):
        bend = bearing + rng.normal(0, 0.22, len(bearing))
        step = np.stack([side * np.cos(bend), np.sin(bend)], axis=1) * length[:, None]
        middle = start + 0.5 * step + rng.normal(0, 0.12, step.shape)
        paths = np.stack([start, middle, start + step], axis=1)
        for low in np.arange(0.1, 0.9, 0.1):  # one drawing call a width
            some = (width >= low) & (width < low + 0.1)
            if some.any():
                twigs.append((float(low) + 0.05, paths[some]))
        share = rng.uniform(0.35, 0.65, len(bearing))
        share = np.concatenate([share, 1 - share])
        turn = rng.uniform(0.2, 0.6, len(share)) * np.repeat([1.0, -1.0], len(bearing))
        bearing, side, start = np.tile(bend, 2) + turn, np.tile(side, 2), np.tile(start + step, (2, 1))
        width = np.tile(width, 2) * np.cbrt(share) * 0.92
        length = np.tile(length, 2) * rng.uniform(0.68, 0.95, len(share))
        thick = width > 0.16
        bearing, side, start, width, length = (a[thick] for a in (bearing, side, start, width, length))
    sheet = canvas.sheet()
    for breadth, paths in sorted(twigs, key=lambda twig: twig[0]):
        sheet.lines(paths, breadth, 0.2 + 0.62 * breadth)
    for sign, (out, height) in zip((-1, 1), patient.hila, strict=True):
        down = height + rng.normal(5.4, 0.8)
        trunk = curve((sign * 2.4, height - 2.0), (sign * (out + 1.6), height), (sign * (out + 1.3), down))
        sheet.band(trunk, np.linspace(1.5, 0.6, len(trunk)), 0.75)
    return rng.uniform(0.48, 0.64) * sheet.array(3)
