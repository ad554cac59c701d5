"""A child does what it is asked, within its limits; what ends it ends nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carina.children import wire
from carina.children.process import Child, Ended, Limits
from carina.errors import DecoderError

WORKS = """
import os, signal, subprocess, sys
def work(head, payload):
    from carina.errors import TruncatedImage
    what = head["do"]
    if what == "die": os.kill(os.getpid(), signal.SIGSEGV)
    if what == "leave": os._exit(3)
    if what == "burn":
        while True: pass
    if what == "eat": return {}, bytes(8 << 30)
    if what == "refuse": raise TruncatedImage("x", "it ends early", "fetch it again")
    if what == "fault": raise KeyError("ours")
    if what == "write":
        with open(head["path"], "w") as file: file.write("x")
    if what == "babble": os.write(1, b"noise"); sys.stdout.write("noise"); print("noise", file=sys.stderr)
    if what == "network": return {"requests": sys.modules.get("requests", "free") is None}, b""
    return {"said": head["do"]}, payload[::-1]
"""


@pytest.fixture(autouse=True)
def works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "child_works.py").write_text(WORKS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def child() -> Iterator[Child]:
    one = Child("child_works:work", Limits(seconds=20, memory=1 << 30))
    yield one
    one.close()


def test_a_child_answers_and_is_used_again(child: Child) -> None:
    assert child.ask({"do": "echo"}, b"abc") == ({"said": "echo"}, b"cba")
    pid = child.pid
    assert child.ask({"do": "babble"}, b"x" * 3_000_000) == ({"said": "babble"}, b"x" * 3_000_000)
    assert (child.pid, child.served) == (pid, 2)


def test_a_request_that_ends_a_fresh_child_is_blamed(child: Child) -> None:
    assert child.ask({"do": "die"}) == Ended(how="Segmentation fault")
    assert child.ask({"do": "leave"}) == Ended()
    assert child.ask({"do": "echo"}) == ({"said": "echo"}, b"")


def test_a_request_that_meets_the_end_of_an_older_child_is_put_once_more(child: Child) -> None:
    child.ask({"do": "echo"})
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSEGV)
    assert child.ask({"do": "echo"}) == ({"said": "echo"}, b"")
    assert child.ask({"do": "die"}) == Ended(how="Segmentation fault")  # it ended two of them


def test_what_was_begun_is_not_asked_twice(child: Child) -> None:
    child.begin({"do": "echo"}, b"ab")
    assert child.ask({"do": "echo"}, b"ab") == ({"said": "echo"}, b"ba")
    assert child.served == 1


def test_a_child_that_stops_is_ended_within_its_time() -> None:
    child = Child("child_works:work", Limits(seconds=1.0))
    child.ask({"do": "echo"})
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)  # it will never answer
    began = time.monotonic()
    assert child.ask({"do": "echo"}) == Ended(slow=True)
    assert time.monotonic() - began < 3
    child.close()


def test_errors_come_back_as_plain_words(child: Child) -> None:
    eaten, refused, fault = (child.ask({"do": what}) for what in ("eat", "refuse", "fault"))
    assert not isinstance(eaten, Ended)
    assert eaten[0]["code"] == "too_large"
    assert refused == ({"code": "truncated", "fault": "it ends early", "cure": "fetch it again"}, b"")
    assert not isinstance(fault, Ended)
    assert fault[0]["bug"] == "KeyError: 'ours'"
    assert "child_works.py" in fault[0]["trace"]


def test_a_child_writes_no_file_and_loads_nothing_to_download_with(child: Child, tmp_path: Path) -> None:
    answer = child.ask({"do": "write", "path": str(tmp_path / "out")})
    assert isinstance(answer, Ended) or "bug" in answer[0]
    assert not (tmp_path / "out").exists() or (tmp_path / "out").stat().st_size == 0
    assert child.ask({"do": "network"}) == ({"requests": True}, b"")


def test_the_kernel_ends_a_request_that_burns_the_processor_even_when_nobody_watches(works: Path) -> None:
    line = [sys.executable, "-m", "carina.children.child", str(1 << 30), "1", "child_works:work"]
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=given) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert wire.receive(process.stdout.fileno()) == ({"ready": True}, b"")
        wire.send(process.stdin.fileno(), {"do": "burn"})
        assert wire.receive(process.stdout.fileno()) is None
        assert process.wait(20) == -signal.SIGXCPU


def test_a_child_ends_when_its_parent_does() -> None:
    code = """
import os
from carina.children.process import Child, Limits
child = Child("child_works:work", Limits())
child.ask({"do": "echo"})
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=given
    )
    pid = int(done.stdout)
    for _ in range(500):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.01)
    pytest.fail("the child outlived its parent")


def test_a_child_that_cannot_be_started_is_an_error_and_nobodys_blame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(DecoderError, match=r"cannot be started \(ModuleNotFoundError: .*no_such_module"):
        Child("no_such_module:work", Limits()).ask({})
    with pytest.raises(DecoderError, match="cannot be started"):
        Child("child_works:work", Limits(memory=16 << 20)).ask({"do": "echo"})
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DecoderError, match="cannot be started"):
        Child("child_works:work", Limits()).ask({"do": "echo"})
