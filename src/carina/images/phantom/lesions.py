"""Disease, as what it adds to the rays that cross the lungs, and where.

One function a finding; each returns the attenuation it adds, (H, W) float32, and the mask of what a
reader would outline. The patterns are those that textbooks of chest radiography describe. All draw
their place and form from the patient's own generator, so that a patient's films agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carina import taxonomy
from carina.images.phantom.anatomy import MU_AERATION, Body, heart_share
from carina.images.phantom.canvas import Any2D, Array, Canvas, Sheet, chord, curve, ramp, soften
from carina.images.phantom.thorax import dome_height, half_width_at

Rng = np.random.Generator
Mask = NDArray[np.bool_]

FINDINGS: dict[str, tuple[str, ...]] = {
    taxonomy.BACTERIAL: ("consolidation",),
    taxonomy.VIRAL: ("interstitial",),
    taxonomy.COVID19: ("ground glass",),
    taxonomy.TUBERCULOSIS: ("apical cavity",),
    taxonomy.NORMAL: ("none",),
    taxonomy.OTHER: ("effusion", "nodule", "cardiomegaly", "pneumothorax"),
}


@dataclass(frozen=True, slots=True)
class Lesion:
    """What a disease adds: ``attenuation`` (H, W), negative where air replaces lung; ``mask`` (H, W)."""

    attenuation: Array
    mask: Mask


def make_lesion(finding: str, body: Body, severity: float, rng: Rng) -> Lesion:
    """The lesion of ``finding`` (a value of ``FINDINGS``) in ``body``; ``severity`` in (0, 1]."""
    return _MAKERS[finding](body, severity, rng)


def _none(body: Body, severity: float, rng: Rng) -> Lesion:
    return Lesion(np.zeros_like(body.air), np.zeros_like(body.lungs))


def _filled(body: Body, share: Any2D, faintest: float = 0.15) -> Lesion:
    """Lung of which ``share`` (0 to 1) of the air has been replaced; outlined where above ``faintest``."""
    return Lesion((MU_AERATION * body.air * share).astype(np.float32), (share > faintest) & body.lungs)


def _consolidation(body: Body, severity: float, rng: Rng) -> Lesion:
    """One lobe filled, sharp at its fissure and ragged elsewhere, with air left in the bronchi."""
    x, y = body.x, body.y
    lobe = ("right upper", "right middle", "right lower", "left upper", "left lower")[rng.integers(5)]
    side = -1 if lobe.startswith("right") else 1
    ragged = 1.1 * body.canvas.noise(rng, 2.6) + 0.5 * body.canvas.noise(rng, 0.9)
    u = side * x  # cm from the midline, outwards
    fissure = 12.2 + 0.12 * (u - 4) + rng.normal(0, 0.4)
    reach = 0.45 + 0.55 * severity  # how much of the lobe is filled
    if lobe == "right upper":
        inside = np.minimum(ramp(fissure - y, 0.5), ramp(y - fissure + 9.5 * reach + ragged, 2.5))
        hub = (3.0, 11.5)
    elif lobe == "right middle":
        inside = ramp(y - fissure, 0.5) * ramp(3.0 + 8.0 * reach - u + ragged, 2.5)
        hub = (3.0, 13.0)
    elif lobe == "left upper":
        inside = ramp(15.0 - 0.5 * u - y + 3.5 * reach + ragged, 3.0) * ramp(
            y - 12.5 + 9.0 * reach + ragged, 2.5
        )
        hub = (3.0, 11.0)
    else:
        base = dome_height(body.patient, body.pose, side)
        inside = ramp(y - base + 8.5 * reach - 0.25 * (u - 7) + ragged, 3.0)
        hub = (3.5, 13.5)
    inside = inside * (u > 0)
    fluffy = np.clip(0.9 + 0.12 * body.canvas.noise(rng, 0.7), 0.5, 1.0)
    tubes = soften(_bronchogram(body.canvas, rng, side, hub), 3)
    share = inside * fluffy * (0.30 + 0.55 * severity) * (1 - 0.42 * tubes)
    return _filled(body, share, 0.12)


def _bronchogram(canvas: Canvas, rng: Rng, side: int, hub: tuple[float, float]) -> Array:
    """(H, W) in [0, 1]: bronchi that stay open inside a filled lobe, branching from ``hub``."""
    sheet = canvas.sheet()
    for bearing in np.linspace(-1.1, 1.3, 6) + rng.normal(0, 0.12, 6):
        start = np.array([side * hub[0], hub[1]])
        way = np.array([side * math.cos(bearing), math.sin(bearing)])
        bend = start + way * 2.6 + rng.normal(0, 0.3, 2)
        sheet.lines(curve(start, bend, start + way * 6.0 + rng.normal(0, 0.5, 2))[None], 0.38, 1.0)
        sheet.lines(np.stack([bend, bend + way * 3.0 + rng.normal(0, 1.0, 2)])[None], 0.26, 1.0)
    return sheet.array(1)


def _interstitial(body: Body, severity: float, rng: Rng) -> Lesion:
    """Both lungs: a net of fine lines, streaks from the hila, thickened bronchial walls, a thin haze."""
    x, y, canvas = body.x, body.y, body.canvas
    near = np.exp(-(((np.abs(x) - 5.6) / 5.4) ** 2) - ((y - 14.5) / 8.5) ** 2)
    net = np.exp(-((canvas.noise(rng, 0.62) / 0.28) ** 2)) + np.exp(-((canvas.noise(rng, 0.95) / 0.22) ** 2))
    patchy = np.clip(0.8 + 0.3 * canvas.noise(rng, 3.5), 0.3, 1.4)
    where = near * patchy * ramp(body.air - 1, 5.0)
    sheet = canvas.sheet()
    for side in (-1, 1):
        hilum = np.array([side * 3.2, 12.2])
        for bearing in rng.uniform(-1.35, 1.45, 16):
            way = np.array([side * math.cos(bearing), math.sin(bearing)])
            start = hilum + way * rng.uniform(0.3, 3.0)
            bend = start + way * 2 + rng.normal(0, 0.4, 2)
            sheet.lines(curve(start, bend, start + way * rng.uniform(3, 6))[None], 0.2, 0.7)
        for _ in range(6):
            bearing, far = rng.uniform(-1.3, 1.4), rng.uniform(1.2, 4.2)
            cx, cy = hilum + far * np.array([side * math.cos(bearing), math.sin(bearing)])
            sheet.ellipse(cx, cy, 0.46, 0.46, 1.0)
            sheet.ellipse(cx, cy, 0.2, 0.2, 0.0)
    lines = sheet.array(1) * ramp(body.air - 2, 6.0)
    added = severity * (where * (0.52 + 0.54 * net) + 0.52 * lines)
    return Lesion(added.astype(np.float32), (where > 0.35) & body.lungs)


def _ground_glass(body: Body, severity: float, rng: Rng) -> Lesion:
    """Both lungs: hazy patches along the chest wall, more below; vessels stay visible through them."""
    x, y, canvas = body.x, body.y, body.canvas
    haze = np.zeros_like(body.air)
    for side in (-1, 1):
        for _ in range(int(rng.integers(3, 5)) + round(2 * severity)):
            cy = float(np.clip(rng.normal(16.5, 3.6), 7, 23))
            edge = half_width_at(body.patient, cy)
            cx = side * (edge - rng.uniform(0.8, 3.2))
            rx, ry = rng.uniform(1.5, 2.6), rng.uniform(1.8, 3.4)
            r = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2
            haze = np.maximum(haze, np.exp(-0.6 * r * np.sqrt(r)))
    ragged = np.clip(1 + 0.32 * canvas.noise(rng, 1.1) + 0.22 * canvas.noise(rng, 0.45), 0.25, 1.6)
    net = np.exp(-((canvas.noise(rng, 0.5) / 0.25) ** 2))
    share = np.clip(haze * ragged, 0, 1) * (0.22 + 0.50 * severity) * (0.9 + 0.22 * net)
    lateral = np.sqrt(ramp(body.wall, 3.0))  # the air is shallow at the wall, the haze is not
    added = MU_AERATION * np.maximum(body.air, 7.0 * lateral) * share * (body.wall > 0) * (y < body.dome)
    return Lesion(added.astype(np.float32), (share > 0.15) & body.lungs)


def _apical_cavity(body: Body, severity: float, rng: Rng) -> Lesion:
    """One or both tops: patches, a ring with air inside, small nodules, streaks drawn to the hilum."""
    x, y, canvas = body.x, body.y, body.canvas
    sides = [int(rng.choice([-1, 1]))]
    if rng.random() < 0.25 + 0.4 * severity:
        sides.append(-sides[0])
    share = np.zeros_like(body.air)
    drawn = canvas.sheet()
    lumps = canvas.noise(rng, 0.8)
    for turn, side in enumerate(sides):
        cx, cy = side * rng.uniform(5.2, 7.2), rng.uniform(4.2, 6.0)
        r = ((x - cx) / 4.0) ** 2 + ((y - cy) / 3.6) ** 2
        share = np.maximum(
            share, np.exp(-r) * np.clip(0.6 + 0.3 * lumps, 0.1, 1.1) * (1.0 if turn == 0 else 0.75)
        )
        _nodules_and_streaks(drawn, rng, side, cx, cy, severity)
        if turn == 0 or rng.random() < 0.4 * severity:
            radius = rng.uniform(0.9, 1.2) + 0.8 * severity
            ex, ey = cx + side * rng.uniform(-0.8, 1.2), cy + rng.uniform(-0.6, 1.0)
            d = np.hypot((x - ex), (y - ey) / rng.uniform(0.8, 1.2))
            d = d + 0.05 * lumps + 0.12 * canvas.noise(rng, 1.8)
            rim = np.exp(-(((d - radius) / (0.28 + 0.14 * severity)) ** 2))
            rim = rim * np.clip(0.85 + 0.12 * lumps, 0.5, 1)
            share = np.where(d < radius, share * 0.12, share) + 0.75 * rim
    share = share * (0.35 + 0.45 * severity)
    dots = drawn.array(4) * ramp(body.air, 3.0)
    added = MU_AERATION * np.maximum(body.air, 6.0 * ramp(body.air, 1.0)) * share + 0.5 * severity * dots
    return Lesion(added.astype(np.float32), ((share > 0.13) | (dots > 0.3)) & body.lungs)


def _nodules_and_streaks(sheet: Sheet, rng: Rng, side: int, cx: float, cy: float, severity: float) -> None:
    """Draw the small change around an apical focus: nodules of 3 to 8 mm and fibrotic lines."""
    for _ in range(4 + round(8 * severity)):
        r = rng.uniform(0.15, 0.4)
        sheet.ellipse(cx + rng.normal(0, 2.4), cy + rng.normal(0.8, 2.6), r, r, rng.uniform(0.3, 0.8))
    hilum = np.array([side * 3.2, 11.0])
    for _ in range(5):
        start = np.array([cx, cy]) + rng.normal(0, 1.3, 2)
        sheet.lines(curve(start, (start + hilum) / 2 + rng.normal(0, 0.6, 2), hilum)[None], 0.16, 0.7)


def _effusion(body: Body, severity: float, rng: Rng) -> Lesion:
    """Fluid at the base of one lung: white, without lung markings, climbing along the chest wall."""
    side = -1 if rng.random() < 0.5 else 1
    low = dome_height(body.patient, body.pose, side) + 1.8
    level = low - 1.8 - 7.0 * severity
    surface = level + 2.4 * (1 - np.exp(-np.clip(body.wall, 0, None) / 2.0)) - 1.4
    share = np.sqrt(ramp(body.y - surface, 2.6)) * (side * body.x > 0) * 0.97
    lesion = _filled(body, share, 0.2)
    fluid = lesion.attenuation - body.vessels * share
    return Lesion(fluid.astype(np.float32), lesion.mask)


def _nodule(body: Body, severity: float, rng: Rng) -> Lesion:
    """One to three round spots of 1 to 3.4 cm."""
    lobulated = 1 + 0.1 * body.canvas.noise(rng, 0.8)
    added = np.zeros_like(body.air)
    side = -1 if rng.random() < 0.5 else 1
    for number in range(1 + round(2 * severity)):
        radius = (0.4 + 1.3 * math.sqrt(severity)) * (1.0 if number == 0 else rng.uniform(0.6, 1.0))
        cx, cy = side * rng.uniform(5.2, 9.2), rng.uniform(6.5, 18.0)
        ball = chord(((body.x - cx) ** 2 + (body.y - cy) ** 2) / radius**2 * lobulated)
        added = np.maximum(added, 2 * radius * 0.30 * ball * (0.8 + 0.6 * severity))
        side = side if rng.random() < 0.4 else -side
    return Lesion(soften(added, 2), (added > 0) & body.lungs)


def _cardiomegaly(body: Body, severity: float, rng: Rng) -> Lesion:
    """A heart wider than half the chest (cardiothoracic ratio above 0.55)."""
    share = heart_share(body.patient, body.pose, body.x, body.y, size=1.24 + 0.36 * severity)
    return _filled(body, share, 0.1)


def _pneumothorax(body: Body, severity: float, rng: Rng) -> Lesion:
    """Air outside one lung: a fine line, nothing but black between it and the chest wall."""
    side = -1 if rng.random() < 0.5 else 1
    top = body.y - 0.09 * (np.abs(body.x) - body.patient.apex) ** 2
    from_wall = np.minimum(body.wall, 0.85 * top + 0.5)
    wide = (1.4 + 4.0 * severity) * np.clip(1.25 - body.y / 26.0, 0.3, 1.2)
    beyond = wide - from_wall
    outside = ramp(beyond, 0.25) * (side * body.x > 0) * (body.y < body.dome) * (from_wall > 0)
    line = np.exp(-((beyond / 0.14) ** 2)) * (side * body.x > 0) * (body.y < body.dome)
    collapsed = ramp(-beyond, 1.0) * (side * body.x > 0)
    air = ramp(body.air, 2.0)
    added = outside * (-body.vessels - 0.055 * body.air - 0.18 * air) + 0.22 * line * air
    added += 0.045 * severity * body.air * collapsed
    return Lesion(added.astype(np.float32), (outside > 0.5) & body.lungs)


_MAKERS: dict[str, Callable[[Body, float, Rng], Lesion]] = {
    "none": _none,
    "consolidation": _consolidation,
    "interstitial": _interstitial,
    "ground glass": _ground_glass,
    "apical cavity": _apical_cavity,
    "effusion": _effusion,
    "nodule": _nodule,
    "cardiomegaly": _cardiomegaly,
    "pneumothorax": _pneumothorax,
}
