"""Two files that hold many small pictures: written once, verified on reading, shared by processes.

    pixels.u8   one row of side × side bytes after the other
    index.bin   for each row 48 bytes: the sha256 of the film's file (32), and the row's digest (16)
    lock        nobody writes who does not hold it (flock)

Both files only grow, and rows are on the disk before their index records are written: whoever is killed
leaves whole rows and at most a tail that belongs to nobody, which the next writer cuts off. A digest
covers the row's pixels, the film's sha256 and the preparation, so a row that was damaged, or stands
under the wrong film, is known. A film that had to be prepared again has a later row; the latest counts.

Knows nothing of films or catalogues; needs numpy only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carina.errors import CacheError

PIXELS, INDEX, LOCK = "pixels.u8", "index.bin", "lock"
_RECORD = np.dtype([("sha256", "V32"), ("digest", "V16")])


class Packed:
    """The two files in one folder. ``key`` (up to 16 letters) says how the pictures were made."""

    def __init__(self, folder: Path, side: int, key: str, *, writable: bool) -> None:
        self.folder, self.side, self.writable = folder, side, writable
        self._key = key.encode()
        self._records = self._whole()

    def __len__(self) -> int:
        return len(self._records)

    def latest(self) -> dict[bytes, int]:
        """The row of each film, by the 32 bytes of its sha256."""
        return {sha256.tobytes(): row for row, sha256 in enumerate(self._records["sha256"])}

    def pixels(self) -> NDArray[np.uint8]:
        """All rows, (rows, side, side), mapped from the disk and read-only."""
        shape = (len(self), self.side, self.side)
        if not len(self):
            return np.zeros(shape, np.uint8)
        return np.memmap(self.folder / PIXELS, np.uint8, "r", shape=shape)

    def sound(self, rows: Sequence[int]) -> list[bool]:
        """Whether each of the rows still has the digest it was written with."""
        pixels = self.pixels()

        def check(row: int) -> bool:
            sha256, digest = self._records[row]
            return bool(self._digest(sha256.tobytes(), pixels[row]) == digest.tobytes())

        with ThreadPoolExecutor(
            max_workers=min(8, os.cpu_count() or 1)
        ) as pool:  # hashing lets go of the GIL
            return list(pool.map(check, rows))

    def append(self, pictures: Mapping[bytes, NDArray[np.uint8]]) -> None:
        """Add rows, by the film's sha256. Raises OSError; then nothing was added."""
        records = np.empty(len(pictures), _RECORD)
        for i, (sha256, picture) in enumerate(pictures.items()):
            records[i] = (sha256, self._digest(sha256, picture))
        block = b"".join(np.ascontiguousarray(picture).tobytes() for picture in pictures.values())
        self._write(PIXELS, len(self) * self.side**2, block)
        self._write(INDEX, len(self) * _RECORD.itemsize, records.tobytes())
        self._records = np.concatenate([self._records, records])

    def _write(self, name: str, at: int, block: bytes) -> None:
        with (self.folder / name).open("r+b", buffering=0) as file:
            file.seek(at)
            rest = memoryview(block)
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(at)
                raise

    def _digest(self, sha256: bytes, picture: NDArray[np.uint8]) -> bytes:
        data = np.ascontiguousarray(picture).data
        return hashlib.blake2b(data, digest_size=16, key=sha256, person=self._key).digest()

    def _whole(self) -> NDArray[np.void]:
        """The records that have their row; what a killed writer left behind them is cut off."""
        sizes = [_size(self.folder / name) for name in (PIXELS, INDEX)]
        steps = [self.side**2, _RECORD.itemsize]
        count = min(size // step for size, step in zip(sizes, steps, strict=True))
        if self.writable:
            for name, size, step in zip((PIXELS, INDEX), sizes, steps, strict=True):
                if size != count * step or not (self.folder / name).exists():
                    with (self.folder / name).open("ab") as file:
                        file.truncate(count * step)
        if not count:
            return np.empty(0, _RECORD)
        return np.fromfile(self.folder / INDEX, _RECORD, count=count)


@contextmanager
def opened(folder: Path, side: int, key: str) -> Iterator[Packed]:
    """The packed files of a folder, made where there are none, while nobody else may write.

    Waits for another writer to finish. A folder that may not be written is opened as it is, without a
    lock (``writable`` is False). Raises CacheError when it cannot be opened at all.
    """
    try:
        import fcntl
    except ImportError as error:  # pragma: no cover
        raise CacheError(f"{folder}: this system cannot lock files; use Linux or macOS") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if not (folder / INDEX).exists():
            raise CacheError(f"{folder}: cannot be made ({error.strerror}); give another folder") from error
        yield Packed(folder, side, key, writable=False)
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Packed(folder, side, key, writable=True)
    finally:
        os.close(lock)  # which lets go of the lock, as dying does


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
