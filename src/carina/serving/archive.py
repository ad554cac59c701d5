"""The folder of the films: a file that was finished is on the disk, whole, under a name of our own.

The promise is an order: write, fsync the file, rename, fsync the folder; only then may anybody commit a
row that names the file, and only after that may a sender be told that it is kept. What a crash leaves
behind lies under ``incoming`` and is removed by the next start; a living writer's file is locked and left
alone. Once the system has failed to bring bytes to the disk (fsync), nothing can be said of what it still
holds in memory: the archive is then unhealthy and takes nothing more until it is started anew.

A file's name is its SHA-256, never anything that was sent. Knows nothing of DICOM and of the database.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from carina.errors import StoreFault, StoreFull
from carina.serving.settings import Settings

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_INCOMING = "incoming"
_FOLDERS = tuple(f"{number:02x}" for number in range(256))
_AGAIN = "send it again later"


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is on the disk. ``path`` is relative to the archive."""

    sha256: str
    size: int  # bytes
    path: str


class Incoming:
    """A file on its way in. ``finish`` keeps it, ``discard`` (or leaving a ``with`` block) drops it.

    ``write`` raises ``StoreFull`` or ``StoreFault``; the file is then gone, and so is the descriptor.
    """

    def __init__(self, archive: Archive, handle: int, path: Path) -> None:
        self._archive, self._path = archive, path
        self._handle: int | None = handle
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append ``chunk``, all of it."""
        if self._handle is None:
            raise StoreFault(f"the file was given up before its end; {_AGAIN}")
        try:
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError as error:
            self.discard()
            raise _failure(error, "a film cannot be written") from error
        self._digest.update(chunk)
        self.size += len(chunk)

    def finish(self) -> Stored:
        """Make it last: its bytes and its name are on the disk when this returns.

        Raises ``StoreFull`` or ``StoreFault``; then nothing is kept.
        """
        if self._handle is None:
            raise StoreFault(f"the file was given up before its end; {_AGAIN}")
        self._archive.check()
        name = self._digest.hexdigest()
        folder = self._archive.root / name[:2]
        try:
            self._archive.sync(self._handle)
            os.rename(self._path, folder / name)  # noqa: PTH104 - the order of calls is the promise
            self._archive.sync_folder(folder)
        except OSError as error:
            self.discard()
            raise _failure(error, "a film cannot be made to last") from error
        self._close()
        return Stored(name, self.size, f"{name[:2]}/{name}")

    def discard(self) -> None:
        """Drop what was written. May be called at any time, and again."""
        if self._handle is not None:
            with suppress(OSError):
                self._path.unlink()
            self._close()

    def _close(self) -> None:
        if self._handle is not None:
            with suppress(OSError):
                os.close(self._handle)
        self._handle = None

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


class Archive:
    """The films under ``root``. Raises ``StoreFault`` where the folder cannot be made or written."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root, self._least = root, settings.free_bytes
        self.fault: str | None = None  # a sentence, once the archive is unhealthy
        self._trouble: str | None = None  # … as long as no file can be made
        try:
            self._make()
            self.swept = self._sweep()
        except OSError as error:
            raise StoreFault(
                f"{root}: the archive cannot be used ({error.strerror}); give the account that runs Carina "
                "leave to write there, or name another folder with --data"
            ) from error

    @property
    def healthy(self) -> bool:
        """Whether anything may still be taken in."""
        return self.fault is None

    def free(self) -> int:
        """Bytes that this account may still write."""
        facts = os.statvfs(self.root)
        return facts.f_bavail * facts.f_frsize

    def probe(self) -> None:
        """See whether a file can still be made. :meth:`condition` tells, until another one could."""
        path = self.root / _INCOMING / f"{secrets.token_hex(12)}.part"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            path.unlink()
        except OSError as error:
            self._trouble = (
                f"no film can be written under {self.root} ({error.strerror}): films are refused; see to the "
                "disk, and that the account that runs Carina may write there"
            )
        else:
            self._trouble = None

    def condition(self) -> tuple[bool, str]:
        """Whether films can be kept at present, and a sentence on it. Writes nothing."""
        try:
            free = self.free()
        except OSError as error:
            return False, f"the archive {self.root} cannot be reached ({error.strerror}); see to the disk"
        room = f"{free / 2**30:.1f} GB free"
        if free < self._least:
            return False, f"{room}, less than is kept free: films are refused; make room"
        trouble = self.fault or self._trouble
        return trouble is None, trouble or room

    def check(self) -> None:
        """Raises ``StoreFault`` when the archive is unhealthy."""
        if self.fault is not None:
            raise StoreFault(self.fault)

    def receive(self) -> Incoming:
        """A new file. Raises ``StoreFull`` below the watermark and ``StoreFault`` when unhealthy."""
        self.check()
        try:
            free = self.free()
            if free < self._least:
                raise StoreFull(
                    f"the disk has {free // 2**20} MB left, and {self._least // 2**20} MB are kept free; "
                    "make room, or set free_bytes"
                )
            path = self.root / _INCOMING / f"{secrets.token_hex(12)}.part"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(path, flags, 0o600)
        except OSError as error:
            raise _failure(error, "no film can be taken in") from error
        with suppress(OSError):  # a file system without locks: the sweep then goes by age
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Incoming(self, handle, path)

    def open(self, path: str) -> BinaryIO:
        """The stored file ``path``. Raises ``FileNotFoundError`` when it is not, or no longer, there."""
        handle = os.open(self._place(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return os.fdopen(handle, "rb")

    def remove(self, path: str) -> bool:
        """Remove the stored file ``path``; answers whether it was there."""
        try:
            self._place(path).unlink()
        except FileNotFoundError:
            return False
        return True

    def files(self) -> Iterator[tuple[str, list[str]]]:
        """Each folder with the paths of the files in it, sorted."""
        for folder in _FOLDERS:
            with suppress(FileNotFoundError):
                yield folder, sorted(f"{folder}/{entry.name}" for entry in os.scandir(self.root / folder))

    def sync(self, handle: int) -> None:
        """fsync; the archive is unhealthy where that fails for another reason than want of room."""
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                self.fault = (
                    f"the disk under {self.root} could not make a film last ({error.strerror}); nothing more "
                    "is taken in: see to the disk, then start Carina again"
                )
            raise

    def sync_folder(self, folder: Path) -> None:
        """fsync of a folder: the names in it are on the disk. A failure makes the archive unhealthy."""
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sync(handle)
        finally:
            os.close(handle)

    def _place(self, path: str) -> Path:
        folder, _, name = path.partition("/")
        if folder not in _FOLDERS or len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            raise FileNotFoundError(errno.ENOENT, "no name of a stored file", path)
        return self.root / folder / name

    def _make(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (_INCOMING, *_FOLDERS):
            (self.root / name).mkdir(mode=0o700, exist_ok=True)
        self.sync_folder(self.root)
        if not os.access(self.root / _INCOMING, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _sweep(self) -> int:
        """Remove what writers that are gone left half-way; answers how many files that were."""
        gone = 0
        for entry in os.scandir(self.root / _INCOMING):
            with suppress(OSError):
                handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its writer lives
                    if stat.S_ISREG(os.fstat(handle).st_mode):
                        os.unlink(entry.path)  # noqa: PTH108
                        gone += 1
                finally:
                    os.close(handle)
        return gone


def _failure(error: OSError, what: str) -> StoreFull | StoreFault:
    """What ``error`` of the system means for a sender."""
    kind = StoreFull if error.errno in _NO_ROOM else StoreFault
    return kind(f"{what} ({error.strerror}); {_AGAIN}")
