"""One invented patient, and what X-rays meet on their way through the chest.

Attenuation is thickness times a coefficient, summed along parallel rays (Beer-Lambert): an elliptical
trunk of soft tissue, two lungs cut out of it, heart, vessels, airways and bones added. Sizes in cm are
those of textbook adults. Knows no disease, no exposure and no files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carina.images.phantom.canvas import (
    Array,
    Canvas,
    Points,
    chord,
    curve,
    mirror,
    ramp,
    soften,
)

MU_TISSUE = 0.17  # per cm: water at the effective energy of a 120 kV beam (about 70 keV, NIST XCOM 0.19), hardened
MU_AERATION = 0.13  # per cm: what tissue has more than inflated lung (a quarter of its density)


@dataclass(frozen=True, slots=True)
class Patient:
    """What stays the same from film to film. Lengths in cm."""

    number: int
    age: int
    sex: str  # "M", "F"
    half_width: float  # of the chest cavity
    half_depth: float
    wall: float  # soft tissue over the ribs
    dome: float  # y of the right dome at full inspiration; the left one is lower
    rib_gap: float
    rib_slope: float
    heart: float  # relative size
    heart_lean: float  # radians; a steep heart in the slender, a lying one in the stout
    aorta: float  # radius of the knob
    bowing: float  # of the spine
    breast: float  # thickness


@dataclass(frozen=True, slots=True)
class Pose:
    """How the patient stood for one film. ``inspiration`` in cm: how much the domes stay up."""

    view: str  # "PA", "AP"
    tilt: float
    dx: float
    dy: float
    zoom: float
    turn: float  # cm by which the front moves against the spine
    inspiration: float
    shoulders: float  # cm by which clavicles and shoulders are raised


@dataclass(frozen=True, slots=True)
class Body:
    """The projected patient: all maps are (H, W) float32 unless said."""

    canvas: Canvas
    patient: Patient
    pose: Pose
    x: Array  # cm
    y: Array  # (H, 1) cm
    attenuation: Array  # everything but the vessels
    vessels: Array  # attenuation of the lung's vessels
    air: Array  # cm of inflated lung along each ray
    lungs: NDArray[np.bool_]  # the healthy lung fields above the domes
    wall: Array  # cm to the inner chest wall, negative outside
    dome: Array  # y of the diaphragm, cm


def make_patient(number: int, rng: np.random.Generator) -> Patient:
    """Draw one adult; ``rng`` is the patient's own, so the same number gives the same person."""
    female = bool(rng.random() < 0.5)
    stout = float(rng.normal())
    age = int(rng.integers(18, 90))
    return Patient(
        number=number,
        age=age,
        sex="F" if female else "M",
        half_width=float(rng.normal(12.6 if female else 13.5, 0.45)),
        half_depth=float(rng.normal(8.2, 0.4)),
        wall=float(np.clip(2.8 + 0.8 * stout, 1.6, 4.8)),
        dome=float(rng.normal(21.2 - 0.5 * stout, 0.7)),
        rib_gap=float(rng.normal(2.15, 0.07)),
        rib_slope=float(rng.normal(4.2, 0.6)),
        heart=float(np.clip(rng.normal(1.0, 0.045), 0.9, 1.08)),
        heart_lean=float(np.clip(rng.normal(0.72 - 0.08 * stout, 0.07), 0.5, 0.9)),
        aorta=float(rng.normal(1.45 + 0.008 * (age - 50), 0.12)),
        bowing=float(rng.normal(0, 0.25)),
        breast=float(np.clip(rng.normal(2.0, 0.8), 0, 4)) if female else 0.0,
    )


def make_pose(rng: np.random.Generator, ap_share: float) -> Pose:
    """Draw the positioning of one film."""
    ap = bool(rng.random() < ap_share)
    return Pose(
        view="AP" if ap else "PA",
        tilt=float(rng.normal(0, 0.018)),
        dx=float(rng.normal(0, 0.6)),
        dy=float(rng.normal(0, 0.7)),
        zoom=float(rng.normal(1.0, 0.03)),
        turn=float(rng.normal(0, 0.35)),
        inspiration=float(abs(rng.normal(0, 0.5)) + (1.0 if ap else 0.0)),
        shoulders=float(rng.normal(1.5 if ap else 0.0, 0.5)),
    )


