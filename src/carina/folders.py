"""Folders that Carina writes: claimed before the work begins, or put in place whole.

Knows the file system and nothing of what is written. Two rules hold everywhere. A name that cannot be
written is refused before minutes of work, not after them; and nothing that a person put somewhere is
ever removed.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from carina.errors import OutputError

_BUNDLE = "bundle.json"  # a folder that holds this is a bundle, and may hold nothing else


@contextmanager
def claimed(folder: Path, option: str = "--out") -> Iterator[Path]:
    """``folder``, made with its parents and writable, while work goes on that will be written there.

    Where the work fails, the folders made here go again, as far as they are still empty. Raises
    ``OutputError`` that names ``option`` when the folder cannot be made or written, or lies in a bundle.
    """
    check_outside_bundles(folder, option)
    made = _made(folder, option)
    try:
        yield folder
    except BaseException:
        _unmake(made)
        raise


def check_can_write(folder: Path, option: str = "--out") -> None:
    """Raises what :func:`claimed` raises; leaves nothing behind."""
    check_outside_bundles(folder.parent, option)  # a bundle may itself be replaced
    _unmake(_made(folder, option))


def check_outside_bundles(path: Path, option: str = "--out") -> None:
    """Raises ``OutputError`` where ``path`` is a bundle or lies in one: every file in there is listed."""
    place = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() raises on a loop of links
    for folder in (place, *place.parents):
        if os.path.isfile(folder / _BUNDLE):  # noqa: PTH113 - Path's own raises where access is denied
            raise OutputError(
                f"{path}: lies in the bundle {folder}, which holds nothing but the model; "
                f"name another place with {option}"
            )


def check_page(path: Path, option: str = "--report") -> None:
    """Raises ``OutputError`` where no page can be written; asked before the work begins."""
    check_outside_bundles(path, option)
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{path}: a page is written as .html; choose this ending with {option}")


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A hidden folder beside ``out`` that takes its name when the block ends without an exception.

    A kill at any moment leaves ``out`` as it was, or complete. What a killed writer left beside it is
    removed by the next one; what a living one writes is locked, and left alone. ``out`` may be an empty
    folder. Raises ``OSError`` where the disk refuses.
    """
    with beside(out) as new:
        yield new
        if out.is_dir():
            out.rmdir()  # refused by the system where it holds anything
        new.rename(out)


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """A fresh hidden folder beside ``out``, locked while it is ours; those of killed writers are removed."""
    for stale in out.parent.glob(f".{glob.escape(out.name)}.*.partial"):
        with suppress(OSError), _locked(stale):
            shutil.rmtree(stale)
    new = out.parent / f".{out.name}.{secrets.token_hex(6)}.partial"
    new.mkdir()
    try:
        with _locked(new):
            yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _made(folder: Path, option: str) -> list[Path]:
    """Make ``folder``; answers with what was not there before, innermost first."""
    missing: list[Path] = []
    try:
        missing = [path for path in (folder, *folder.parents) if not os.path.exists(path)]  # noqa: PTH110
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (FileExistsError, NotADirectoryError):
        _unmake(missing)
        raise OutputError(f"{_in_the_way(folder)}: is a file; name a folder with {option}") from None
    except OSError as error:
        _unmake(missing)
        fault = "may not be written" if os.path.isdir(folder) else "cannot be made"  # noqa: PTH112
        raise OutputError(
            f"{folder}: {fault} ({error.strerror}); name another folder with {option}"
        ) from error
    return missing


def _unmake(made: list[Path]) -> None:
    for path in made:
        with suppress(OSError):
            path.rmdir()


def _in_the_way(folder: Path) -> Path:
    """The file that stands where ``folder`` or one of its parents should be."""
    return next((path for path in (folder, *folder.parents) if os.path.isfile(path)), folder)  # noqa: PTH113
