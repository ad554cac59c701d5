"""Decoding in processes of its own, so that a hostile film ends one of them and not the night's work.

A process that dies, or takes longer than it may, is replaced; its film is refused with a reason. Knows what
scoring asks of a child and what its answers mean; the processes are :mod:`carina.children`'s, and how a film
is read is the business of :mod:`carina.images`.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from carina.children.process import Child, Ended, Limits
from carina.children.wire import Message
from carina.images.preparation import Preparation
from carina.records import FilmFacts, Looks, Refusal

if TYPE_CHECKING:
    from carina.scoring.inputs import Input

_WORK = "carina.scoring.child:load"
_AGAIN = "fetch the file again from its source"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A film as the network sees it: ``square`` holds (S, S) uint8 in C order."""

    name: str
    square: bytes
    facts: FilmFacts
    looks: Looks


class Decoders:
    """Decoding processes that several threads share, as many as are asked at the same time.

    A context manager; leaving it ends the processes.
    """

    def __init__(self, preparation: Preparation, limits: Limits | None = None) -> None:
        self.preparation, self.limits = preparation, limits or Limits()
        self._idle: list[Decoder] = []
        self._lock = threading.Lock()
        self._closed = False

    def load(self, item: Input) -> Decoded | Refusal:
        """Read and prepare one film; a refusal where that cannot be done."""
        decoder = self._take(item.name)
        try:
            return decoder.load(item)
        finally:
            self._put(decoder)

    def start(self, count: int = 1, first: Input | None = None) -> None:
        """Start processes before they are needed; ``first`` is read ahead by one of them."""
        for number in range(count):
            decoder = Decoder(self.preparation, self.limits)
            if number == 0 and first is not None:
                decoder.begin(first)
            else:
                decoder.child.start()
            self._put(decoder)

    def close(self) -> None:
        """End all processes that are not at work; those at work end after their film."""
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
        for decoder in idle:
            decoder.child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, name: str) -> Decoder:
        with self._lock:
            ahead = [decoder for decoder in self._idle if decoder.begun == name]
            free = ahead or [decoder for decoder in self._idle if decoder.begun is None]
            if free:
                self._idle.remove(free[-1])
                return free[-1]
        return Decoder(self.preparation, self.limits)

    def _put(self, decoder: Decoder) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(decoder)
                return
        decoder.child.close()


class Decoder:
    """One decoding process. For one thread at a time."""

    def __init__(self, preparation: Preparation, limits: Limits) -> None:
        self.preparation, self.child = preparation, Child(_WORK, limits)
        self.begun: str | None = None  # the name of the film that is being read

    def load(self, item: Input) -> Decoded | Refusal:
        """Read and prepare one film; raises :class:`~carina.errors.DecoderError` where nothing starts."""
        self.begun = None
        answer = self.child.ask(*self._request(item))
        if isinstance(answer, Ended):
            return _unanswered(item.name, answer, self.child.limits)
        try:
            return self._understood(answer, item.name)
        except (ValueError, KeyError, TypeError):
            self.child.close()
            return _unanswered(item.name, Ended(how="it talked nonsense"), self.child.limits)

    def begin(self, item: Input) -> None:
        """Ask for a film without waiting for the answer."""
        self.child.begin(*self._request(item))
        self.begun = item.name

    def _request(self, item: Input) -> Message:
        path = None if item.data is not None else os.fspath(item.source)
        head = {"name": item.name, "path": path, "preparation": self.preparation.to_dict()}
        return head, item.data or b""

    def _understood(self, message: Message, name: str) -> Decoded | Refusal:
        head, square = message
        if "bug" in head:  # the other films of the night still get their scores
            fault = f"internal: {head['bug']}; this is a fault of Carina, please report it"
            return Refusal(name, "internal", fault)
        if "code" in head:
            return Refusal(name, str(head["code"]), f"{head['code']}: {head['fault']}; {head['cure']}")
        if len(square) != self.preparation.size**2:
            raise ValueError("a square of another size")
        return Decoded(name, square, FilmFacts.of(head["facts"]), Looks.of(head["looks"]))


def _unanswered(name: str, ended: Ended, limits: Limits) -> Refusal:
    if ended.slow:
        fault = f"timed_out: it takes longer than {limits.seconds:g} s to decode"
        return Refusal(name, "timed_out", f"{fault}; {_AGAIN}")
    how = f" ({ended.how})" if ended.how else ""
    return Refusal(name, "crashed", f"crashed: its content ended the decoder{how}; {_AGAIN}")