def project(patient: Patient, pose: Pose, canvas: Canvas, rng: np.random.Generator) -> Body:
    """Send the rays through; ``rng`` draws the patient's vessels, so it too is the patient's own."""
    x, y = canvas.x(), canvas.y()
    half = inner_half_width(patient, y)  # (H, 1)
    side = np.abs(x)
    wall = half - side
    top = 0.09 * (side - 5.4) ** 2
    depth = 2 * patient.half_depth * (half / patient.half_width) ** 0.6
    cavity = depth * chord(np.abs(x / half) ** 3) * np.sqrt(ramp(y - top, 5.0))  # cm along the ray
    dome = diaphragm(patient, pose, x)
    heart = heart_share(patient, pose, x, y)
    middle = np.zeros_like(x)
    inner = slice(*np.flatnonzero(np.abs(x).min(axis=0) < 6.0)[[0, -1]])
    middle[:, inner] = mediastinum_share(patient, pose, x[:, inner], y)
    solid = 1 - (1 - heart) * (1 - middle) * (1 - np.sqrt(ramp(y - dome, 3.5)))
    air = cavity * (1 - solid)
    lungs = (cavity > 1.5) & (y < dome) & (heart < 0.35) & (middle < 0.6)
    vessels = _vessels(canvas, rng) * ramp(air, 6.0)
    attenuation = (
        MU_TISSUE * _trunk(patient, pose, canvas)
        - MU_AERATION * air
        + _bones(patient, pose, canvas)
        + _airways(patient, pose, canvas)
        + 0.012 * canvas.noise(rng, 0.35) * ramp(air, 5.0)
    )
    return Body(canvas, patient, pose, x, y, attenuation, vessels, air, lungs, wall, dome)


def inner_half_width(patient: Patient, y: Array) -> Array:
    """Half of the inner width of the chest at height ``y``: narrow at the top, full from y = 14 on."""
    fall = np.exp(-((np.clip(y + 1.5, 0, None) / 6.0) ** 1.3))
    return np.asarray(patient.half_width * (1 - 0.5 * fall), dtype=np.float32)


def diaphragm(patient: Patient, pose: Pose, x: Array) -> Array:
    """y of the domes: the right one (image left) stands higher; both fall steeply to the side."""
    high = patient.dome - pose.inspiration
    u = np.where(x < 0, -x, x)
    offset = np.where(x < 0, np.float32(0), np.float32(1.3))
    beyond = np.clip((u - 6.6) / (patient.half_width - 6.6), 0, 1.3)
    outside = (beyond * beyond) ** 2 * 4.6
    inside = np.clip((6.6 - u) / 6.6, 0, 1) ** 2 * 2.0
    return np.asarray(high + offset + outside + inside, dtype=np.float32)


def heart_share(patient: Patient, pose: Pose, x: Array, y: Array, size: float = 1.0) -> Array:
    """Share of the ray inside the chest that the heart fills, 0 to 1; ``size`` above 1 is enlarged."""
    scale = patient.heart * size * (1.1 if pose.view == "AP" else 1.0)
    base = patient.dome - pose.inspiration
    cx, cy = 1.9 + pose.turn + 1.2 * (scale - 1), base - 3.6
    lean = patient.heart_lean
    u = (x - cx) * math.cos(lean) + (y - cy) * math.sin(lean)
    v = -(x - cx) * math.sin(lean) + (y - cy) * math.cos(lean)
    left = chord((u / (6.9 * scale)) ** 2 + (v / (4.6 * scale)) ** 2)
    right = chord(((x + 0.5 - pose.turn) / (3.3 * scale)) ** 2 + ((y - base + 4.6) / (7.2 * scale)) ** 2)
    return np.minimum(1.0, 1.1 * np.hypot(left, 0.65 * right)).astype(np.float32)


