"""A path or bytes → the bytes, within limits; and the one place where foreign errors become ours.

Whatever a library raises while a film is read, even what is no ``Exception`` (a panic of a compiled
extension), leaves this room as an ``ImageError``. Only the user's interrupt and the interpreter's own
exit pass through.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from carina.errors import ImageError, ImageTooLarge, TruncatedImage, UnreadableImage
from carina.images.limits import AGAIN, check_file_size
from carina.images.patience import EndlessHeader
from carina.images.quiet import quiet

Source = str | os.PathLike[str] | bytes
_EARLY = (
    "truncat",
    "premature",
    "unexpected end",
    "not enough",
    "less than expected",
    "end of file",
    "too small",
)


def name_of(source: Source, name: str | None) -> str:
    """What the user calls the file: ``name``, else its path, else ``<bytes>``."""
    if name is not None:
        return name
    return "<bytes>" if isinstance(source, bytes) else os.fspath(source)


@contextmanager
def boundary(source: Source, name: str | None) -> Iterator[str]:
    """Yields the film's name; inside it every error that is not ours becomes an ``ImageError``."""
    called = name_of(source, name)
    try:
        with quiet:
            yield called
    except (ImageError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise translated(called, error) from error


def translated(name: str, error: BaseException) -> ImageError:
    """The ``ImageError`` that says what ``error``, raised by a library, means for the film."""
    text = " ".join(str(error).split())[:200]
    if isinstance(error, MemoryError):
        return ImageTooLarge(
            name, "it needs more memory than there is", "close other programs or reduce the film"
        )
    if isinstance(error, EndlessHeader):
        return UnreadableImage(name, str(error), AGAIN)
    if isinstance(error, RecursionError):
        return UnreadableImage(name, "its header is nested too deeply", AGAIN)
    if type(error).__name__ in ("DecompressionBombError", "DecompressionBombWarning"):
        return ImageTooLarge(name, "it holds far more pixels than are read", "give the film itself, reduced")
    if "too large" in text.lower():
        return ImageTooLarge(
            name, f"it holds more than is read ({text})", "save it again without its text chunks"
        )
    if isinstance(error, EOFError | struct.error) or any(word in text.lower() for word in _EARLY):
        return TruncatedImage(name, "the file ends early", AGAIN)
    return UnreadableImage(name, f"it cannot be decoded ({type(error).__name__}: {text})", AGAIN)


def file_bytes(source: Source, name: str, max_pixels: int) -> bytes:
    """The file's content; raises ``UnreadableImage`` or ``ImageTooLarge`` before anything is read."""
    if isinstance(source, bytes):
        check_file_size(name, len(source), max_pixels)
        return source
    try:
        handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe does not make us wait
        with os.fdopen(handle, "rb", buffering=0) as file:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                raise UnreadableImage(name, "it is a device or a pipe, not a file", "give a file")
            check_file_size(name, facts.st_size, max_pixels)
            content = file.readall()
            after = os.fstat(handle)
        if (facts.st_size, facts.st_mtime_ns) != (len(content), after.st_mtime_ns):
            raise UnreadableImage(name, "it changed while it was read", "score it again when it is complete")
        return content
    except IsADirectoryError:
        raise UnreadableImage(name, "it is a folder, not a file", "give the files in it") from None
    except FileNotFoundError:
        raise UnreadableImage(name, "there is no such file", "check the path") from None
    except PermissionError:
        raise UnreadableImage(
            name, "it may not be read", "give the account that runs Carina leave to read it"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise UnreadableImage(
            name, f"it cannot be opened ({error})", "check the path and the disk"
        ) from error
