"""strace on a process that runs: which calls it makes, in which order, and faults put into them.

Knows strace's lines, nothing of what a call is for.
"""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.serving.programs import program

_LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$")


@dataclass(slots=True)
class Call:
    """One system call: its thread, what it was asked and answered, and the lines of the trace it spans."""

    thread: str
    name: str
    text: str
    begins: int
    ends: int | None = None

    @property
    def injected(self) -> bool:
        """Whether strace made it fail."""
        return "(INJECTED)" in self.text

    @property
    def well(self) -> bool:
        """Whether it ended, and not with an error."""
        return self.ends is not None and re.search(r"= -1 E\w+", self.text) is None


@contextmanager
def traced(pid: int, out: Path, *options: str, seconds: float = 60.0) -> Iterator[None]:
    """Trace all threads of ``pid`` into ``out`` within the block; then let it go on untraced."""
    line = [program("strace", "strace"), "-f", "-yy", "-o", str(out), *options, "-p", str(pid)]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said, attached = list[str](), threading.Event()

    def hear() -> None:
        assert process.stderr is not None
        for each in process.stderr:
            said.append(each)
            if "attached" in each:
                attached.set()
        attached.set()

    listener = threading.Thread(target=hear, daemon=True)
    listener.start()
    try:
        assert attached.wait(seconds), "strace did not attach"
        if any("not permitted" in each for each in said):
            pytest.skip("strace may not attach here (kernel.yama.ptrace_scope)")
        assert process.poll() is None, said
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(seconds)
        listener.join(seconds)
        process.stderr.close()


def calls(trace: Path) -> list[Call]:
    """The calls of a trace, in the order in which they began."""
    found, unfinished = list[Call](), dict[str, Call]()
    for number, line in enumerate(trace.read_bytes().decode("utf-8", "replace").splitlines()):
        match = _LINE.match(line)
        if match is None:
            continue
        thread, resumed, name, rest = match.groups()
        if resumed:
            call = unfinished.pop(thread, None)
            if call is not None:
                call.text += rest
                call.ends = number
            continue
        call = Call(thread, name, rest, number)
        if rest.endswith("<unfinished ...>"):
            unfinished[thread] = call
        else:
            call.ends = number
        found.append(call)
    return found
