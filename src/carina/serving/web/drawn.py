"""What was drawn or counted a moment ago, for the next browser that asks for the same.

After each change every open page asks for its list anew, and most ask for the same one. It is drawn once for
each state of the events, and for at most ``SECONDS``; whoever asks meanwhile waits for that one drawing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

SECONDS = 3.0
_MOST = 64  # answers that are kept
T = TypeVar("T")


class Drawn(Generic[T]):
    """Answers by what was asked and the newest event. For any number of threads."""

    def __init__(self, seconds: float = SECONDS, worth: Callable[[T], bool] | None = None) -> None:
        """Answers hold for ``seconds``; where ``worth`` says no, they are not kept at all."""
        self.seconds, self._worth = seconds, worth
        self._kept: dict[Hashable, tuple[int, float, T]] = {}
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, asked: Hashable, newest: int, draw: Callable[[], T]) -> T:
        """The answer for ``asked`` as of event ``newest``, drawn where it is not there."""
        with self._lock:
            if len(self._locks) > _MOST:
                self._kept.clear()
                self._locks.clear()
            lock = self._locks.setdefault(asked, threading.Lock())
        with lock:
            found = self._kept.get(asked)
            if found is not None and found[0] >= newest and time.monotonic() - found[1] < self.seconds:
                return found[2]
            begun, answer = time.monotonic(), draw()
            if self._worth is None or self._worth(answer):
                self._kept[asked] = newest, begun, answer
            return answer
