"""The packed pixel cache: each film decoded once, memory-mapped, shared by every run.

    pixels.u8    one film after another, S × S bytes each
    index.bin    one record a film: sha256 of the file (32 bytes), a digest of its pixels (16 bytes)
    lock         held by whoever writes
    preparation.json

Both files only ever grow, and the record is appended after the pixels have reached the disk: a build that is
killed leaves a cache that the next build goes on with. When a cache is opened every film's digest is
computed again; a film that fails is decoded anew from its file (whose own sha256 is checked), never used.
A complete cache needs no film file, so that it can be copied to a machine without them.

The digest of a record is BLAKE2b over file hash and pixels, so that a record can neither stand for another
film nor for pixels that were never written (a hole in the file reads as zeros).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from carina.errors import CacheError, ImageError
from carina.records import Progress

if TYPE_CHECKING:
    from carina.images.prepare import Preparation

_KEY, _DIGEST = 32, 16  # bytes
_RECORD = _KEY + _DIGEST
_CHUNK = 64  # films decoded by one call into a child
_FLUSH = 512  # films between two flushes to the disk

Tell = Callable[[Progress], None]


class Films(Protocol):
    """What a cache needs of a catalogue."""

    @property
    def root(self) -> Path:
        """The catalogue's folder."""

    def table(self, split: str | None = None) -> Any:
        """A pyarrow table with at least the columns ``path`` and ``sha256``."""


@dataclass(frozen=True, slots=True)
class Job:
    """One film that is to be decoded."""

    path: str
    sha256: str


class PixelCache:
    """Prepared films, verified. ``pixels`` is a read-only map, (N, S, S) uint8."""

    def __init__(self, folder: Path, preparation: Preparation, places: dict[bytes, int], count: int) -> None:
        self.folder, self.preparation = folder, preparation
        self._places = places
        held = (folder / "pixels.u8").stat().st_size // preparation.size**2
        shape = (min(count, held), preparation.size, preparation.size)
        self.pixels: NDArray[np.uint8] = (
            np.memmap(folder / "pixels.u8", np.uint8, "r", shape=shape)
            if count
            else np.zeros(shape, np.uint8)
        )

    @classmethod
    def build(
        cls,
        catalogue: Films,
        preparation: Preparation,
        *,
        folder: Path | None = None,
        workers: int | None = None,
        progress: Tell | None = None,
    ) -> PixelCache:
        """Open the cache of a catalogue for one preparation; decode what is missing, mend what is damaged.

        Another process that builds the same cache is waited for. ``folder`` is by default
        ``<catalogue>/pixels/<fingerprint>``. Raises CacheError when a film is gone, changed or can no
        longer be read, and when the disk is full; what was decoded until then is kept.
        """
        folder = folder or catalogue.root / "pixels" / preparation.fingerprint()
        table = catalogue.table()
        paths, sha256s = table.column("path").to_pylist(), table.column("sha256").to_pylist()
        jobs = {bytes.fromhex(sha): Job(path, sha) for path, sha in zip(paths, sha256s, strict=True)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / "lock"):
                store = _Store(folder, preparation)
                store.build(jobs, workers=workers, progress=progress)
        except OSError as error:
            raise CacheError(
                f"{folder}: the pixel cache cannot be written: {error.strerror or error}; make room or mend "
                "the rights and start again: what was decoded is kept"
            ) from error
        return cls(folder, preparation, store.places, store.count)

    def rows(self, sha256s: Sequence[str]) -> NDArray[np.int64]:
        """The row of each film in ``pixels``, (n,) int64. Raises CacheError for a film that is not held."""
        try:
            return np.array([self._places[bytes.fromhex(sha)] for sha in sha256s], np.int64)
        except KeyError as error:
            missing = error.args[0].hex()[:16]
            raise CacheError(
                f"{self.folder}: holds no film {missing}; build it for this catalogue"
            ) from error

    def array(self, sha256s: Sequence[str]) -> NDArray[np.uint8]:
        """A copy of these films, (n, S, S) uint8. Raises CacheError for a film that is not held."""
        return np.ascontiguousarray(self.pixels[self.rows(sha256s)])


