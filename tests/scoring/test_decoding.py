"""Films are read in processes of their own: what ends one of them ends nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from carina.errors import DecoderError
from carina.images.prepare import Preparation, load
from carina.records import Refusal
from carina.scoring import wire
from carina.scoring.decoding import Decoded, Decoder, Decoders, Limits
from carina.scoring.inputs import Input

PREPARATION = Preparation(size=64)


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    one = Decoder(PREPARATION, Limits())
    yield one
    one.close()


def film(films: Path, number: int = 0) -> Input:
    path = films / f"film_{number:02}.png"
    return Input(str(path), path=path)


def test_a_process_gives_the_same_square_and_facts_as_reading_here(decoder: Decoder, films: Path) -> None:
    square, facts = load(film(films).source, PREPARATION, name=film(films).name)
    for item in (film(films), Input(film(films).name, data=(films / "film_00.png").read_bytes())):
        answer = decoder.load(item)
        assert isinstance(answer, Decoded)
        assert answer.facts == facts
        np.testing.assert_array_equal(np.frombuffer(answer.square, np.uint8).reshape(64, 64), square)


def test_a_name_that_is_no_utf8_is_read(decoder: Decoder, films: Path, tmp_path: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes((films / "film_01.png").read_bytes())
    assert isinstance(decoder.load(Input("caf\\xe9.png", path=path)), Decoded)


def test_a_process_that_dies_under_a_film_is_replaced_and_the_film_tried_once_more(
    decoder: Decoder, films: Path
) -> None:
    assert isinstance(decoder.load(film(films)), Decoded)
    assert decoder._pid > 0
    os.kill(decoder._pid, signal.SIGSEGV)
    assert isinstance(decoder.load(film(films, 1)), Decoded)


def test_a_film_that_ends_a_fresh_process_is_refused(
    decoder: Decoder, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Decoder.begin

    def begin_and_die(self: Decoder, item: Input) -> None:
        begin(self, item)
        if item.name == "deadly":
            wire.receive(self._answers)  # it is ready
            self._ready = True
            os.kill(self._pid, signal.SIGSEGV)

    monkeypatch.setattr(Decoder, "begin", begin_and_die)
    stuck = Input("deadly", data=b"\x00" * 1000)
    answer = decoder.load(stuck)
    if isinstance(answer, Refusal) and answer.code == "not_an_image":
        pytest.skip("it answered before the signal came")
    assert answer == Refusal(
        "deadly",
        "crashed",
        "crashed: its content ended the decoder (Segmentation fault); fetch the file again from its source",
    )
    assert isinstance(decoder.load(film(films)), Decoded)


def test_a_film_that_takes_too_long_is_refused_within_its_time(films: Path, tmp_path: Path) -> None:
    decoder = Decoder(PREPARATION, Limits(seconds=1.0))
    decoder.load(film(films))
    assert decoder._pid > 0
    os.kill(decoder._pid, signal.SIGSTOP)  # it will never answer
    began = time.monotonic()
    answer = decoder.load(film(films, 1))
    assert time.monotonic() - began < 3
    assert isinstance(answer, Refusal)
    assert answer.code == "timed_out"
    assert "longer than 1 s" in answer.reason
    assert isinstance(decoder.load(film(films, 1)), Decoded)
    decoder.close()


BURNS = """
import sys, types
from carina.scoring import child
def load(source, preparation, name):
    if name == "burn":
        while True: pass
    if name == "eat":
        return bytearray(8 << 30)
    raise RuntimeError("a fault of ours")
import carina.images.prepare as prepare
prepare.load = load
child.main(1 << 30, 1)
"""


def burning() -> subprocess.Popen[bytes]:
    line = [sys.executable, "-c", BURNS]
    return subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def asked(process: subprocess.Popen[bytes], name: str) -> wire.Message | None:
    assert process.stdin is not None
    assert process.stdout is not None
    head = {"name": name, "path": None, "preparation": PREPARATION.to_dict()}
    wire.send(process.stdin.fileno(), head, b"")
    return wire.receive(process.stdout.fileno())


def test_memory_is_limited_and_our_own_faults_stay_with_the_film() -> None:
    with burning() as process:
        assert process.stdout is not None
        assert wire.receive(process.stdout.fileno()) == ({"ready": True}, b"")
        eaten, wrong = asked(process, "eat"), asked(process, "other")
        assert eaten is not None
        assert eaten[0]["code"] == "too_large"
        assert wrong is not None
        assert wrong[0]["reason"].startswith("internal: RuntimeError: a fault of ours; this is a fault of Ca")
        process.kill()


def test_the_kernel_ends_a_film_that_burns_the_processor_even_when_nobody_watches() -> None:
    with burning() as process:
        assert process.stdout is not None
        wire.receive(process.stdout.fileno())
        assert asked(process, "burn") is None
        assert process.wait(20) == -signal.SIGXCPU


def test_a_process_ends_when_its_parent_does(films: Path) -> None:
    code = f"""
import os, sys
from carina.images.preparation import Preparation
from carina.scoring.decoding import Decoder, Limits
from carina.scoring.inputs import Input
decoder = Decoder(Preparation(size=64), Limits())
decoder.load(Input("film", path={str(films / "film_00.png")!r}))
print(decoder._pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    for _ in range(500):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.01)
    pytest.fail("the decoding process outlived its parent")


def test_what_was_begun_ahead_is_not_read_twice(films: Path) -> None:
    with Decoders(PREPARATION) as decoders:
        decoders.start(1, first=film(films))
        assert isinstance(decoders.load(film(films)), Decoded)
        assert isinstance(decoders.load(film(films, 1)), Decoded)
        (only,) = decoders._idle
        assert only._served == 2
    assert only._pid == -1


def test_a_process_that_cannot_be_started_is_an_error_and_no_refusal(
    films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DecoderError, match="cannot be started"):
        Decoder(PREPARATION, Limits()).load(film(films))
    monkeypatch.undo()
    tight = Decoder(PREPARATION, Limits(memory=16 << 20))
    with pytest.raises(DecoderError, match="cannot be started"):
        tight.load(film(films))


@pytest.mark.parametrize("reply", [b"", b"\xff" * 64, wire._SIZES.pack(2, 0) + b"[]"])
def test_what_is_no_message_is_never_believed(reply: bytes) -> None:
    ends = os.pipe()
    os.write(ends[1], reply)
    os.close(ends[1])
    if reply:
        with pytest.raises(ValueError):
            wire.receive(ends[0])
    else:
        assert wire.receive(ends[0]) is None
    os.close(ends[0])


def test_messages_come_out_as_they_went_in() -> None:
    ends = os.pipe()
    head = {"name": "caf\udce9\n🩻", "path": None, "number": 1.5}
    wire.send(ends[1], json.loads(json.dumps(head)), b"payload")
    assert wire.receive(ends[0]) == (head, b"payload")
    for end in ends:
        os.close(end)
