"""Header facts of a DICOM film. A broken value is no value: it becomes ``None`` and stops nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date
from typing import Any

_AGE = re.compile(r"^(\d{1,3})([DWMY])$")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


_FRONTAL = re.compile(r"\b(PA|AP)\b|POSTERO|ANTERO|FRONTAL")
_CHEST = re.compile(r"CHEST|THORA|LUNG|RIB|HEART")
_OTHER_PARTS = re.compile(
    r"\b(HAND|FINGER|WRIST|ELBOW|ARM|SHOULDER|CLAVICLE|FOOT|TOE|ANKLE|KNEE|LEG|FEMUR|HIP|PELVIS|ABDOMEN|"
    r"SPINE|SKULL|HEAD|NECK|JAW|TEETH|BREAST)\b"
)


def value(ds: Any, keyword: str) -> Any:
    """The value of a data element, ``None`` where it is missing, empty or cannot be understood."""
    try:
        found = ds.get(keyword)
    except Exception:  # pydicom converts on access, and broken values raise almost anything
        return None
    return None if found is None or (isinstance(found, str | bytes | Sequence) and not len(found)) else found


def text(ds: Any, keyword: str) -> str | None:
    """The value as one line of text."""
    found = value(ds, keyword)
    if found is None:
        return None
    if isinstance(found, Sequence) and not isinstance(found, str | bytes):
        found = found[0]
    try:
        line = " ".join(str(found).replace("\x00", " ").split())
    except Exception:
        return None
    return line or None


def number(ds: Any, keyword: str) -> float | None:
    """The first value as a finite number."""
    found = numbers(ds, keyword)
    return found[0] if found else None


def numbers(ds: Any, keyword: str) -> tuple[float, ...]:
    """All values as finite numbers; empty where one of them is none."""
    found = value(ds, keyword)
    if found is None:
        return ()
    several = found if isinstance(found, Sequence) and not isinstance(found, str | bytes) else [found]
    try:
        result = tuple(float(item) for item in several)
    except (TypeError, ValueError, OverflowError):
        return ()
    return result if all(math.isfinite(item) for item in result) else ()


def whole(ds: Any, keyword: str) -> int | None:
    """The first value as a whole number."""
    found = number(ds, keyword)
    return int(found) if found is not None else None


def view(ds: Any) -> str | None:
    """ViewPosition; where it is empty, what code, orientation or the name of the series say of a side view.

    PS3.3 C.8.11.5.1 lets ViewPosition be empty in DX, whose view stands in ViewCodeSequence. Rows that run
    to the back or the front of the patient (PatientOrientation, C.7.6.1.1.1) are those of a side view.
    """
    stated = text(ds, "ViewPosition")
    if stated is not None:
        return stated
    coded = _meaning(ds, "ViewCodeSequence")
    if re.search(r"LATERAL|OBLIQUE", coded) and not _FRONTAL.search(coded):
        return "LATERAL" if "LATERAL" in coded else "OBLIQUE"
    if (text(ds, "PatientOrientation") or "")[:1].upper() in ("A", "P"):
        return "LATERAL"
    series = (text(ds, "SeriesDescription") or "").upper()
    return "LATERAL" if re.search(r"\bLAT(ERAL)?\b", series) and not _FRONTAL.search(series) else None


def body_part(ds: Any) -> str | None:
    """BodyPartExamined; an animal's kind; where it is empty, what the region's code says of another part."""
    species = (text(ds, "PatientSpeciesDescription") or "").upper()
    if species and not re.search(r"HUMAN|HOMO", species):
        return species
    stated = text(ds, "BodyPartExamined")
    if stated is not None:
        return stated
    coded = _meaning(ds, "AnatomicRegionSequence")
    found = _OTHER_PARTS.search(coded)
    return found.group() if found and not _CHEST.search(coded) else None


def _meaning(ds: Any, keyword: str) -> str:
    """CodeMeaning of the first item of a code sequence, in upper case; empty where there is none."""
    found = value(ds, keyword)
    try:
        return (text(found[0], "CodeMeaning") or "").upper() if found is not None else ""
    except Exception:  # no sequence after all
        return ""


def age(ds: Any) -> float | None:
    """Years: from ``PatientAge`` (``045Y``, ``006M`` …), else from the birth date and the study's date."""
    stated = _AGE.match((text(ds, "PatientAge") or "").upper())
    if stated:
        return int(stated[1]) * _YEARS[stated[2]]
    born = day(ds, "PatientBirthDate")
    taken = next(
        (found for keyword in ("StudyDate", "AcquisitionDate", "ContentDate") if (found := day(ds, keyword))),
        None,
    )
    if born is None or taken is None or taken < born:
        return None
    return (taken - born).days / 365.25


def day(ds: Any, keyword: str) -> date | None:
    """A DICOM date (``YYYYMMDD``; ``YYYY.MM.DD`` of the old standard)."""
    digits = (text(ds, keyword) or "").replace(".", "").replace("-", "")
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) if len(digits) == 8 else None
    except ValueError:
        return None


def sex(ds: Any) -> str | None:
    """``M``, ``F`` or ``O``."""
    stated = (text(ds, "PatientSex") or "").upper()[:1]
    return stated if stated in ("M", "F", "O") else None
