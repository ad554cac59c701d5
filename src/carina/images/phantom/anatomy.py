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

from carina.images.phantom.canvas import Array, Canvas, chord, ramp, soften
from carina.images.phantom.lungtree import airways, vessels
from carina.images.phantom.patient import Patient, Pose
from carina.images.phantom.skeleton import bones
from carina.images.phantom.thorax import diaphragm, inner_half_width

MU_TISSUE = (
    0.17  # per cm: water at the effective energy of a 120 kV beam (about 70 keV, NIST XCOM 0.19), hardened
)
MU_AERATION = 0.13  # per cm: what tissue has more than inflated lung (a quarter of its density)


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


def project(patient: Patient, pose: Pose, canvas: Canvas, rng: np.random.Generator) -> Body:
    """Send the rays through; ``rng`` draws the patient's vessels and tissue, so it too is the patient's."""
    x, y = canvas.x(), canvas.y()
    half = inner_half_width(patient, y)  # (H, 1)
    side = np.abs(x)
    wall = half - side
    top = 0.09 * (side - patient.apex) ** 2
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
    tree = vessels(patient, canvas, rng) * ramp(air, 6.0)
    attenuation = (
        MU_TISSUE * _trunk(patient, pose, canvas, rng)
        - MU_AERATION * air
        + bones(patient, pose, canvas)
        + airways(patient, pose, canvas, rng)
        + 0.012 * canvas.noise(rng, 0.35) * ramp(air, 5.0)
    )
    return Body(canvas, patient, pose, x, y, attenuation, tree, air, lungs, wall, dome)


def heart_share(patient: Patient, pose: Pose, x: Array, y: Array, size: float = 1.0) -> Array:
    """Share of the ray inside the chest that the heart fills, 0 to 1; ``size`` above 1 is enlarged."""
    own = patient.heart
    scale = own.size * size * (1.06 if pose.view == "AP" else 1.0)
    base = patient.dome - pose.inspiration
    cx, cy = own.x + pose.turn + 1.2 * (scale - 1), base - 3.6
    lean = own.lean
    u = (x - cx) * math.cos(lean) + (y - cy) * math.sin(lean)
    v = -(x - cx) * math.sin(lean) + (y - cy) * math.cos(lean)
    left = chord((u / (own.long * scale)) ** 2 + (v / (own.short * scale)) ** 2)
    right = chord(
        ((x + 0.5 - pose.turn) / (own.right * scale)) ** 2 + ((y - base + 4.6) / (7.2 * scale)) ** 2
    )
    return np.asarray(np.minimum(1.0, 1.1 * np.hypot(left, 0.65 * right)), dtype=np.float32)


def mediastinum_share(patient: Patient, pose: Pose, x: Array, y: Array) -> Array:
    """Share of the ray filled by what lies between the lungs: spine, great vessels, oesophagus."""
    own = patient.heart
    middle = pose.turn * 0.5 + patient.spine.x(y)
    half = 2.3 + 0.7 * np.exp(-(((y + 1) / 4.0) ** 2)) + 0.5 * ramp(y - 10, 8.0)
    column = chord(((x - middle) / half) ** 2)
    knob_x, knob_y, radius = own.knob
    knob = chord(((x - knob_x - pose.turn) / radius) ** 2 + ((y - knob_y) / radius) ** 2)
    descending = chord(((x - 1.9) / 1.5) ** 2) * ramp(y - knob_y, 1.5)
    trunk = chord(((x - own.trunk[0] - pose.turn) / 2.3) ** 2 + ((y - own.trunk[1]) / 3.0) ** 2)
    cava = chord(((x + own.cava - pose.turn) / 1.2) ** 2) * ramp(14 - y, 4.0) * ramp(y - 1.0, 3.0)
    filled = (
        1.05 * column**2 + knob**2 * 0.5 + descending**2 * own.descending + trunk**2 * 0.35 + cava**2 * 0.3
    )
    return np.asarray(np.minimum(1.0, np.sqrt(filled)), dtype=np.float32)


def _trunk(patient: Patient, pose: Pose, canvas: Canvas, rng: np.random.Generator) -> Array:
    """(H, W) cm of body along each ray as if it were solid: trunk, shoulders, arms, neck, breasts."""
    coarse = Canvas(
        max(64, canvas.width // 3), max(64, canvas.height // 3), 0.0, canvas.left, canvas.top, canvas.tilt
    )
    ratio = coarse.width / canvas.width
    coarse = Canvas(coarse.width, coarse.height, canvas.scale * ratio, canvas.left, canvas.top, canvas.tilt)
    x, y = coarse.x(), coarse.y()
    side = np.abs(x)
    outer = inner_half_width(patient, y) + patient.wall + 0.6
    trunk = 2 * (patient.half_depth + 0.7 * patient.wall) * chord((x / outer) ** 6)
    trunk = trunk * np.sqrt(ramp(y + 3.5, 5.0))
    height, steepness = patient.shoulder
    roof = -height + steepness * (side - 5) - 0.9 * pose.shoulders * ramp(side - 6, 8.0)
    below = y - 9.0 + pose.shoulders
    gap = side - outer - 0.4 * pose.arms - np.where(below > 0, (0.62 + 0.1 * pose.arms) * below, 1.3 * below)
    shoulders = 15.5 * np.sqrt(ramp(y - roof, 4.5)) * np.sqrt(ramp(gap, 3.0))
    neck = 13.5 * chord((x / patient.neck) ** 4) * ramp(5 - y, 5.0)
    solid = np.maximum(np.maximum(trunk, shoulders), neck)
    if patient.breast:
        out, down, size = patient.breast_at
        r = ((side - out) / (6.4 * size)) ** 2 + ((y - down) / (6.6 * size)) ** 2
        solid = solid + patient.breast * np.sqrt(chord(r)) * (0.55 + 0.45 * ramp(y - down + 4.5, 8.0))
    uneven = 0.12 * coarse.noise(rng, 1.1) + 0.23 * coarse.noise(rng, 2.4)  # cm of muscle and fat
    solid = solid + uneven * ramp(solid, 12.0)
    fine = Image.fromarray(soften(solid.astype(np.float32), 1))
    return np.asarray(fine.resize((canvas.width, canvas.height), Image.Resampling.BICUBIC), dtype=np.float32)
