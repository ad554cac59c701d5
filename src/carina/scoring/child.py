"""A decoding process: a film comes in, its square and its facts go out, until nobody asks any more.

It holds what reads files of strangers and nothing else: no model, no table. Its memory is limited, and its
processor time for each film; the kernel ends it where it goes beyond. :mod:`carina.scoring.decoding` is the
other side.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from carina.scoring.wire import receive, send

_LEFT_OUT = ("requests", "tqdm")  # pydicom would load them to download examples: a tenth of a second


def main(memory: int, seconds: int) -> None:
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
    import carina.images.prepare  # what every film needs, before the first one is asked for

    send(answers, {"ready": True})
    while (message := receive(requests)) is not None:
        _limit(resource.RLIMIT_CPU, _used() + seconds)
        send(answers, *_answer(carina.images.prepare, *message))


def _answer(prepare: Any, head: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Whatever goes wrong with a film stays with it, and is said in its row."""
    from carina.errors import ImageError

    try:
        preparation = prepare.Preparation.from_dict(head["preparation"])
        source = data if head["path"] is None else Path(head["path"])
        square, facts = prepare.load(source, preparation, name=head["name"])
    except ImageError as error:
        return {"code": error.code, "reason": error.reason}, b""
    except MemoryError:
        return {"code": "too_large", "reason": "too_large: not enough memory to read it; leave it out"}, b""
    except Exception as error:
        # Our bug: the other films of the night still get their scores.
        fault = f"internal: {type(error).__name__}: {error}; this is a fault of Carina, please report it"
        return {"code": "internal", "reason": fault}, b""
    return {"facts": dataclasses.asdict(facts)}, square.tobytes()


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
        main(int(sys.argv[1]), int(sys.argv[2]))
