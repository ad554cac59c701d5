"""The pixel cache: every film of a catalogue prepared once, then mapped into memory by every run.

Preparing a film (read, decode, resize) takes milliseconds, and a study looks at each one hundreds of
times. The prepared squares lie in ``<catalogue>/pixels/<fingerprint of the preparation>/`` (layout and
promises: ``packed.py``); a row belongs to the content of a file, not to its path. Opening verifies every
row that will be used; what is missing or damaged is prepared from the film again, whose own sha256 is
checked before it is believed. A complete cache needs neither the films nor an image library, so it can
be copied to a machine that only trains. May be deleted at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from carina.children.wire import Message
from carina.data.packed import Packed, opened
from carina.data.reading import ask_all
from carina.errors import CacheError, ImageError
from carina.records import Progress

if TYPE_CHECKING:  # a complete cache is opened without pyarrow's and Pillow's help
    from carina.data.catalogue import Catalogue
    from carina.images.prepare import Preparation

Tell = Callable[[Progress], None] | None

_BATCH = 128  # squares that go to the disk together ...
_PATIENCE = 2.0  # ... or after this many seconds
_WORK = "carina.data.pixels:squared"


@dataclass(frozen=True)
class PixelCache:
    """Prepared films. ``pixels`` is (rows, S, S) uint8, mapped from the disk; rows of others may be in it."""

    folder: Path
    preparation: Preparation
    pixels: NDArray[np.uint8] = field(repr=False)
    _row_of: Mapping[str, int] = field(repr=False)

    @classmethod
    def build(
        cls,
        catalogue: Catalogue,
        preparation: Preparation,
        *,
        folder: Path | None = None,
        workers: int | None = None,
        progress: Tell = None,
    ) -> PixelCache:
        """Open the cache of all films of ``catalogue``; complete and repair it first where needed.

        ``workers`` is the number of processes that decode: None means one for each core, 0 this one.
        Raises CacheError when a film is gone, changed or unreadable, or the disk is full; the films that
        could be prepared stay in the cache, and the next call goes on from there.
        """
        table = catalogue.table()
        paths = dict(zip(table["sha256"].to_pylist(), table["path"].to_pylist(), strict=True))
        folder = folder or catalogue.root / "pixels" / preparation.fingerprint()
        with opened(folder, preparation.size, preparation.fingerprint()) as packed:
            missing = [sha256 for sha256, row in _verified(packed, paths).items() if row is None]
            if progress:
                progress(Progress("pixels", len(paths) - len(missing), len(paths)))
            if missing:
                _complete(packed, preparation, {s: paths[s] for s in missing}, len(paths), workers, progress)
            latest = packed.latest()
            rows = {sha256: latest[bytes.fromhex(sha256)] for sha256 in paths}
            return cls(folder, preparation, packed.pixels(), rows)

    def rows(self, sha256s: Sequence[str]) -> NDArray[np.int64]:
        """The row of each film, (n,) int64. Raises CacheError for a film that is not in the catalogue."""
        try:
            return np.array([self._row_of[sha256] for sha256 in sha256s], np.int64)
        except KeyError as error:
            raise CacheError(
                f"{self.folder}: no film {str(error.args[0])[:16]}…; build the cache for its catalogue"
            ) from None

    def array(self, sha256s: Sequence[str]) -> NDArray[np.uint8]:
        """The films' pixels, (n, S, S) uint8, copied into memory. Raises CacheError as ``rows``."""
        return np.array(self.pixels[self.rows(sha256s)], np.uint8)


def _verified(packed: Packed, sha256s: Mapping[str, str]) -> dict[str, int | None]:
    """The row of each film, None where there is none or it is damaged."""
    latest = packed.latest()
    rows = {sha256: latest.get(bytes.fromhex(sha256)) for sha256 in sha256s}
    there = [(sha256, row) for sha256, row in rows.items() if row is not None]
    sound = packed.sound([row for _, row in there])
    return rows | {sha256: None for (sha256, _), good in zip(there, sound, strict=True) if not good}


