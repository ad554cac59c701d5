"""Memory that the C library keeps after it was freed, given back to the system.

A service makes and ends a thread for each association, and films of many sizes pass through all of them.
glibc gives threads heaps of their own (up to eight for each core) and keeps what is freed in them; nothing
is lost, and yet the process grows (docs/log.md says what is known of it). Here the heaps are few, large
blocks go back at once whatever was freed before, and the rest is given back now and then. Where the C
library is another one, nothing is done. Knows nothing of what the memory held.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache

OFTEN = 60.0  # seconds between two times that free memory is given back
_HEAPS, _OWN, _TOP = -8, -3, -1  # M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD (mallopt(3))
_MOST_HEAPS = 2
_LARGE = 256 * 1024  # bytes of a block that is mapped by itself; a fixed size, else glibc raises it to 32 MB


@cache
def _library() -> ctypes.CDLL | None:
    """glibc; ``None`` where the C library has no such functions (musl, macOS)."""
    try:
        library = ctypes.CDLL(None)
        library.mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
        library.malloc_trim.argtypes = (ctypes.c_size_t,)
    except (OSError, AttributeError, TypeError):
        return None
    return library


def keep_few_heaps() -> bool:
    """Say so before threads are started; whether this C library knows about it."""
    library = _library()
    if library is None:
        return False
    wanted = ((_HEAPS, _MOST_HEAPS), (_OWN, _LARGE), (_TOP, _LARGE))
    return [library.mallopt(what, value) for what, value in wanted] == [1, 1, 1]  # all are told


def give_back() -> bool:
    """Give free memory of all heaps back to the system; whether there was any. A few milliseconds."""
    library = _library()
    return library is not None and library.malloc_trim(0) == 1


def keep_small(stop: threading.Event, often: float = OFTEN) -> None:
    """Give free memory back every ``often`` seconds until ``stop`` is set."""
    while not stop.wait(often):
        give_back()
