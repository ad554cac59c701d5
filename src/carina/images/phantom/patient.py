"""Who stands before the film, and how: everything that is drawn at random about the anatomy.

People differ in more than size, so besides the measures of textbook adults (cm) each has ribs, spine,
heart and great vessels of their own. One film differs from the next of the same person by its pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carina.images.phantom.bend import Bend
from carina.images.phantom.canvas import Array

RIBS = 10
Numbers = NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Ribs:
    """Each (2, RIBS): the right side of the patient first, then the left. Lengths in cm."""

    start: Numbers  # y beside the spine
    drop: Numbers  # from there down to the side
    hump: Numbers  # how far a rib rises first
    breadth: Numbers
    front: Numbers  # how far it runs down again in front
    cartilage: Numbers  # x at which the bone ends in front
    wave: Numbers  # (2, RIBS) height of an irregular bend
    density: float


@dataclass(frozen=True, slots=True)
class Spine:
    """Vertebrae and the line they stand on."""

    sway: Numbers  # (2,) cm: of a long and of a short curve
    phase: Numbers  # (2,)
    centres: Numbers  # (N,) y of the vertebrae
    girth: Numbers  # (N,) relative width
    pedicles: Numbers  # (N, 2) how dense
    processes: Numbers  # (N, 2) x and y off the middle
    density: float  # of the bone, relative

    def x(self, y: Array | Numbers) -> Numbers:
        """Where the middle of the spine is at height ``y``, cm."""
        high, low = self.sway
        return np.asarray(high * np.sin(y / 9.0 + self.phase[0]) + low * np.sin(y / 5.0 + self.phase[1]))


@dataclass(frozen=True, slots=True)
class Heart:
    """Lengths in cm but for ``size``."""

    size: float  # relative
    lean: float  # radians; a steep heart in the slender, a lying one in the stout
    x: float
    long: float  # half axes of the left outline
    short: float
    right: float  # half width of the right one
    knob: tuple[float, float, float]  # aortic knob: x, y, radius
    trunk: tuple[float, float]  # pulmonary trunk: x, y
    descending: float  # how much of the descending aorta is seen
    cava: float  # x of the upper vena cava


@dataclass(frozen=True, slots=True)
class Patient:
    """What stays the same from film to film. Lengths in cm."""

    number: int
    age: int
    sex: str  # "M", "F"
    half_width: float  # of the chest cavity
    half_depth: float
    narrow: float  # share of the width that is missing at the top
    taper: float  # cm within which the chest widens
    flare: float  # cm by which it goes on widening below
    apex: float  # |x| of the top of the lungs
    wall: float  # soft tissue over the ribs
    dome: float  # y of the right dome at full inspiration
    dome_left: float  # by how much the left one is lower
    dome_peak: float  # |x| of the domes' highest points
    dome_fall: tuple[float, float]  # cm they fall to the side and to the middle
    neck: float
    shoulder: tuple[float, float]  # height over the lungs, steepness
    breast: float  # thickness
    breast_at: tuple[float, float, float]  # |x|, y, size
    collar: Numbers  # (2, 3) y of the clavicles off the usual course
    blade: Numbers  # (2, 5, 2) corners of the shoulder blades off the usual
    hila: Numbers  # (2, 2) x, y
    ribs: Ribs
    spine: Spine
    heart: Heart
    build: Bend


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
    arms: float  # cm by which the arms are spread
    posture: Bend


def make_patient(number: int, rng: Rng) -> Patient:
    """Draw one adult; ``rng`` is the patient's own, so the same number gives the same person."""
    female = bool(rng.random() < 0.5)
    stout = float(rng.normal())
    age = int(rng.integers(18, 90))
    return Patient(
        number=number,
        age=age,
        sex="F" if female else "M",
        half_width=float(rng.normal(12.4 if female else 13.4, 0.7)),
        half_depth=float(rng.normal(8.2, 0.5)),
        narrow=float(rng.normal(0.5, 0.035)),
        taper=float(rng.normal(6.0, 0.7)),
        flare=float(rng.normal(0.2, 0.5)),
        apex=float(rng.normal(5.4, 0.4)),
        wall=float(np.clip(2.7 + 0.9 * stout, 1.3, 5.0)),
        dome=float(np.clip(rng.normal(21.0 - 0.6 * stout, 1.1), 18.5, 23.5)),
        dome_left=float(np.clip(rng.normal(1.3, 0.6), 0.2, 2.6)),
        dome_peak=float(rng.normal(6.6, 0.6)),
        dome_fall=(float(rng.normal(4.6, 0.7)), float(rng.normal(2.0, 0.5))),
        neck=float(rng.normal(6.0, 0.6)),
        shoulder=(float(rng.normal(6.2, 0.7)), float(rng.normal(0.38, 0.07))),
        breast=float(np.clip(rng.normal(2.0, 0.8), 0.3, 3.6)) if female else 0.0,
        breast_at=(float(rng.normal(7.6, 0.7)), float(rng.normal(18.5, 1.3)), float(rng.normal(1.0, 0.12))),
        collar=rng.normal(0, 0.45, (2, 3)) + rng.normal(0, 0.6),
        blade=rng.normal(0, 0.5, (2, 5, 2)) + rng.normal(0, [0.8, 1.0], (2, 1, 2)),
        hila=np.array([(3.0, 12.4), (3.0, 11.6)]) + rng.normal(0, [0.25, 0.6], (2, 2)),
        ribs=_ribs(rng),
        spine=_spine(rng),
        heart=_heart(rng, stout, age),
        build=Bend.draw(rng, 0.34, (11.0, 26.0)),
    )


