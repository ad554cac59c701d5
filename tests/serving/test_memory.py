"""Freed memory goes back to the system, where the C library can be told so."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from carina.serving import memory

# A thread after the other fills a heap with small blocks and frees all but a few, as associations do.
_THREADS = """
import sys, threading, resource
from pathlib import Path
from carina.serving import memory
{before}

def resident():
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * resource.getpagesize() / 2**20

kept, gate = [], threading.Barrier(8)

def work():
    blocks = [bytes(2000) for _ in range(2000)]
    gate.wait()
    kept.extend(blocks[::100])

begin = resident()
for _ in range(5):
    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads: each.start()
    for each in threads: each.join()
{after}
print(resident() - begin)
"""


@pytest.fixture
def glibc() -> None:
    if memory._library() is None:
        pytest.skip("the C library is not glibc")


def grown(before: str = "", after: str = "") -> float:
    code = _THREADS.format(before=before, after=after)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.usefixtures("glibc")
def test_what_threads_freed_does_not_stay_in_their_heaps() -> None:
    left, given_back = grown(), grown("memory.keep_few_heaps()", "memory.give_back()")
    assert given_back < left / 2
    assert given_back < 8  # MB


@pytest.mark.usefixtures("glibc")
def test_the_c_library_takes_what_it_is_told() -> None:
    told = "import sys; from carina.serving import memory; sys.exit(0 if memory.keep_few_heaps() else 1)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0


def test_memory_is_given_back_now_and_then_until_the_service_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, times = threading.Event(), []

    def give_back() -> bool:
        times.append(len(times))
        if len(times) == 3:
            stop.set()
        return True

    monkeypatch.setattr(memory, "give_back", give_back)
    memory.keep_small(stop, often=0.0)
    assert len(times) == 3


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_library", lambda: None)
    assert not memory.keep_few_heaps()
    assert not memory.give_back()