class _Store:
    """The two files while their lock is held."""

    def __init__(self, folder: Path, preparation: Preparation) -> None:
        self.folder, self.preparation = folder, preparation
        self.film_bytes = preparation.size**2
        self.places: dict[bytes, int] = {}
        self.count = 0  # records, good and bad
        self._pixels, self._index = folder / "pixels.u8", folder / "index.bin"
        self._describe()

    def build(self, jobs: dict[bytes, Job], *, workers: int | None, progress: Tell | None) -> None:
        """Verify what is there, then decode what is not. Afterwards ``places`` has every job's row."""
        self._pixels.touch()
        self._index.touch()
        damaged = self._verify(set(jobs), progress)
        missing = [key for key in jobs if key not in self.places]
        if not missing:
            return
        done, free = 0, iter(damaged)
        decoded = _decoded([jobs[key] for key in missing], self.preparation, workers)
        with self._pixels.open("r+b") as pixels, self._index.open("r+b") as index:
            while batch := list(islice(decoded, _FLUSH)):
                rows = [next(free, None) for _ in batch]
                for place, (at, _) in enumerate(zip(rows, batch, strict=True)):
                    if at is None:
                        rows[place] = self.count
                        self.count += 1
                placed = [
                    (row, key, film) for row, (key, film) in zip(rows, batch, strict=True) if row is not None
                ]
                self._write(pixels, index, placed)
                done += len(batch)
                if progress is not None:
                    progress(Progress("films decoded", done, len(missing), {"size": self.preparation.size}))

    def _write(self, pixels: Any, index: Any, placed: list[tuple[int, bytes, bytes]]) -> None:
        """Pixels to the disk first, then the records that vouch for them."""
        for row, _, film in placed:
            pixels.seek(row * self.film_bytes)
            pixels.write(film)
        pixels.flush()
        os.fsync(pixels.fileno())
        for row, key, film in placed:
            index.seek(row * _RECORD)
            index.write(key + _digest(key, film))
            self.places[key] = row
        index.flush()
        os.fsync(index.fileno())

    def _verify(self, wanted: set[bytes], progress: Tell | None) -> list[int]:
        """Fill ``places`` with the films that are whole; answer with the rows whose content is not."""
        records = self._index.read_bytes()
        self.count = len(records) // _RECORD  # a half-written record at the end is written over
        damaged = []
        with self._pixels.open("rb", buffering=0) as file:
            film = bytearray(self.film_bytes)
            for row in range(self.count):
                record = records[row * _RECORD : (row + 1) * _RECORD]
                key, digest = record[:_KEY], record[_KEY:]
                file.seek(row * self.film_bytes)
                whole = file.readinto(film) == self.film_bytes and _digest(key, film) == digest
                if not whole or key in self.places:
                    damaged.append(row)
                else:
                    self.places[key] = row
                if progress is not None and wanted and (row % 1000 == 999 or row + 1 == self.count):
                    progress(Progress("pixel cache verified", row + 1, self.count))
        return damaged

    def _describe(self) -> None:
        """Say beside the pixels what they are; a folder of another preparation is refused."""
        path = self.folder / "preparation.json"
        mine = {"fingerprint": self.preparation.fingerprint(), **self.preparation.to_dict()}
        try:
            found = json.loads(path.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            new = path.with_suffix(".tmp")
            new.write_text(json.dumps(mine, indent=2) + "\n", "utf-8")
            new.replace(path)
            return
        if found != mine:
            raise CacheError(
                f"{self.folder}: holds films of another preparation; name another folder, or delete it"
            )


def _digest(key: bytes, film: bytes | bytearray) -> bytes:
    digest = hashlib.blake2b(key, digest_size=_DIGEST)
    digest.update(film)
    return digest.digest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock; the kernel lets go of it when a process dies, however it dies."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _decoded(
    jobs: Sequence[Job], preparation: Preparation, workers: int | None
) -> Iterator[tuple[bytes, bytes]]:
    """(file hash, pixels) of every job, in order, decoded in child processes; few films stay in this one."""
    workers = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    chunks = [jobs[at : at + _CHUNK] for at in range(0, len(jobs), _CHUNK)]
    if workers <= 1 or len(chunks) == 1:
        for chunk in chunks:
            yield from _decode(chunk, preparation)
        return
    try:
        # spawn, not fork: the caller may hold threads (torch, ONNX Runtime) that a fork would freeze
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            for part in _ahead(pool, chunks, preparation, 2 * workers):
                yield from part
    except BrokenProcessPool as error:
        raise CacheError(
            "a film ended the process that decoded it (or memory ran out); run carina compile again: it "
            "finds the film and leaves it out"
        ) from error


def _ahead(
    pool: Executor, chunks: Iterable[Sequence[Job]], preparation: Preparation, limit: int
) -> Iterator[list[tuple[bytes, bytes]]]:
    """Results in order, at most ``limit`` chunks in flight."""
    waiting: list[Future[list[tuple[bytes, bytes]]]] = []
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_decode, chunk, preparation))
            if len(waiting) >= limit:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        for future in waiting:
            future.cancel()


def _decode(jobs: Sequence[Job], preparation: Preparation) -> list[tuple[bytes, bytes]]:
    """Runs in a child: the prepared films of a chunk."""
    return [_decode_one(job, preparation) for job in jobs]


def _decode_one(job: Job, preparation: Preparation) -> tuple[bytes, bytes]:
    from carina.images.prepare import load

    try:
        data = Path(job.path).read_bytes()
    except OSError as error:
        raise CacheError(
            f"{job.path}: cannot be read ({error.strerror}); put it back, or compile the catalogue again"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != job.sha256:
        raise CacheError(f"{job.path}: is not the film that was compiled; compile the catalogue again")
    try:
        film, _ = load(data, preparation, name=job.path)
    except ImageError as error:
        raise CacheError(f"{error}; compile the catalogue again to leave it out") from error
    return bytes.fromhex(found), film.tobytes()
