"""The order of promises: the file lasts, then its name, then its folder, then the row; only then the answer.

Read off the system calls of a service that runs, under strace.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.reliability.sender import Association, film
from tests.reliability.site import Site
from tests.reliability.tracing import Call, calls, traced

_CALLS = "trace=fsync,fdatasync,rename,sendto"


@dataclass(frozen=True, slots=True)
class Size:
    """How many ``stores``, over one association; ``apart``: 1 for a service in a process of its own."""

    stores: int
    apart: int

    def __str__(self) -> str:
        return f"strace on {self.stores} stores"


QUICK, FULL = Size(8, 0), Size(50, 1)


@dataclass(frozen=True, slots=True)
class Found:
    """``faults`` says what stood in the wrong order."""

    stores: int
    in_order: int
    faults: list[str]

    @property
    def met(self) -> bool:
        return self.in_order == self.stores

    def __str__(self) -> str:
        steps = "fsync(file) < rename < fsync(directory) < database commit < success"
        said = f"{steps}: {self.in_order}/{self.stores}"
        return "; ".join([said, *self.faults[:3]])


def load(folder: Path, bundle: Path, size: Size) -> Found:
    """Send films one after the other, and look at the order for each."""
    trace = folder / "trace"
    with Site(folder, None, inside=not size.apart) as site:
        site.start(role="listener")
        link = Association(site.dicom)
        with traced(site.pid, trace, "-e", _CALLS):
            assert [link.store(film(number)) for number in range(size.stores)] == [0] * size.stores
        link.close()
        site.stop()
    found = [_fault(each, trace_, site.dicom) for trace_ in (calls(trace),) for each in _renames(trace_)]
    faults = [fault for fault in found if fault is not None]
    return Found(size.stores, len(found) - len(faults), faults)


def _renames(trace: list[Call]) -> list[int]:
    return [place for place, call in enumerate(trace) if call.name == "rename"]


def _fault(place: int, trace: list[Call], port: int) -> str | None:
    """What is out of order around the rename at ``place``, or None."""
    rename = trace[place]
    own = [call for call in trace if call.thread == rename.thread]
    before = [call for call in own if call.begins < rename.begins and ".part>" in call.text]
    if not before or before[-1].name != "fsync" or not _follows(before[-1], rename):
        return "the file did not last before its name"
    after = [call for call in own if call.begins > rename.begins and call.name in ("fsync", "fdatasync")]
    if len(after) < 2 or "/archive/" not in after[0].text or not _follows(rename, after[0]):
        return "the folder did not last after the name"
    if "-wal>" not in after[1].text or not _follows(after[0], after[1]):
        return "the row did not last after the folder"
    answers = [call for call in trace if call.begins > rename.begins and _answers(call, port)]
    if not answers or not _follows(after[1], answers[0]):
        return "the answer was sent before the row lasted"
    return None


def _follows(first: Call, second: Call) -> bool:
    return first.well and first.ends is not None and first.ends <= second.begins


def _answers(call: Call, port: int) -> bool:
    """Whether this is a P-DATA PDU (type 4) to a sender."""
    return call.name == "sendto" and f":{port}->" in call.text and ', "\\4\\0' in call.text
