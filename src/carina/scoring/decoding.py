"""Decoding in processes of its own, so that a hostile film ends one of them and not the night's work.

Decoders of compressed pixels are native code, and damaged streams make some of them crash or never return.
A process that dies, or takes longer than it may, is replaced; its film is refused with a reason. Starting
one takes as long as loading numpy, so they are started early and used again. Knows processes and pipes; how
a film is read is the business of :mod:`carina.images`.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from carina.errors import DecoderError
from carina.images.preparation import Preparation
from carina.records import FilmFacts, Refusal
from carina.scoring.wire import Message, receive, send

if TYPE_CHECKING:
    from carina.scoring.inputs import Input

_FAREWELL = 0.5  # seconds that a process may take to end by itself


@dataclass(frozen=True, slots=True)
class Limits:
    """What one film may cost: ``seconds`` by the clock and of the processor, ``memory`` in bytes."""

    seconds: float = 25.0
    memory: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Decoded:
    """A film as the network sees it: ``square`` holds (S, S) uint8 in C order."""

    name: str
    square: bytes
    facts: FilmFacts


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
                decoder.start()
            self._put(decoder)

    def close(self) -> None:
        """End all processes that are not at work; those at work end after their film."""
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
        for decoder in idle:
            decoder.close()

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
        decoder.close()


class Decoder:
    """One decoding process, started when it is first needed. For one thread at a time."""

    def __init__(self, preparation: Preparation, limits: Limits) -> None:
        self.preparation, self.limits = preparation, limits
        self.begun: str | None = None  # the name of the film that is being read
        self._pid = self._requests = self._answers = -1
        self._ready = False
        self._served = 0  # films of the process that runs now
        self._deadline = 0.0

    def load(self, item: Input) -> Decoded | Refusal:
        """Read and prepare one film.

        A film is blamed for the end of a process that was fresh; one that ends an older process is tried
        once more. Raises :class:`~carina.errors.DecoderError` where no process can be started.
        """
        while True:
            fresh = self._served == 0
            if self.begun != item.name:
                self.begin(item)
            answer = self._finish(item)
            if isinstance(answer, Decoded) or answer.code != "crashed" or fresh:
                return answer

    def start(self) -> None:
        """Start the process, if it does not run."""
        if self._pid < 0:
            self._start()

    def begin(self, item: Input) -> None:
        """Ask for a film without waiting for the answer."""
        self.start()
        self._deadline = time.monotonic() + self.limits.seconds
        path = None if item.data is not None else os.fspath(item.source)
        head = {"name": item.name, "path": path, "preparation": self.preparation.to_dict()}
        with suppress(BrokenPipeError):  # it is dead; finishing will say so
            send(self._requests, head, item.data or b"")
        self.begun = item.name

    def close(self) -> None:
        """End the process; it holds nothing that could be lost."""
        self._end(kill=True)

    def _finish(self, item: Input) -> Decoded | Refusal:
        self.begun = None
        try:
            if not self._ready and not self._greeted():
                raise DecoderError("the decoding process cannot be started; see whether memory is short")
            message = receive(self._answers, self._wait)
            if message is None:
                return self._died(item.name)
            return self._understood(message, item.name)
        except TimeoutError:
            self._end(kill=True)
            return _too_slow(item.name, self.limits)
        except (ValueError, KeyError, TypeError):
            self._end(kill=True)
            fault = "crashed: its content made the decoder talk nonsense"
            return Refusal(item.name, "crashed", f"{fault}; fetch the file again from its source")

    def _greeted(self) -> bool:
        self._ready = receive(self._answers, self._wait) is not None
        if not self._ready:
            self._end(kill=True)
        self._deadline = time.monotonic() + self.limits.seconds  # starting is not the film's time
        return self._ready

    def _understood(self, message: Message, name: str) -> Decoded | Refusal:
        head, square = message
        self._served += 1
        if "code" in head:
            return Refusal(name, str(head["code"]), str(head["reason"]))
        if len(square) != self.preparation.size**2:
            raise ValueError("a square of another size")
        return Decoded(name, square, FilmFacts(**head["facts"]))

    def _died(self, name: str) -> Refusal:
        signalled = self._end(kill=False)
        if signalled == signal.SIGXCPU:
            return _too_slow(name, self.limits)
        how = f" ({signal.strsignal(signalled)})" if signalled else ""
        fault = f"crashed: its content ended the decoder{how}"
        return Refusal(name, "crashed", f"{fault}; fetch the file again from its source")

    def _wait(self) -> None:
        """Until something can be read; raises ``TimeoutError`` at the deadline."""
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        if not poll.poll(max(0.0, self._deadline - time.monotonic()) * 1000):
            raise TimeoutError

    def _start(self) -> None:
        ours_out, ours_in = _pipe(), _pipe()  # (read, write) each
        place = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
        paths = [place, os.environ.get("PYTHONPATH", "")]
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        line = [sys.executable, "-P", "-m", "carina.scoring.child"]
        line += [str(self.limits.memory), str(max(1, round(self.limits.seconds)))]
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                line,
                {**os.environ, **single, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, ours_out[0], 0),
                    (os.POSIX_SPAWN_DUP2, ours_in[1], 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
            )
        except OSError as error:
            os.close(ours_out[1])
            os.close(ours_in[0])
            raise DecoderError(
                f"the decoding process cannot be started ({error.strerror}); see whether memory or "
                "processes are short"
            ) from error
        finally:
            os.close(ours_out[0])
            os.close(ours_in[1])
        self._requests, self._answers = ours_out[1], ours_in[0]
        self._ready = False

    def _end(self, *, kill: bool) -> int:
        """End the process; the signal that ended it, 0 where it ended by itself or never ran."""
        if self._pid < 0:
            return 0
        os.close(self._requests)
        os.close(self._answers)
        status = _reaped(self._pid, 0.0 if kill else _FAREWELL)
        if status is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            _, status = os.waitpid(self._pid, 0)
        self._pid, self._served, self.begun = -1, 0, None
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _reaped(pid: int, seconds: float) -> int | None:
    """The exit status of a child that ends within this time."""
    until = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def _pipe() -> tuple[int, int]:
    """A pipe that children do not inherit, on handles above those of standard input and output."""
    ends = os.pipe()
    if min(ends) > 2:
        return ends
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


def _too_slow(name: str, limits: Limits) -> Refusal:
    fault = f"timed_out: it takes longer than {limits.seconds:g} s to decode"
    return Refusal(name, "timed_out", f"{fault}; fetch the file again from its source")
