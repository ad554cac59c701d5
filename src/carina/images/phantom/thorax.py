"""The inner outline of the chest: its wall and the diaphragm."""

from __future__ import annotations

import numpy as np

from carina.images.phantom.canvas import Array, ramp
from carina.images.phantom.patient import Patient, Pose


def inner_half_width(patient: Patient, y: Array) -> Array:
    """Half of the inner width of the chest at height ``y``, cm: narrow at the top, nearly full from 14 on."""
    fall = np.exp(-((np.clip(y + 1.5, 0, None) / patient.taper) ** 1.3))
    width = patient.half_width * (1 - patient.narrow * fall) + patient.flare * ramp(y - 12, 10.0)
    return np.asarray(width, dtype=np.float32)


def half_width_at(patient: Patient, height: float) -> float:
    """Half of the inner width of the chest at one height."""
    return float(inner_half_width(patient, np.array([[height]], dtype=np.float32))[0, 0])


def dome_height(patient: Patient, pose: Pose, side: int) -> float:
    """y of the highest point of one dome; ``side`` -1 is the image's left, the patient's right."""
    return patient.dome - pose.inspiration + (patient.dome_left if side > 0 else 0.0)


def diaphragm(patient: Patient, pose: Pose, x: Array) -> Array:
    """y of the domes: the right one (image left) stands higher; both fall steeply to the side."""
    peak, (outwards, inwards) = patient.dome_peak, patient.dome_fall
    u = np.abs(x)
    high = np.where(x < 0, dome_height(patient, pose, -1), dome_height(patient, pose, 1))
    beyond = np.clip((u - peak) / (patient.half_width - peak), 0, 1.3)
    outside = (beyond * beyond) ** 2 * outwards
    inside = np.clip((peak - u) / peak, 0, 1) ** 2 * inwards
    return np.asarray(high + outside + inside, dtype=np.float32)
