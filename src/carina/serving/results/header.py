"""Patient and study of a result, as the sender of the films named them.

Decoded to Unicode, with the sender's own character set kept beside it, so that what is written for the same
patient has the same bytes. Values that no DICOM object may carry (a sex of "X", a date of "1.1.60") become
empty, because a PACS may refuse the object for them; identifiers are never touched.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, BinaryIO

from pydicom import Dataset, dcmread
from pydicom.charset import python_encoding
from pydicom.multival import MultiValue

from carina.images.patience import Patience
from carina.serving.schema import Study

UTF8 = "ISO_IR 192"
TEXTS = ("PatientName", "PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyID", "StudyDescription",
         "ReferringPhysicianName", "InstitutionName")  # fmt: skip
DATES = ("PatientBirthDate", "StudyDate")
TIMES = ("StudyTime",)
REQUIRED = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
            "AccessionNumber", "ReferringPhysicianName")  # fmt: skip
_DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1")  # a megabyte of them may fill the memory
_PLAIN = str.maketrans(
    {"–": "-", "—": "-", "…": "...", "≥": ">=", "≤": "<=", "×": "x", "°": " deg", "’": "'"}
)


def from_file(stream: BinaryIO, transfer_syntax: str | None) -> Dataset | None:
    """Patient and study of a stored film; None where its header cannot be read."""
    if transfer_syntax in _DEFLATED:
        return None
    wanted = ["SpecificCharacterSet", "PatientSex", "PatientAge", *TEXTS, *DATES, *TIMES]
    try:
        patient: Any = Patience(stream)
        found = dcmread(patient, stop_before_pixels=True, specific_tags=wanted, force=True)
        header = Dataset()
        for name in TEXTS:
            if name in found:
                setattr(header, name, str(found[name].value or ""))
        _add(header, str(found.get("PatientSex") or ""), str(found.get("PatientAge") or ""))
        for name in (*DATES, *TIMES):
            setattr(header, name, str(found.get(name) or ""))
        _character_set(header, found.get("SpecificCharacterSet"))
    except Exception:  # whatever a stranger's header makes of pydicom: the rows stand in for it
        return None
    return _completed(header)


def from_rows(study: Study) -> Dataset:
    """The same from the study's row, whose texts are Unicode already."""
    header = Dataset()
    rows = (study.patient_name, study.patient_id, study.issuer, study.accession, study.study_id,
            study.description, study.referring, study.institution)  # fmt: skip
    for name, value in zip(TEXTS, rows, strict=True):
        if value is not None:
            setattr(header, name, value)
    _add(header, study.sex or "", "")
    header.PatientBirthDate = study.birth_date or ""
    header.StudyDate, header.StudyTime = study.study_date or "", study.study_time or ""
    _character_set(header, (study.character_set or "").split("\\"))
    return _completed(header)


def plain(text: str, length: int | None = None) -> str:
    """``text`` with typographic signs in ASCII, on one line, cut to ``length`` characters."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text.translate(_PLAIN)).split())
    return line if length is None or len(line) <= length else f"{line[: length - 3]}..."


def character_set(header: Dataset, texts: list[str]) -> list[str]:
    """The character set of an object that carries ``header`` and ``texts`` of ours.

    The sender's, as long as ours are ASCII; else UTF-8, which has room for both.
    """
    own = header.get("SpecificCharacterSet")
    if not all(text.isascii() for text in texts):
        return [UTF8]
    return [] if own is None else list(own) if isinstance(own, MultiValue) else [own]


def _add(header: Dataset, sex: str, age: str) -> None:
    header.PatientSex = sex.strip() if sex.strip() in ("M", "F", "O") else ""
    if re.fullmatch(r"\d{3}[DWMY]", age):
        header.PatientAge = age


def _character_set(header: Dataset, named: object) -> None:
    """Keep the sender's character set where it is known and can say what is there; else UTF-8."""
    names = [named] if isinstance(named, str) else list(named or ())  # type: ignore[call-overload]
    known = [str(name).strip() for name in names]
    while known and not known[-1]:
        known.pop()
    if any(name and name not in python_encoding for name in known):
        known = [UTF8]
    if known and not _can_say(header, known):
        known = [UTF8]
    if known:
        header.SpecificCharacterSet = known if len(known) > 1 else known[0]
    elif not _can_say(header, [""]):
        header.SpecificCharacterSet = UTF8


def _can_say(header: Dataset, names: list[str]) -> bool:
    encodings = [python_encoding[name] for name in names]
    texts = [str(header[name].value or "") for name in TEXTS if name in header]
    if all(text.isascii() for text in texts):
        return True
    if len(encodings) > 1:
        return all(_each_says(text, encodings) for text in texts)
    return all(_says(text, encodings[0]) for text in texts)


def _says(text: str, encoding: str) -> bool:
    try:
        return bool(text.encode(encoding).decode(encoding) == text)
    except UnicodeError:
        return False


def _each_says(text: str, encodings: list[str]) -> bool:
    """With code extensions every character needs one of the sets."""
    return all(any(_says(sign, encoding) for encoding in encodings) for sign in text)


def _completed(header: Dataset) -> Dataset:
    for name in DATES:
        header[name].value = _date(str(header[name].value or "")) if name in header else ""
    header.StudyTime = _time(str(header.get("StudyTime") or ""))
    for name in REQUIRED:
        if name not in header:
            setattr(header, name, "")
    return header


def _date(text: str) -> str:
    digits = text.strip().replace(".", "")
    try:
        return digits if datetime.strptime(digits, "%Y%m%d") and len(digits) == 8 else ""
    except ValueError:
        return ""


def _time(text: str) -> str:
    digits = text.strip().replace(":", "")
    known = re.fullmatch(r"([01]\d|2[0-3])([0-5]\d)?([0-5]\d(\.\d{1,6})?)?", digits)
    return digits if known and (known[2] or not known[3]) else ""
