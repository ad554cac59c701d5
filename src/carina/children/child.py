"""A child: requests come in, answers go out, until nobody asks any more.

It holds what reads files of strangers and nothing else: no model, no table. Its memory is limited, and its
processor time for each request; the kernel ends it where it goes beyond. What it does with a request is a
function that its parent names, ``module:function``, from a head and a payload to a head and a payload.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from carina.children.wire import Message, receive, send

Work = Callable[[dict[str, Any], bytes], Message]

_LEFT_OUT = ("requests", "tqdm")  # pydicom would load them to download examples: a tenth of a second


def main(memory: int, seconds: int, work: str) -> None:
    """Serve requests on standard input, answers on standard output; ``memory`` in bytes."""
    for each in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, whose end is ours; else the film
        signal.signal(each, signal.SIG_IGN)  # that is being read would be blamed for it
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):  # no library reads a request or writes into an answer
        os.dup2(nothing, handle)
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)  # it writes no file
    for name in _LEFT_OUT:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        module, _, function = work.partition(":")
        do: Work = getattr(importlib.import_module(module), function)
    except Exception as error:
        send(answers, {"fault": f"{type(error).__name__}: {error}"})
        return
    send(answers, {"ready": True})
    while (message := receive(requests)) is not None:
        _limit(resource.RLIMIT_CPU, _used() + seconds)
        send(answers, *answer(do, *message))


def answer(work: Work, head: dict[str, Any], payload: bytes) -> Message:
    """What ``work`` answers; or ``code``, ``fault`` and ``cure`` of the film's error, or ``bug``, ours."""
    from carina.errors import ImageError

    try:
        return work(head, payload)
    except ImageError as error:
        return {"code": error.code, "fault": error.fault, "cure": error.cure}, b""
    except MemoryError:
        return {"code": "too_large", "fault": "not enough memory to read it", "cure": "leave it out"}, b""
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        return {"bug": said, "trace": "".join(traceback.format_exception(error))[-20_000:]}, b""


def _used() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return int(used.ru_utime + used.ru_stime) + 1


def _limit(what: int, soft: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    with suppress(ValueError, OSError):  # a system that knows no such limit
        resource.setrlimit(what, (soft, hard))


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