def _complete(
    packed: Packed,
    preparation: Preparation,
    paths: Mapping[str, str],
    total: int,
    workers: int | None,
    tell: Tell,
) -> None:
    """Prepare the films of ``paths`` (sha256 → path) and append them; raise for those that cannot be had."""
    if not packed.writable:
        raise CacheError(
            f"{packed.folder}: {len(paths)} of {total} films are missing and the folder cannot be written; "
            "make it writable, or copy a complete cache there"
        )
    faults: list[str] = []
    waiting: dict[bytes, NDArray[np.uint8]] = {}
    saved = time.monotonic()
    for done, (sha256, answer) in enumerate(_squares(preparation, paths, workers), total - len(paths) + 1):
        fault = _fault(paths[sha256], sha256, answer)
        if fault:
            faults.append(fault)
        else:
            waiting[bytes.fromhex(sha256)] = answer[1]
        if len(waiting) >= _BATCH or time.monotonic() - saved > _PATIENCE:
            _save(packed, waiting, paths)
            waiting, saved = {}, time.monotonic()
        if tell:
            tell(Progress("pixels", done, total))
    _save(packed, waiting, paths)
    if faults:
        more = f" (and {len(faults) - 1} more films)" if len(faults) > 1 else ""
        raise CacheError(min(faults) + more)


def _save(packed: Packed, pictures: Mapping[bytes, NDArray[np.uint8]], all_: Mapping[str, str]) -> None:
    try:
        packed.append(pictures)
    except OSError as error:
        needed = len(all_) * packed.side**2 / 1e6
        raise CacheError(
            f"{packed.folder}: cannot be written ({error.strerror}); make room for {needed:.0f} MB and run "
            f"again: the {len(packed)} films prepared so far are kept"
        ) from error


def _fault(path: str, sha256: str, answer: Any) -> str | None:
    """What is wrong with an answer, or None."""
    if not isinstance(answer, ImageError):
        if answer[0] == sha256:
            return None
        return f"{path}: not the file that was compiled; put that file back, or compile the catalogue again"
    if not Path(path).exists():
        return f"{path}: the film is gone; put it back, or compile the catalogue again"
    return f"{path}: {answer.fault}; put back the file that was compiled, or compile the catalogue again"


def _squares(
    preparation: Preparation, paths: Mapping[str, str], workers: int | None
) -> Iterator[tuple[str, Any]]:
    """Each film's sha256, and (sha256 of the file, (S, S) uint8) or the ImageError it gave."""
    names = list(paths)
    files = [Path(paths[name]) for name in names]
    if workers == 0:
        square = _square(preparation)
        for name, file in zip(names, files, strict=True):
            try:
                yield name, square(file)
            except ImageError as error:
                yield name, error
        return
    size = preparation.size
    options = {"preparation": preparation.to_dict()}

    def understood(message: Message) -> tuple[str, NDArray[np.uint8]]:
        head, square = message
        return str(head["sha256"]), np.frombuffer(square, np.uint8).reshape(size, size)

    for i, answer in ask_all(files, _WORK, understood, workers=workers, options=options):
        yield names[i], answer


def _square(preparation: Preparation) -> Callable[[Path], tuple[str, NDArray[np.uint8]]]:
    from carina.images.prepare import load

    def square(path: Path) -> tuple[str, NDArray[np.uint8]]:
        pixels, facts = load(path, preparation)
        return facts.sha256, pixels

    return square


def squared(head: dict[str, Any], _: bytes) -> Message:
    """What a child does with a film that the cache asks for."""
    from carina.images.prepare import Preparation

    sha256, pixels = _square(Preparation.from_dict(head["preparation"]))(Path(head["path"]))
    return {"sha256": sha256}, pixels.tobytes()
