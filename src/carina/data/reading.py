"""Read many films at once, in child processes, so that a file that kills its decoder kills no run.

Each child reads one film at a time, on request. When a child dies, the film it was reading is known
for certain: it is reported as unreadable, and another child takes over. The children run this module's
``serve`` and nothing of the caller's script, so a script needs no ``if __name__ == "__main__"``.

Knows films, not labels. With ``workers=0`` everything happens in the calling process, unprotected.
"""

from __future__ import annotations

import os
import pickle
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from carina.errors import ImageError, UnreadableImage
from carina.records import FilmFacts

_LENGTH = struct.Struct("<Q")
_SERVE = "from carina.data.reading import serve; serve()"


@dataclass(frozen=True, slots=True)
class Look:
    """What is kept of one film that was read: its facts and its descriptor for finding near copies."""

    facts: FilmFacts
    descriptor: NDArray[np.uint8]


def look(path: Path) -> Look:
    """Read one film. Raises ImageError when it cannot be used."""
    from carina.data.duplicates import describe
    from carina.images.read import read

    film = read(path)
    return Look(film.facts, describe(film.pixels))


def look_at_all(
    paths: Sequence[Path], *, workers: int | None = None
) -> Iterator[tuple[int, Look | ImageError]]:
    """Every film's place in ``paths`` and what came of reading it, in the order in which they finish.

    ``workers`` is the number of child processes; None means one for each core this process may use.
    """
    if workers == 0:
        for i, path in enumerate(paths):
            yield i, _answer(path, look)
        return
    yield from ask_all(paths, min(workers or cores(), len(paths)), _SERVE)


def ask_all(
    paths: Sequence[Path], workers: int, code: str, *, patience: float = 300
) -> Iterator[tuple[int, Look | ImageError]]:
    """Hand ``paths`` to ``workers`` children that run ``code``; a film may take ``patience`` seconds."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for i in range(len(paths)):
        waiting.put(i)
    done: queue.SimpleQueue[tuple[int, Look | ImageError] | BaseException] = queue.SimpleQueue()
    stop = threading.Event()

    def attend() -> None:
        child: _Child | None = None
        try:
            while not stop.is_set():
                i = waiting.get_nowait()
                child = child or _Child(code, patience)
                answer = child.ask(paths[i])
                if answer is None:
                    child.close()
                    child = None
                    fault = "reading it ended the process that read it, or took too long"
                    answer = UnreadableImage(
                        paths[i], fault, "convert it with another program, or leave it out"
                    )
                done.put((i, answer))
        except queue.Empty:
            pass
        except BaseException as error:
            done.put(error)
        finally:
            if child:
                child.close()

    threads = [threading.Thread(target=attend, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(len(paths)):
            answer = done.get()
            if isinstance(answer, BaseException):
                raise answer
            yield answer
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class _Child:
    """One child process: a path in, an answer out, both as pickles with their length in front."""

    def __init__(self, code: str, patience: float) -> None:
        path = os.pathsep.join(entry for entry in sys.path if entry)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._patience = patience
        with tempfile.TemporaryFile() as says:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=says,
                env={**os.environ, **threads, "PYTHONPATH": path},
            )
            assert self._process.stdout is not None
            try:
                _receive(self._process.stdout)  # it is up: from here on, a death is the film's doing
            except EOFError as error:
                self.close()
                says.seek(0)
                raise RuntimeError(
                    f"a reading process did not start:\n{says.read().decode(errors='replace')}"
                ) from error

    def ask(self, path: Path) -> Look | ImageError | None:
        """The answer, or None when the child died or was ended for taking too long."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watch = threading.Timer(self._patience, self._process.kill)
        watch.daemon = True
        watch.start()
        try:
            _send(self._process.stdin, path)
            answer = _receive(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            return None
        finally:
            watch.cancel()
        if isinstance(answer, Exception) and not isinstance(answer, ImageError):
            raise answer
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the child and wait for it."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(OSError):  # a child that died leaves an unsent request behind
                    stream.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(work: Callable[[Path], Any] = look) -> None:
    """What a child does: answer paths on stdin until it closes."""
    import carina.data.duplicates
    import carina.images.read  # noqa: F401

    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a decoder that prints must not write into the answers
    _send(answers, "ready")
    while True:
        try:
            path = _receive(requests)
        except EOFError:
            return
        try:
            answer: Any = _answer(path, work)
        except Exception as error:
            answer = RuntimeError(f"{path}: {error}\n{traceback.format_exc()}")
        _send(answers, answer)


def _answer(path: Path, work: Callable[[Path], Any]) -> Any:
    try:
        return work(path)
    except ImageError as error:
        return error
    except MemoryError:
        return UnreadableImage(
            path, "reading it needs more memory than there is", "leave it out, or use fewer workers"
        )


def _send(stream: IO[bytes], item: object) -> None:
    body = pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    body = stream.read(_LENGTH.unpack(head)[0])
    return pickle.loads(body)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
