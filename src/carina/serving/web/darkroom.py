"""Films made ready for the page, in processes of their own (:mod:`carina.children`).

Decoders are native code, and a film that somebody sent may end the process that opens it. The page's process
only moves bytes; a film that does not open is said not to, and the next one gets a new process.
"""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass
from typing import Any

from carina.children.process import Child, Ended, Limits
from carina.children.wire import Message
from carina.errors import DecoderError

AT_ONCE = 2  # processes
_WORK = "carina.serving.web.developer:work"
_TURN = 20.0  # seconds that a request waits for its turn


class Unopened(Exception):
    """A film that cannot be shown, and why, in words for people."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Gray values for the canvas: uint16 in little-endian order, row by row. ``low`` is black at first."""

    width: int
    height: int
    low: float
    high: float
    bits: int
    pixels: bytes


class Darkroom:
    """At most ``AT_ONCE`` processes that open films; for any number of threads."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._idle: list[Child] = []
        self._lock = threading.Lock()
        self._closed = False

    def film(self, data: bytes, name: str) -> Shown:
        """All gray values of a film. Raises ``Unopened``."""
        head, pixels = self._ask({"want": "film", "name": name}, data)
        try:
            width, height, bits = int(head["width"]), int(head["height"]), int(head["bits"])
            low, high = float(head["low"]), float(head["high"])
        except (KeyError, TypeError, ValueError):
            raise Unopened("its content made the decoder talk nonsense") from None
        if width < 1 or height < 1 or len(pixels) != 2 * width * height:
            raise Unopened("its content made the decoder talk nonsense")
        return Shown(width, height, low, high, bits, pixels)

    def heat_map(
        self,
        data: bytes,
        name: str,
        cam: bytes,
        cam_shape: list[int],
        preparation: dict[str, Any],
        title: str,
    ) -> bytes:
        """The film as the network saw it under what it looked at: a PNG. Raises ``Unopened``.

        ``cam`` is (h, w) float16 of the shape ``cam_shape``.
        """
        head = {
            "want": "heat",
            "name": name,
            "cam": base64.b64encode(cam).decode(),
            "cam_shape": cam_shape,
            "preparation": preparation,
            "title": title,
        }
        return self._ask(head, data)[1]

    def close(self) -> None:
        """End the processes; they hold nothing."""
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
        for child in idle:
            child.close()

    def _ask(self, head: dict[str, Any], data: bytes) -> Message:
        if not self._turns.acquire(timeout=_TURN):
            raise Unopened("too many films are being opened; try again in a moment")
        try:
            with self._lock:
                child = self._idle.pop() if self._idle else Child(_WORK, self.limits)
            try:
                answer = child.ask(head, data)
            except DecoderError as error:
                raise Unopened(str(error)) from None
            finally:
                self._put(child)
        finally:
            self._turns.release()
        if isinstance(answer, Ended):
            slow = f"it takes longer than {self.limits.seconds:g} s to open"
            raise Unopened(slow if answer.slow else "its content ended the process that opened it")
        facts, payload = answer
        if "code" in facts:
            raise Unopened(f"{facts.get('fault')}; {facts.get('cure')}")
        if "bug" in facts:
            raise Unopened("a fault of Carina; please report it")
        return facts, payload

    def _put(self, child: Child) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(child)
                return
        child.close()
