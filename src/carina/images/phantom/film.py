"""One phantom: a patient, a disease, a film of it, and the truth about all three.

Everything follows from the arguments: the patient's number makes the anatomy and the disease's place,
``seed`` makes positioning, exposure and noise. Films of one patient share the first and differ in the
second; the same patient with and without disease differs in nothing but the disease.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carina.images.phantom.anatomy import project
from carina.images.phantom.bend import Mesh
from carina.images.phantom.canvas import Canvas
from carina.images.phantom.exposure import Look, expose, frame, quantise
from carina.images.phantom.lesions import FINDINGS, make_lesion
from carina.images.phantom.patient import make_patient, make_pose
from carina.records import Pixels

Mask = NDArray[np.bool_]
_FIELD = 39.0  # cm: the longer side of the film
_SMALLEST = 224  # pixels: smaller films are drawn at this size and reduced


@dataclass(frozen=True, slots=True)
class Phantom:
    """A synthetic film with its truth. ``lesion`` and ``lungs`` are (H, W) bool, in the film's pixels."""

    pixels: Pixels  # (H, W) uint8, uint16 where the look has more than 8 bits
    lesion: Mask
    lungs: Mask  # the lung fields as they were before the disease
    class_name: str
    finding: str
    severity: float  # 0 for Normal
    patient: int
    seed: int
    age: int
    sex: str
    view: str
    look: Look


def phantom(
    class_name: str,
    *,
    seed: int,
    patient: int | None = None,
    severity: float | None = None,
    finding: str | None = None,
    look: Look | None = None,
    size: int = 512,
) -> Phantom:
    """Make one frontal chest film of ``class_name``, ``size`` pixels on its longer side.

    ``patient`` defaults to ``seed``; ``severity`` in (0, 1] to a draw from [0.6, 1] that a patient's
    films share but for a little; ``finding`` to one of the class's (``FINDINGS``). ``ValueError`` for
    an unknown class or finding, a severity outside (0, 1], a negative seed or a size below 32.
    """
    look = look or Look()
    number = seed if patient is None else patient
    _check(class_name, finding, severity, seed, number, size)
    anatomy, place = _rng(number, 1), _rng(number, 2, sorted(FINDINGS).index(class_name))
    position, exposure = _rng(number, 3, seed), _rng(number, 4, seed)
    person = make_patient(number, anatomy)
    pose = make_pose(position, look.ap_share)
    drawn, jitter = place.uniform(0.63, 0.97), position.uniform(-0.03, 0.03)
    choice = FINDINGS[class_name][place.integers(len(FINDINGS[class_name]))]
    finding = finding or choice
    if finding == "none":
        severity = 0.0
    elif severity is None:
        severity = float(drawn + jitter)
    canvas = _canvas(size, look, pose.zoom, pose.dx, pose.dy, pose.tilt)
    body = project(person, pose, canvas, anatomy)
    lesion = make_lesion(finding, body, severity, place)
    mesh = Mesh(canvas, (person.build, pose.posture))
    attenuation = mesh.map(body.attenuation + body.vessels + lesion.attenuation)
    lesion_mask, lungs = mesh.masks(lesion.mask, body.lungs)
    behind_lung = float(np.median(body.attenuation[::4, ::4][body.lungs[::4, ::4]]))
    gray = frame(expose(attenuation, behind_lung, look, exposure), look, exposure)
    width, height = _film_size(size, look.aspect * look.stretch)
    if gray.shape != (height, width):
        method = Image.Resampling.BICUBIC if width > gray.shape[1] else Image.Resampling.BOX
        gray = np.asarray(Image.fromarray(gray).resize((width, height), method), dtype=np.float32).clip(0, 1)
    return Phantom(
        pixels=quantise(gray, look.bits),
        lesion=_fit(lesion_mask, width, height),
        lungs=_fit(lungs, width, height),
        class_name=class_name,
        finding=finding,
        severity=severity,
        patient=number,
        seed=seed,
        age=person.age,
        sex=person.sex,
        view=pose.view,
        look=look,
    )


def _check(
    class_name: str, finding: str | None, severity: float | None, seed: int, patient: int, size: int
) -> None:
    if class_name not in FINDINGS:
        raise ValueError(f"no phantom of class {class_name!r}; there are {', '.join(FINDINGS)}")
    if finding is not None and finding not in FINDINGS[class_name]:
        raise ValueError(f"{class_name} has no finding {finding!r}; it has {', '.join(FINDINGS[class_name])}")
    if severity is not None and not 0 < severity <= 1:
        raise ValueError(f"severity is {severity}; it must be above 0 and at most 1")
    if seed < 0 or patient < 0:
        raise ValueError("seed and patient must not be negative")
    if size < 32:
        raise ValueError(f"size is {size}; a film has at least 32 pixels a side")


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def _film_size(size: int, aspect: float) -> tuple[int, int]:
    """Width and height of a film whose longer side has ``size`` pixels."""
    return (size, round(size / aspect)) if aspect >= 1 else (round(size * aspect), size)


def _canvas(size: int, look: Look, zoom: float, dx: float, dy: float, tilt: float) -> Canvas:
    width, height = _film_size(max(size, _SMALLEST), look.aspect)
    across, down = _film_size(1000, look.aspect)
    scale = zoom * max(width, height) / (_FIELD * max(1.0, 0.94 * 1000 / min(across, down)))
    middle = 12.6 + dy  # cm below the top of the lungs
    return Canvas(width, height, scale, dx - width / scale / 2, middle - height / scale / 2, tilt)


def _fit(mask: Mask, width: int, height: int) -> Mask:
    if mask.shape == (height, width):
        return mask
    resized = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)
    return np.asarray(resized, dtype=np.uint8) >= 128
