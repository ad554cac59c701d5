"""Read many films at once, in child processes, so that a file that kills its decoder kills no run.

Each child reads one film at a time, on request (:mod:`carina.children`). When a child dies, the film it was
reading is known for certain: it is reported as unreadable, and another child takes over. The children run
functions of this package and nothing of the caller's script, so a script needs no
``if __name__ == "__main__"``.

Knows films, not labels. With ``workers=0`` everything happens in the calling process, unprotected.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from carina.children.process import Child, Ended, Limits
from carina.children.wire import Message
from carina.errors import ImageError, UnreadableImage
from carina.records import FilmFacts

LIMITS = Limits(seconds=300)  # nobody waits for one film here, and the largest come from slow disks
_CODES = {kind.code: kind for kind in ImageError.__subclasses__()}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Look:
    """What is kept of one film that was read: its facts and its descriptor for finding near copies."""

    facts: FilmFacts
    descriptor: NDArray[np.uint8]


def look(path: Path) -> Look:
    """Read one film. Raises ImageError when it cannot be used."""
    from carina.data.descriptors import describe
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
            try:
                yield i, look(path)
            except ImageError as error:
                yield i, error
        return
    yield from ask_all(paths, "carina.data.reading:looked", _look_of, workers=workers)


def looked(head: dict[str, Any], _: bytes) -> Message:
    """What a child does with a film that ``look_at_all`` asks for."""
    seen = look(Path(head["path"]))
    return {"facts": dataclasses.asdict(seen.facts)}, seen.descriptor.tobytes()


def _look_of(message: Message) -> Look:
    from carina.data.descriptors import SIDE

    head, descriptor = message
    return Look(FilmFacts.of(head["facts"]), np.frombuffer(descriptor, np.uint8).reshape(SIDE, SIDE))


def ask_all(
    paths: Sequence[Path],
    work: str,
    understood: Callable[[Message], T],
    *,
    workers: int | None = None,
    options: Mapping[str, Any] | None = None,
    limits: Limits = LIMITS,
) -> Iterator[tuple[int, T | ImageError]]:
    """Each film's place in ``paths`` and what ``work`` made of it, in the order in which they finish.

    ``work`` names a function, ``module:function``, that a child calls with ``options`` and the ``path``;
    ``understood`` reads its answer, and raises ``ValueError``, ``KeyError`` or ``TypeError`` where it is
    none. ``workers`` is the number of children, one for each core where it is None.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for i in range(len(paths)):
        waiting.put(i)
    done: queue.SimpleQueue[tuple[int, T | ImageError] | BaseException] = queue.SimpleQueue()
    stop = threading.Event()
    count = min(cores() if workers is None else workers, len(paths))
    children = [Child(work, limits) for _ in range(count)]

    def attend(child: Child) -> None:
        try:
            while not stop.is_set():
                i = waiting.get_nowait()
                done.put((i, _asked(child, paths[i], options or {}, understood)))
        except queue.Empty:
            pass
        except BaseException as error:
            done.put(error)
        finally:
            child.close()

    threads = [threading.Thread(target=attend, args=(child,), daemon=True) for child in children]
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
        for child in children:  # whoever stops does not wait for a film that takes minutes
            child.give_up()
        for thread in threads:
            thread.join()


def _asked(
    child: Child, path: Path, options: Mapping[str, Any], understood: Callable[[Message], T]
) -> T | ImageError:
    answer = child.ask({**options, "path": os.fspath(path)})
    if isinstance(answer, Ended):
        how = "it took too long" if answer.slow else answer.how
        why = f" ({how})" if how else ""
        fault = f"reading it ended the process that read it{why}"
        return UnreadableImage(path, fault, "convert it with another program, or leave it out")
    head, _ = answer
    if "bug" in head:
        raise RuntimeError(f"{path}: {head['bug']}\n{head.get('trace')}")
    try:
        if "code" in head:
            kind = _CODES.get(str(head["code"]), UnreadableImage)
            return kind(path, str(head["fault"]), str(head["cure"]))
        return understood(answer)
    except (ValueError, KeyError, TypeError):
        child.close()
        fault = "reading it made the process that read it talk nonsense"
        return UnreadableImage(path, fault, "convert it with another program, or leave it out")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