def make_pose(rng: Rng, ap_share: float) -> Pose:
    """Draw the positioning of one film."""
    ap = bool(rng.random() < ap_share)
    return Pose(
        view="AP" if ap else "PA",
        tilt=float(rng.normal(0, 0.028)),
        dx=float(rng.normal(0, 0.8)),
        dy=float(rng.normal(0, 0.8)),
        zoom=float(rng.normal(1.0, 0.035)),
        turn=float(rng.normal(0, 0.45)),
        inspiration=float(abs(rng.normal(0, 0.8)) + (0.8 if ap else 0.0)),
        shoulders=float(rng.normal(1.5 if ap else 0.0, 0.7)),
        arms=float(rng.normal(0, 1.0)),
        posture=Bend.draw(rng, 0.27, (12.0, 26.0)),
    )


def _ribs(rng: Rng) -> Ribs:
    number = np.arange(1, RIBS + 1)

    def each(deviation: float, side: float = 0.0) -> Numbers:
        """About one: rib by rib, less so between the sides."""
        both = rng.normal(0, deviation, (1, RIBS)) + rng.normal(0, 0.5 * deviation, (2, RIBS))
        return np.asarray(1 + both + rng.normal(0, side, (2, 1)))

    gap = rng.normal(2.15, 0.17)
    start = -1.6 + rng.normal(0, 0.45) + np.cumsum(gap * each(0.07), axis=1) + rng.normal(0, 0.2, (2, 1))
    slope = max(1.8, rng.normal(4.2, 0.95))
    share = np.where(number > 1, 0.55 + 0.06 * number + rng.normal(0, 0.012) * (number - 5), 0.8)
    return Ribs(
        start=start,
        drop=slope * share * each(0.07, 0.07),
        hump=0.9 * rng.normal(1, 0.3) * each(0.15),
        breadth=(1.15 + 0.03 * number) * rng.normal(1, 0.12) * each(0.08),
        front=(4.2 + 0.25 * number) * rng.normal(1, 0.13) * each(0.08, 0.05),
        cartilage=3.6 + 0.5 * number + rng.normal(0, 0.6) + rng.normal(0, 0.5, (2, RIBS)),
        wave=rng.normal(0, 0.2, (2, RIBS)),
        density=float(np.clip(rng.normal(1.1, 0.15), 0.8, 1.5)),
    )


def _spine(rng: Rng) -> Spine:
    height = rng.normal(2.25, 0.16) * (1 + 0.018 * np.arange(24)) * rng.normal(1, 0.04, 24)
    count = len(height)
    return Spine(
        sway=rng.normal(0, [0.4, 0.15]),
        phase=rng.uniform(0, 2 * np.pi, 2),
        centres=-11.0 + rng.uniform(0, 2.3) + np.cumsum(height),
        girth=rng.normal(1, 0.08) * rng.normal(1, 0.03, count),
        pedicles=np.clip(rng.normal(rng.uniform(0.66, 0.95), 0.08, (count, 2)), 0.5, 1),
        processes=rng.normal(0, [0.12, 0.2], (count, 2)) + [0, rng.normal(0.7, 0.2)],
        density=float(rng.uniform(0.55, 1.25)),
    )


def _heart(rng: Rng, stout: float, age: int) -> Heart:
    return Heart(
        size=float(np.clip(rng.normal(1.0, 0.045), 0.9, 1.08)),
        lean=float(np.clip(rng.normal(0.72 - 0.08 * stout, 0.1), 0.42, 0.98)),
        x=float(rng.normal(1.9, 0.25)),
        long=float(rng.normal(6.9, 0.3)),
        short=float(rng.normal(4.6, 0.2)),
        right=float(rng.normal(3.3, 0.25)),
        knob=(
            float(rng.normal(2.2, 0.25)),
            float(rng.normal(7.0, 0.6)),
            float(np.clip(rng.normal(1.45 + 0.008 * (age - 50), 0.2), 0.9, 2.2)),
        ),
        trunk=(float(rng.normal(1.9, 0.25)), float(rng.normal(11.2, 0.6))),
        descending=float(rng.uniform(0.15, 0.5)),
        cava=float(rng.normal(1.9, 0.25)),
    )
