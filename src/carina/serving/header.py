"""What the header of a stored file says of itself: bounded, decoded as DICOM has it, and never a crash.

Reads at most the first megabytes of a file and stops before the pixels; a deflated header is inflated no
further than that. Odd content is no error: what cannot be understood becomes ``None``, and what must be
there to tell one instance from another (its UIDs) is made up from the content, always to the same value,
with ``problem`` saying so. Knows nothing of the database.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zlib
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, BinaryIO

from carina.errors import NotDicom, NotStored, StoreError
from carina.images import facts
from carina.images.patience import Patience
from carina.images.quiet import quiet
from carina.serving.results.device import is_ours

IMAGES: dict[str, str] = {  # the SOP classes that are taken (PS3.4, table B.5-1)
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray, for presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "Digital X-Ray, for processing",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.1": "Multi-frame Single Bit Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.2": "Multi-frame Grayscale Byte Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.3": "Multi-frame Grayscale Word Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.4": "Multi-frame True Color Secondary Capture",
}
DICOMDIR = "1.2.840.10008.1.3.10"
DEFLATED = "1.2.840.10008.1.2.1.99"
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_ASCII_ALIKE = ("", "ISO_IR 6", "ISO_IR 100", "ISO_IR 192")  # where ASCII bytes are ASCII characters
_UID = re.compile(r"^[0-9.]{1,64}$")
_FIRST, _MOST = 2**18, 2**23  # bytes of a file that are looked at: at first, and at most
_PIXELS_MODULE = 0x00280000  # all that is wanted stands before the Image Pixel module
_LONGEST = 1024  # characters of one fact
_CONTROL = dict.fromkeys((*range(32), 127, *range(0x80, 0xA0)), " ")
_TAGS = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "Manufacturer",
    "ManufacturerModelName",
    "StudyDate",
    "AcquisitionDate",
    "ContentDate",
    "StudyTime",
    "AccessionNumber",
    "Modality",
    "InstitutionName",
    "ReferringPhysicianName",
    "StudyDescription",
    "SeriesDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "BodyPartExamined",
    "ViewPosition",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "StudyID",
    "SeriesNumber",
    "InstanceNumber",
    "Laterality",
    "ImageLaterality",
    "DirectoryRecordSequence",
)


@dataclass(frozen=True, slots=True)
class Header:
    """The facts of one instance in the words of the tables (``carina.serving.schema``)."""

    study_uid: str
    series_uid: str
    instance_uid: str
    sop_class: str | None = None
    transfer_syntax: str | None = None
    content_at: int = 0  # byte at which the data set begins, after preamble and file meta information
    patient_id: str | None = None
    issuer: str | None = None
    patient_name: str | None = None
    birth_date: str | None = None
    sex: str | None = None
    age: float | None = None
    accession: str | None = None
    description: str | None = None
    study_date: str | None = None
    study_time: str | None = None
    referring: str | None = None
    institution: str | None = None
    study_id: str | None = None
    character_set: str | None = None
    modality: str | None = None
    series_number: int | None = None
    series_description: str | None = None
    body_part: str | None = None
    laterality: str | None = None
    number: int | None = None
    view: str | None = None
    problem: str | None = None
    ours: bool = False  # one of our own results, on its way back from the PACS


def read_header(file: BinaryIO, sha256: str) -> Header:
    """The header of a DICOM file. ``sha256`` of its content stands in for UIDs that are missing.

    Raises ``NotDicom`` for what is no DICOM instance, ``NotStored`` for kinds that are not taken. Whatever
    else is wrong with it is its ``problem``: a film is never lost over its header.
    """
    with quiet:
        try:
            return _header(file, sha256)
        except (StoreError, OSError):
            raise
        except Exception as error:
            why = f"its header cannot be understood ({type(error).__name__})"
            return replace(picture_header(sha256), problem=why)


def _header(file: BinaryIO, sha256: str) -> Header:
    ds, meta, at, problem = _parsed(file)
    sop_class = _uid_text(ds, "SOPClassUID") or _uid_text(meta, "MediaStorageSOPClassUID")
    instance = _uid_text(ds, "SOPInstanceUID")
    announced = _uid_text(meta, "MediaStorageSOPInstanceUID")
    if not sop_class and not instance and not announced:
        raise NotDicom("no DICOM instance: it names no SOP class and no instance; send DICOM files")
    if DICOMDIR in (sop_class, _uid_text(meta, "MediaStorageSOPClassUID")) or "DirectoryRecordSequence" in ds:
        raise NotStored("a DICOMDIR, a list of files; send the files that it lists")
    if sop_class and sop_class not in IMAGES and _UID.match(sop_class):
        raise NotStored(f"SOP class {sop_class} is not taken; send radiographs (CR, DX, SC)")
    made = _Uids(sha256, problem)
    return Header(
        study_uid=made.uid("StudyInstanceUID", _uid_text(ds, "StudyInstanceUID")),
        series_uid=made.uid("SeriesInstanceUID", _uid_text(ds, "SeriesInstanceUID")),
        instance_uid=made.uid("SOPInstanceUID", instance or announced),
        sop_class=sop_class if sop_class and _UID.match(sop_class) else None,
        transfer_syntax=_syntax(meta),
        content_at=at,
        patient_id=_text(ds, "PatientID"),
        issuer=_text(ds, "IssuerOfPatientID"),
        patient_name=_text(ds, "PatientName"),
        birth_date=_text(ds, "PatientBirthDate"),
        sex=_text(ds, "PatientSex"),
        age=facts.age(ds),
        accession=_text(ds, "AccessionNumber"),
        description=_text(ds, "StudyDescription"),
        study_date=_text(ds, "StudyDate"),
        study_time=_text(ds, "StudyTime"),
        referring=_text(ds, "ReferringPhysicianName"),
        institution=_text(ds, "InstitutionName"),
        study_id=_text(ds, "StudyID"),
        character_set=_text(ds, "SpecificCharacterSet"),
        modality=_text(ds, "Modality"),
        series_number=_whole(ds, "SeriesNumber"),
        series_description=_text(ds, "SeriesDescription"),
        body_part=_text(ds, "BodyPartExamined"),
        laterality=_text(ds, "ImageLaterality") or _text(ds, "Laterality"),
        number=_whole(ds, "InstanceNumber"),
        view=_text(ds, "ViewPosition"),
        problem=made.problem,
        ours=is_ours(ds),
    )


def picture_header(sha256: str) -> Header:
    """The header of a picture without one (JPEG, PNG): a study of its own, told by its content."""
    return Header(
        study_uid=derived_uid("StudyInstanceUID", sha256),
        series_uid=derived_uid("SeriesInstanceUID", sha256),
        instance_uid=derived_uid("SOPInstanceUID", sha256),
    )


def derived_uid(kind: str, what: str) -> str:
    """A UID made of ``what``, the same each time: 2.25. and 128 bits as a whole number (PS3.5, B.2)."""
    digest = hashlib.sha256(f"carina {kind} {what}".encode("utf-8", "surrogateescape")).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"


class _Uids:
    """UIDs as sent where they are UIDs; else made ones, and what is wrong with them."""

    def __init__(self, sha256: str, problem: str | None) -> None:
        self._sha256, self.problem = sha256, problem

    def uid(self, keyword: str, sent: str | None) -> str:
        if sent and _UID.match(sent):
            return sent
        fault = "is no UID" if sent else "is missing"
        self.problem = self.problem or f"its {keyword} {fault}"
        return derived_uid(keyword, sent or self._sha256)


def _parsed(file: BinaryIO) -> tuple[Any, Any, int, str | None]:
    """Data set, file meta information, where the data set begins, and what was wrong with them."""
    from pydicom.dataset import Dataset

    head = file.read(_FIRST)
    while True:
        try:
            ds, meta, at, reached = _parse(head)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # pydicom raises almost anything, RecursionError among it
            ds, meta, at, reached = Dataset(), _meta_of(head), 0, False
            problem: str | None = f"its header cannot be understood ({type(error).__name__})"
        else:
            problem = None
        if reached or len(head) >= _MOST or len(head) < _FIRST:
            return ds, meta, at, problem
        more = file.read(_MOST - len(head))
        if not more:
            return ds, meta, at, problem
        head += more


def _parse(head: bytes) -> tuple[Any, Any, int, bool]:
    """As :func:`_parsed`, and whether the place was reached where reading may stop."""
    import pydicom.filereader

    plain = _plain(head)
    if plain is not None:
        return (*plain, True)
    reached = False

    def far_enough(tag: int, _vr: str | None, _length: int) -> bool:
        nonlocal reached
        reached = int(tag) >= _PIXELS_MODULE
        return reached

    stream: Any = Patience(io.BytesIO(head))
    pydicom.filereader.read_preamble(stream, force=True)
    meta = pydicom.filereader._read_file_meta_info(stream)
    at = stream.tell()
    tags = list(_tags())
    if _syntax(meta) == DEFLATED:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head[at:], _MOST)
        stream = Patience(io.BytesIO(inflated))
        ds: Any = pydicom.filereader.read_dataset(
            stream, False, True, stop_when=far_enough, specific_tags=tags
        )
        return ds, meta, at, True
    stream.seek(0)
    ds = pydicom.filereader.read_partial(stream, stop_when=far_enough, force=True, specific_tags=tags)
    return ds, meta, at, reached


def _plain(head: bytes) -> tuple[dict[str, str], dict[str, str], int] | None:
    """As :func:`_parse` for the plain header of most films, at a tenth of the cost; ``None`` for others.

    Plain: little endian, in order, every length stated, and every value that is wanted in ASCII.
    """
    if head[128:132] != b"DICM":
        return None
    meta, at = _walk(head, 132, 0x00030000, explicit=True)
    syntax = meta.get("TransferSyntaxUID", "").rstrip("\0 ") if meta is not None else ""
    if meta is None or not syntax or syntax in (DEFLATED, _BIG_ENDIAN):
        return None
    ds, _ = _walk(head, at, _PIXELS_MODULE, explicit=syntax != _IMPLICIT)
    if ds is None or ds.get("SpecificCharacterSet", "").strip() not in _ASCII_ALIKE:
        return None
    return ds, meta, at


def _walk(head: bytes, at: int, end: int, *, explicit: bool) -> tuple[dict[str, str] | None, int]:
    """The wanted elements from byte ``at`` to tag ``end``, and where that stands; ``None`` if not plain."""
    found: dict[str, str] = {}
    wanted, before = _keywords(), -1
    while at + 12 <= len(head):
        group, element = struct.unpack_from("<HH", head, at)
        tag = group << 16 | element
        if tag >= end:
            return found, at
        if tag <= before:
            break
        before = tag
        vr = head[at + 4 : at + 6]
        if explicit and not vr.isalpha():
            break
        if explicit and vr not in _LONG:
            (length,) = struct.unpack_from("<H", head, at + 6)
            at += 8
        else:
            (length,) = struct.unpack_from("<I", head, at + 8 if explicit else at + 4)
            at += 12 if explicit else 8
        if at + length > len(head):  # also an undefined length
            break
        keyword = wanted.get(tag)
        if keyword is not None:
            raw = head[at : at + length]
            if not raw.isascii() or b"\x1b" in raw:
                break
            found[keyword] = raw.decode("ascii")
        at += length
    return None, at


@cache
def _keywords() -> dict[int, str]:
    from pydicom.tag import Tag

    meta = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
    return {int(Tag(keyword)): keyword for keyword in (*_TAGS, *meta)}


@cache
def _tags() -> tuple[Any, ...]:
    from pydicom.tag import Tag

    return tuple(Tag(keyword) for keyword in _TAGS)


def _meta_of(head: bytes) -> Any:
    """The file meta information alone; empty where that cannot be read either."""
    import pydicom.filereader
    from pydicom.dataset import Dataset

    try:
        stream = io.BytesIO(head)
        pydicom.filereader.read_preamble(stream, force=True)
        return pydicom.filereader._read_file_meta_info(stream)
    except Exception:
        return Dataset()


def _syntax(meta: Any) -> str | None:
    found = _uid_text(meta, "TransferSyntaxUID")
    return found if found and _UID.match(found) else None


def _uid_text(ds: Any, keyword: str) -> str | None:
    """A UID without its padding, as it was sent otherwise."""
    found = facts.value(ds, keyword)
    return None if found is None else (str(found).rstrip("\0 ")[:4096] or None)


def _whole(ds: Any, keyword: str) -> int | None:
    found = facts.whole(ds, keyword)
    return found if found is not None and abs(found) < 2**31 else None


def _text(ds: Any, keyword: str) -> str | None:
    """A value as text for a table: padding and control characters away, several values joined by ``\\``."""
    found = facts.value(ds, keyword)
    if found is None:
        return None
    try:
        several = found if type(found).__name__ == "MultiValue" else [found]
        text = "\\".join(str(item) for item in several)
    except Exception:  # a value that pydicom cannot even show
        return None
    text = text.encode("utf-8", "replace").decode("utf-8")  # no lone surrogates in a table
    return text.translate(_CONTROL).strip(" ")[:_LONGEST] or None
