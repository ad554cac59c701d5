"""The side that asks: one child process, its deadline, and what is known when it ends.

Decoders of compressed pixels are native code, and damaged streams make some of them crash or never return.
A child that dies, or takes longer than it may, is replaced when it is asked next. Starting one takes as long
as loading numpy, so it is started early and used again. :mod:`carina.children.child` is the other side.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from carina.children.wire import Message, receive, send
from carina.errors import DecoderError

_FAREWELL = 0.5  # seconds that a process may take to end by itself
_GLANCE = 250  # ms between looks at whether anybody still waits for the answer


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost: ``seconds`` by the clock and of the processor, ``memory`` in bytes."""

    seconds: float = 25.0
    memory: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that gave no answer: it was too ``slow``, or it died, of ``how`` where that is known."""

    slow: bool = False
    how: str | None = None


class Child:
    """One process that does ``work`` (``module:function``), started when it is needed. For one thread."""

    def __init__(self, work: str, limits: Limits) -> None:
        self.work, self.limits = work, limits
        self.pid: int | None = None  # never -1: a signal to that goes to every process there is
        self.served = 0  # requests that the process which runs now has answered
        self._requests = self._answers = -1
        self._ready = False
        self._deadline = 0.0
        self._begun: Message | None = None
        self._given_up = False

    def ask(self, head: dict[str, Any], payload: bytes = b"") -> Message | Ended:
        """The answer to one request.

        A request is blamed for the end of a child that was fresh; one that ends an older child is put once
        more. Raises :class:`~carina.errors.DecoderError` where no process can be started.
        """
        while True:
            fresh = self.served == 0
            if self._begun != (head, payload):
                self.begin(head, payload)
            answer = self._finish()
            if not isinstance(answer, Ended) or answer.slow or fresh:
                return answer

    def start(self) -> None:
        """Start the process, if it does not run."""
        if self.pid is None:
            self._start()

    def begin(self, head: dict[str, Any], payload: bytes = b"") -> None:
        """Put a request without waiting for the answer, which ``ask`` will fetch."""
        self.start()
        self._deadline = time.monotonic() + self.limits.seconds
        with suppress(BrokenPipeError):  # it is dead; finishing will say so
            send(self._requests, head, payload)
        self._begun = head, payload

    def give_up(self) -> None:
        """Said from another thread: nobody waits for the answer any more, so the process is ended soon."""
        self._given_up = True

    def close(self) -> None:
        """End the process; it holds nothing that could be lost."""
        self._end(kill=True)

    def _finish(self) -> Message | Ended:
        self._begun = None
        try:
            if not self._ready:
                self._greet()
            message = receive(self._answers, self._wait)
        except TimeoutError:
            self._end(kill=True)
            return Ended(slow=True)
        except ValueError:
            self._end(kill=True)
            return Ended(how="it talked nonsense")
        if message is None:
            return self._died()
        self.served += 1
        return message

    def _greet(self) -> None:
        message = receive(self._answers, self._wait)
        if message is None or "ready" not in message[0]:
            why = f" ({message[0].get('fault')})" if message else ""
            self._end(kill=True)
            raise DecoderError(
                f"the decoding process cannot be started{why}; see whether memory is short or Carina's "
                "installation is damaged"
            )
        self._ready = True
        self._deadline = time.monotonic() + self.limits.seconds  # starting is not the film's time

    def _died(self) -> Ended:
        signalled = self._end(kill=False)
        if signalled == signal.SIGXCPU:
            return Ended(slow=True)
        return Ended(how=signal.strsignal(signalled) if signalled else None)

    def _wait(self) -> None:
        """Until something can be read; raises ``TimeoutError`` at the deadline, or given up."""
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        while not poll.poll(min(_GLANCE, max(0.0, self._deadline - time.monotonic()) * 1000)):
            if self._given_up or time.monotonic() >= self._deadline:
                raise TimeoutError

    def _start(self) -> None:
        ours_out, ours_in = _pipe(), _pipe()  # (read, write) each
        place = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
        paths = dict.fromkeys((place, *filter(None, sys.path)))  # it finds what we would find
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        line = [sys.executable, "-P", "-m", "carina.children.child"]
        line += [str(self.limits.memory), str(max(1, round(self.limits.seconds))), self.work]
        try:
            self.pid = os.posix_spawn(
                sys.executable,
                line,
                {**os.environ, **single, "PYTHONPATH": os.pathsep.join(paths)},
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
        if self.pid is None:
            return 0
        os.close(self._requests)
        os.close(self._answers)
        status = _reaped(self.pid, 0.0 if kill else _FAREWELL)
        if status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
        self.pid, self.served, self._begun = None, 0, None
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
