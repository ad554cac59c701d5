"""Lists that were drawn a moment ago, for the next browser that asks for the same.

After each change every open page asks for its list anew, and most ask for the same one. It is drawn once for
each state of the events, and for at most ``SECONDS``; whoever asks meanwhile waits for that one drawing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

SECONDS = 3.0
_MOST = 64  # lists that are kept


class Drawn:
    """Texts by what was asked and the newest event. For any number of threads."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._texts: dict[Hashable, tuple[int, float, str]] = {}
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, asked: Hashable, newest: int, draw: Callable[[], str]) -> str:
        """The text for ``asked`` as of event ``newest``, drawn where it is not there."""
        with self._lock:
            if len(self._locks) > _MOST:
                self._texts.clear()
                self._locks.clear()
            lock = self._locks.setdefault(asked, threading.Lock())
        with lock:
            found = self._texts.get(asked)
            if found is not None and found[0] >= newest and time.monotonic() - found[1] < self.seconds:
                return found[2]
            text = draw()
            self._texts[asked] = newest, time.monotonic(), text
            return text
