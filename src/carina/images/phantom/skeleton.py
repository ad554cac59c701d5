"""The bones of one patient on one film: ribs, shoulder girdle, arms, spine."""

from __future__ import annotations

import math

import numpy as np

from carina.images.phantom.canvas import Array, Canvas, Points, Sheet, curve, mirror, soften
from carina.images.phantom.patient import RIBS, Patient, Pose
from carina.images.phantom.thorax import half_width_at


def bones(patient: Patient, pose: Pose, canvas: Canvas) -> Array:
    """(H, W) what bones add: ribs behind and in front, clavicles, shoulder blades, arms, spine."""
    behind, front, large, spine = (canvas.sheet() for _ in range(4))
    for number in range(1, RIBS + 1):
        for side in (-1, 1):
            back, fore = _rib(patient, pose, number, side)
            breadth = patient.ribs.breadth[max(side, 0), number - 1]
            behind.bone(mirror(back, side), breadth, 0.18, (1.0, 0.66))
            if number <= 6:
                front.bone(mirror(fore, side), breadth + 0.15, 0.18, (1.0, 0.66))
    for side in (-1, 1):
        _shoulder(large, patient, pose, side)
    _vertebrae(spine, patient)
    ribs = patient.ribs.density * (0.34 * behind.array() + 0.15 * front.array())
    return soften(ribs + 0.72 * large.array() + 0.36 * patient.spine.density * spine.array(), 2)


def _rib(patient: Patient, pose: Pose, number: int, side: int) -> tuple[Points, Points]:
    """One rib as on the image's right: middle lines behind (from the spine) and in front (to the cartilage).

    Ribs hang lower the less the patient has breathed in.
    """
    ribs, at = patient.ribs, (max(side, 0), number - 1)
    start = ribs.start[at] + 0.15 * pose.inspiration
    drop = ribs.drop[at] * (1 + 0.08 * pose.inspiration)
    end = start + drop
    reach = half_width_at(patient, max(end, 0.0)) + 0.25
    if number == 1:
        reach *= 0.86
    t = np.linspace(0, math.pi / 2 if number < 8 else 1.35, 18)
    back_x = 1.6 + (reach - 1.6) * np.sin(t)
    back_y = start + drop * (1 - np.cos(t)) - ribs.hump[at] * np.sin(2 * t) + ribs.wave[at] * np.sin(4 * t)
    inner = ribs.cartilage[at]
    fore_x = inner + (reach - inner) * np.cos(t)
    fore_y = end + ribs.front[at] * np.sin(t)
    return np.stack([back_x, back_y], axis=1), np.stack([fore_x, fore_y], axis=1)


def _shoulder(sheet: Sheet, patient: Patient, pose: Pose, side: int) -> None:
    """Draw one shoulder blade, upper arm and clavicle."""
    lift, which = pose.shoulders, max(side, 0)
    blade = np.array([(13.2, 1.0), (17.0, 0.6), (17.4, 4.5), (15.2, 13.0), (14.2, 11.5)])
    blade = blade + patient.blade[which] - [1.6 if pose.view == "AP" else 0.0, lift]
    blade[:, 0] += 0.4 * pose.arms
    sheet.polygon(mirror(blade, side), 0.20)
    sheet.band(mirror(blade[[0, 4, 3]], side), 0.35, 0.34)
    arm = curve((17.6, 2.0 - lift), (19.5 + 0.4 * pose.arms, 8.0), (22.0 + 1.4 * pose.arms, 18.0))
    sheet.band(mirror(arm, side), 2.2, 0.55)
    sheet.ellipse(side * 17.6, 2.0 - lift, 2.5, 2.5, 0.5)
    inner, middle, outer = patient.collar[which]
    collar = curve(
        (1.5, 3.4 + 0.5 * inner),
        (6.5, 3.2 + inner - 0.6 * lift),
        (9.0, -1.6 + middle - lift),
        (16.2, -0.6 + outer - lift),
    )
    girth = np.interp(np.linspace(0, 1, len(collar)), [0, 0.15, 0.6, 1], [2.0, 1.35, 1.1, 1.6])
    sheet.bone(mirror(collar, side) + np.array([pose.turn * 0.9, 0.0]), girth, 0.2, (0.72, 0.5))


def _vertebrae(sheet: Sheet, patient: Patient) -> None:
    """Draw the spine: bodies with denser edges, two pedicles and a spinous process each."""
    spine = patient.spine
    heights = np.arange(-12.0, 42.0, 2.0)
    sheet.band(np.stack([spine.x(heights), heights], axis=1), 3.0, 0.45)
    outline = np.array([(-1, -1), (-0.9, 0), (-1, 1), (1, 1), (0.9, 0), (1, -1)], dtype=np.float64)
    gaps = np.diff(spine.centres, append=spine.centres[-1] + 2.5)
    for number, (centre, gap) in enumerate(zip(spine.centres, gaps, strict=True)):
        x = float(spine.x(np.array(centre)))
        half = spine.girth[number] * (1.6 + 0.022 * (centre + 9))
        box = outline * [half, 0.435 * gap]
        sheet.polygon(box + np.array([x, centre]), 0.8)
        sheet.polygon(box * [0.86, 0.78] + np.array([x, centre]), 0.62)
        for side in (-1, 1):
            strength = spine.pedicles[number, max(side, 0)]
            sheet.ellipse(x + side * half * 0.62, centre - 0.25, 0.36, 0.5, strength)
        aside, below = spine.processes[number]
        sheet.ellipse(x + aside, centre + below, 0.35, 0.75, 0.85)