def mediastinum_share(patient: Patient, pose: Pose, x: Array, y: Array) -> Array:
    """Share of the ray filled by what lies between the lungs: spine, great vessels, oesophagus."""
    middle = pose.turn * 0.5 + patient.bowing * np.sin(y / 7.0)
    half = 2.3 + 0.7 * np.exp(-(((y + 1) / 4.0) ** 2)) + 0.5 * ramp(y - 10, 8.0)
    column = chord(((x - middle) / half) ** 2)
    knob = chord(((x - 2.2 - pose.turn) / patient.aorta) ** 2 + ((y - 7.0) / patient.aorta) ** 2)
    descending = chord(((x - 1.9) / 1.5) ** 2) * ramp(y - 7.0, 1.5)
    trunk = chord(((x - 1.9 - pose.turn) / 2.3) ** 2 + ((y - 11.2) / 3.0) ** 2)
    cava = chord(((x + 1.9 - pose.turn) / 1.2) ** 2) * ramp(14 - y, 4.0) * ramp(y - 1.0, 3.0)
    filled = 1.05 * column**2 + knob**2 * 0.5 + descending**2 * 0.35 + trunk**2 * 0.35 + cava**2 * 0.3
    return np.minimum(1.0, np.sqrt(filled)).astype(np.float32)


