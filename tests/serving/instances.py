"""DICOM instances for tests of the receiving side, as bytes, each with UIDs of its own."""

from __future__ import annotations

import itertools
from typing import Any

import films
import numpy as np
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian

from carina.serving.archive import Archive, Stored

ROOT = "1.2.826.0.1.3680043.10.999"
_numbers = itertools.count(1)


def film(side: int = 64, seed: int = 0) -> NDArray[np.uint16]:
    """``side`` × ``side`` values of 12 bits; 512 makes half a megabyte."""
    return np.random.default_rng(seed).integers(0, 4096, (side, side), dtype=np.uint16)


def instance(
    number: int | None = None,
    *,
    study: int | None = None,
    side: int = 64,
    seed: int = 0,
    syntax: Any = ExplicitVRLittleEndian,
    **elements: Any,
) -> bytes:
    """A DX instance; ``study`` puts several into one study. Without a number it is unlike any other."""
    number = next(_numbers) if number is None else number
    study = number if study is None else study
    given = {
        "SOPInstanceUID": f"{ROOT}.3.{number}",
        "SeriesInstanceUID": f"{ROOT}.2.{study}",
        "StudyInstanceUID": f"{ROOT}.1.{study}",
        "InstanceNumber": number,
    }
    return films.dicom(film(side, seed), syntax, bits=12, **(given | elements))


def uid_of(number: int) -> str:
    """The SOP Instance UID that :func:`instance` gives to ``number``."""
    return f"{ROOT}.3.{number}"


def keep(archive: Archive, content: bytes) -> Stored:
    """``content`` in the archive."""
    with archive.receive() as incoming:
        incoming.write(content)
        return incoming.finish()
