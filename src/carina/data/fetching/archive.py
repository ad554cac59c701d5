"""Unpack a zip archive that came from somebody else: all of it, inside its folder, or nothing.

The names are looked at before anything is written. What is written is checked against the archive's own
checksums (CRC-32) as it is read.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from carina.data.fetching.download import check_room
from carina.errors import FetchError
from carina.records import Progress

Tell = Callable[[Progress], None] | None
_ENCRYPTED = 0x1


def unpack(archive: Path, folder: Path, *, tell: Tell = None) -> int:
    """Unpack ``archive`` into the new folder ``folder``; how many files it held.

    Raises FetchError for an archive that is incomplete, damaged or encrypted, whose names lead out of the
    folder, or that the disk has no room for; ``folder`` then does not exist.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _check(archive, members)
            check_room(folder, sum(member.file_size for member in members), archive.name)
            folder.mkdir(parents=True)
            for done, member in enumerate(members, 1):
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as packed, target.open("xb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
                if tell:
                    tell(Progress("unpacking", done, len(members)))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        archive.unlink()
        raise FetchError(
            f"{archive}: incomplete or damaged ({error}); it was deleted: fetch it again"
        ) from error
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        fault = error.strerror or error
        raise FetchError(f"{folder}: cannot be written ({fault}); make room and run again") from error
    return len(members)


def _check(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raises FetchError for a member that must not be written."""
    seen: set[PurePosixPath] = set()
    for member in members:
        path = PurePosixPath(member.filename)
        outside = path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in path.parts[0]
        if outside or stat.S_ISLNK(member.external_attr >> 16):
            raise FetchError(
                f"{archive}: {member.filename!r} leads out of the folder it is unpacked in; nothing was "
                "unpacked: do not trust where it came from"
            )
        if member.flag_bits & _ENCRYPTED:
            raise FetchError(f"{archive}: {member.filename!r} is encrypted; unpack it by hand")
        if path in seen:
            raise FetchError(
                f"{archive}: holds {member.filename!r} twice; nothing was unpacked: unpack it by hand"
            )
        seen.add(path)
