"""Files that a person drags onto the page: DICOM, JPEG, PNG, or a zip of them → the archive, one by one.

The content decides what a file is, and its name is kept for people to read, nothing else: nothing is ever
written under it. A zip is read in a stream and counted as it inflates; what it claims is not believed.
"""

from __future__ import annotations

import io
import logging
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Any, BinaryIO

from carina.errors import InstanceTooLarge, NotDicom, StoreError
from carina.serving.header import read_header
from carina.serving.intake import DICOM, Intake, Receipt, picture_type

LOGGER = logging.getLogger(__name__)
_BLOCK = 2**18
_ENTRIES, _DIRECTORY = 20_000, 2**22  # of a zip: files, and bytes of its list of them
_RATIO, _SPARED = 100, 2**26  # what inflates to more than 64 MB and a hundred times its size is no film
_TAIL = 65557  # bytes at the end of a zip in which its end record stands (APPNOTE 4.3.16)
_CHAFF = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")
_CONTROL = dict.fromkeys((*range(32), 127, *range(0x80, 0xA0)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file: a receipt, or the reason why there is none."""

    name: str
    receipt: Receipt | None
    reason: str | None = None
    status: int = 200  # of HTTP


def take(
    file: BinaryIO,
    name: str,
    intake: Intake,
    *,
    sender: str | None,
    address: str | None,
    largest: int,
    most: int,
) -> Iterator[Outcome]:
    """Take ``file`` (which can seek), called ``name``; a zip yields an outcome for each file in it.

    ``largest`` is the most bytes of one film, ``most`` of all that a zip inflates to. Never raises for what
    a file holds.
    """
    how = {"origin": "upload", "sender": sender, "address": address}
    start = file.read(4)
    file.seek(0)
    if start in (b"PK\x03\x04", b"PK\x05\x06"):
        yield from _zip(file, shown(name), intake, how, largest, most)
    else:
        yield _one(file, shown(name), intake, how, largest)


def shown(name: str) -> str:
    """A file's name as a person may read it: its last part, without control characters."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].translate(_CONTROL).strip()[:200] or "film"


def _one(file: IO[bytes] | _Counted, name: str, intake: Intake, how: dict[str, Any], largest: int) -> Outcome:
    try:
        start = file.read(_BLOCK)
        media_type = picture_type(start) or DICOM
        if media_type == DICOM and start[:4] in (b"PK\x03\x04", b"\x1f\x8b\x08\x00"):
            raise NotDicom("an archive within an archive; unpack it first")
        if media_type == DICOM and start[128:132] != b"DICM":
            read_header(io.BytesIO(start), "")  # what is no film is not written to the disk first
        with intake.archive.receive() as incoming:
            while start:
                if incoming.size + len(start) > largest:
                    raise InstanceTooLarge("it is larger than is taken; see largest_instance")
                incoming.write(start)
                start = file.read(_BLOCK)
            stored = incoming.finish()
        return Outcome(name, intake.take(stored, name=name, media_type=media_type, **how))
    except StoreError as error:
        reason = str(error)
        if type(error) is NotDicom and "no DICOM instance" in reason:
            reason = "neither DICOM nor JPEG nor PNG; give one of these, or a zip of them"
        LOGGER.info("an uploaded file was not kept: %s", type(error).__name__)
        return Outcome(name, None, reason, error.http)


def _zip(
    file: BinaryIO, name: str, intake: Intake, how: dict[str, Any], largest: int, most: int
) -> Iterator[Outcome]:
    try:
        _check_directory(file)
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        fault = str(error) if isinstance(error, _Refused) else "the zip cannot be read; make it anew"
        yield Outcome(name, None, fault, 415)
        return
    with archive:
        entries = archive.infolist()
        if _overlap(entries):
            yield Outcome(name, None, "the files of the zip lie in each other; make the zip anew", 415)
            return
        left = min(most, max(4 * _SPARED, _RATIO * file.seek(0, io.SEEK_END)))
        for entry in entries:
            if entry.is_dir() or any(chaff in entry.filename for chaff in _CHAFF):
                continue
            if left <= 0:
                yield Outcome(name, None, "the zip inflates to more than is taken; send fewer films", 413)
                return
            outcome, used = _entry(archive, entry, intake, how, min(largest, left))
            left -= used
            yield outcome


def _entry(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, intake: Intake, how: dict[str, Any], largest: int
) -> tuple[Outcome, int]:
    """One file of a zip, and how many bytes it inflated to."""
    name = shown(entry.filename)
    if entry.flag_bits & 1:
        return Outcome(name, None, "it is encrypted; make the zip without a password", 415), 0
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return Outcome(name, None, "a way of packing that is not read; make the zip anew", 415), 0
    counted = None
    try:
        with archive.open(entry) as content:
            counted = _Counted(content, max(_SPARED, _RATIO * entry.compress_size))
            return _one(counted, name, intake, how, largest), counted.count
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError):
        return Outcome(name, None, "it is damaged within the zip; make the zip anew", 415), (
            counted.count if counted else 0
        )


class _Counted:
    """A stream that counts what is read of it, and ends in ``InstanceTooLarge`` beyond ``most`` bytes."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream, self._most, self.count = stream, most, 0

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self.count += len(content)
        if self.count > self._most:
            raise InstanceTooLarge("it inflates to far more than a film; send the film itself")
        return content


def _overlap(entries: list[zipfile.ZipInfo]) -> bool:
    """Whether two files of a zip share bytes: one stream that is listed many times over (Fifield 2019)."""
    places = sorted((entry.header_offset, entry.compress_size) for entry in entries)
    return any(at + size > after for (at, size), (after, _) in pairwise(places))


class _Refused(ValueError):
    pass


def _check_directory(file: BinaryIO) -> None:
    """Raises where the zip's list of files is larger than is read: it would be held in memory whole."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    file.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 20 > len(tail):
        raise _Refused("the zip ends early; send it again")
    entries, length = struct.unpack_from("<HI", tail, at + 10)
    if entries > _ENTRIES or length > _DIRECTORY or b"PK\x06\x07" in tail[max(0, at - 20) : at]:
        raise _Refused(f"the zip holds more than {_ENTRIES} files, or is in ZIP64 form; send fewer at a time")