def _trunk(patient: Patient, pose: Pose, canvas: Canvas) -> Array:
    """(H, W) cm of body along each ray as if it were solid: trunk, shoulders, arms, neck, breasts."""
    coarse = Canvas(
        max(64, canvas.width // 3), max(64, canvas.height // 3), 0.0, canvas.left, canvas.top, canvas.tilt
    )
    ratio = coarse.width / canvas.width
    coarse = Canvas(
        coarse.width, coarse.height, canvas.scale * ratio, canvas.left, canvas.top, canvas.tilt
    )
    x, y = coarse.x(), coarse.y()
    side = np.abs(x)
    outer = inner_half_width(patient, y) + patient.wall + 0.6
    trunk = 2 * (patient.half_depth + 0.7 * patient.wall) * chord((x / outer) ** 6)
    trunk = trunk * np.sqrt(ramp(y + 3.5, 5.0))
    roof = -6.4 + 0.38 * (side - 5) - 0.9 * pose.shoulders * ramp(side - 6, 8.0)
    below = y - 9.0 + pose.shoulders
    gap = side - outer - np.where(below > 0, 0.62 * below, 1.3 * below)
    shoulders = 15.5 * np.sqrt(ramp(y - roof, 4.5)) * np.sqrt(ramp(gap, 3.0))
    neck = 13.5 * chord((x / 6.2) ** 4) * ramp(5 - y, 5.0)
    solid = np.maximum(np.maximum(trunk, shoulders), neck)
    if patient.breast:
        r = ((side - 7.6) / 6.4) ** 2 + ((y - 18.5) / 6.6) ** 2
        solid = solid + patient.breast * np.sqrt(chord(r)) * (0.55 + 0.45 * ramp(y - 14, 8.0))
    fine = Image.fromarray(soften(solid.astype(np.float32), 1))
    return np.asarray(fine.resize((canvas.width, canvas.height), Image.Resampling.BICUBIC), dtype=np.float32)


def _bones(patient: Patient, pose: Pose, canvas: Canvas) -> Array:
    """(H, W) what bones add: ribs behind and in front, clavicles, shoulder blades, arms, spine."""
    behind, front, large, spine = (canvas.sheet() for _ in range(4))
    for number in range(1, 11):
        for side in (-1, 1):
            back, fore = rib(patient, number)
            breadth = 1.15 + 0.03 * number
            for sheet, path, wide in ((behind, back, breadth), (front, fore, breadth + 0.15)):
                if sheet is front and number > 6:
                    continue
                sheet.bone(mirror(path, side), wide, 0.18, (1.0, 0.66))
    for side in (-1, 1):
        lift, turn = pose.shoulders, pose.turn
        blade = np.array([(13.2, 1.0), (17.0, 0.6), (17.4, 4.5), (15.2, 13.0), (14.2, 11.5)])
        blade[:, 0] -= 1.6 if pose.view == "AP" else 0.0
        large.polygon(mirror(blade - [0, lift], side), 0.20)
        large.band(mirror(blade[[0, 4, 3]] - [0, lift], side), 0.35, 0.34)
        large.band(mirror(curve((17.6, 2.0 - lift), (19.5, 8.0), (22.0, 18.0)), side), 2.2, 0.55)
        large.ellipse(side * 17.6, 2.0 - lift, 2.5, 2.5, 0.5)
        collar = curve((1.5, 3.4), (6.5, 3.2 - 0.6 * lift), (9.0, -1.6 - lift), (16.2, -0.6 - lift))
        collar = mirror(collar, side) + [turn * 0.9, 0]
        wide = np.interp(np.linspace(0, 1, len(collar)), [0, 0.15, 0.6, 1], [2.0, 1.35, 1.1, 1.6])
        large.bone(collar, wide, 0.2, (0.72, 0.5))
    heights = np.arange(-12.0, 42.0, 3.0)
    spine.band(np.stack([patient.bowing * np.sin(heights / 7.0), heights], axis=1), 3.0, 0.45)
    for centre in np.arange(-9.0, 38.0, 2.3):
        x = patient.bowing * math.sin(centre / 7.0)
        half = 1.6 + 0.022 * (centre + 9)
        body = np.array([(-half, -1.0), (-half * 0.9, 0), (-half, 1.0), (half, 1.0), (half * 0.9, 0), (half, -1.0)])
        spine.polygon(body + [x, centre], 0.8)
        spine.polygon(body * [0.86, 0.78] + [x, centre], 0.62)
        for side in (-1, 1):
            spine.ellipse(x + side * half * 0.62, centre - 0.25, 0.36, 0.5, 0.85)
        spine.ellipse(x, centre + 0.7, 0.35, 0.75, 0.85)
    return soften(0.34 * behind.array() + 0.15 * front.array() + 0.72 * large.array() + 0.36 * spine.array(), 2)


def rib(patient: Patient, number: int) -> tuple[Points, Points]:
    """The middle line of one rib on the image's right: behind (spine to side) and in front (side to cartilage)."""
    start = -1.6 + patient.rib_gap * number
    drop = patient.rib_slope * (0.55 + 0.06 * number) if number > 1 else patient.rib_slope * 0.8
    end = start + drop
    reach = float(inner_half_width(patient, np.float32([[max(end, 0.0)]]))[0, 0]) + 0.25
    if number == 1:
        reach *= 0.86
    t = np.linspace(0, math.pi / 2 if number < 8 else 1.35, 18)
    back_x = 1.6 + (reach - 1.6) * np.sin(t)
    back_y = start + drop * (1 - np.cos(t)) - 0.9 * np.sin(2 * t)
    inner = 3.6 + 0.5 * number
    fore_x = inner + (reach - inner) * np.cos(t)
    fore_y = end + (4.2 + 0.25 * number) * np.sin(t)
    return np.stack([back_x, back_y], axis=1), np.stack([fore_x, fore_y], axis=1)


def _airways(patient: Patient, pose: Pose, canvas: Canvas) -> Array:
    """(H, W) what air takes away: windpipe, its division (the carina), main bronchi, stomach bubble."""
    tubes, bubble = canvas.sheet(), canvas.sheet()
    x = pose.turn * 0.6
    tubes.band(np.array([(x - 0.1, -12.0), (x - 0.1, 0.0), (x - 0.2, 8.6)]), np.array([1.5, 1.6, 1.8]), 1.0)
    tubes.band(curve((x - 0.4, 8.2), (x - 1.4, 9.6), (x - 3.2, 12.4)), np.linspace(1.4, 1.0, 16), 0.85)
    tubes.band(curve((x + 0.2, 8.4), (x + 1.6, 9.8), (x + 3.9, 11.6)), np.linspace(1.25, 0.9, 16), 0.75)
    top = patient.dome - pose.inspiration + 2.6
    outline = curve((4.8, top + 2.2), (4.0, top - 0.7), (9.6, top - 0.9), (9.4, top + 2.3))
    bubble.polygon(outline, 1.0)
    return soften(-0.32 * tubes.array() - 0.55 * bubble.array(), 3)


def _vessels(canvas: Canvas, rng: np.random.Generator) -> Array:
    """(H, W) attenuation of the lung's vessels: trees that fork outwards from both hila.

    Murray's law: where a vessel divides, the cubes of the widths add up.
    """
    bearing = np.tile(np.linspace(-1.45, 1.5, 9), 2) + rng.normal(0, 0.1, 18)
    side = np.repeat([-1.0, 1.0], 9)
    start = np.stack([side * 3.0, np.where(side > 0, 11.6, 12.4)], axis=1)
    width = 0.5 + 0.14 * (np.abs(bearing) > 0.9)
    length = np.full(18, 2.4)
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
    for sign, height in ((-1, 12.4), (1, 11.6)):
        trunk = curve((sign * 2.4, height - 2.0), (sign * 4.6, height), (sign * 4.3, height + 5.4))
        sheet.band(trunk, np.linspace(1.5, 0.6, len(trunk)), 0.75)
    return 0.6 * sheet.array(3)
