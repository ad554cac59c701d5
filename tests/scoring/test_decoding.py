"""Films are read in processes of their own: a square and facts come back, or a refusal."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carina.children.process import Child, Ended, Limits
from carina.children.wire import Message
from carina.errors import DecoderError
from carina.images.prepare import Preparation, load
from carina.records import Refusal
from carina.scoring.decoding import Decoded, Decoder, Decoders
from carina.scoring.inputs import Input

PREPARATION = Preparation(size=64)


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    one = Decoder(PREPARATION, Limits())
    yield one
    one.child.close()


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
    assert decoder.child.pid is not None
    os.kill(decoder.child.pid, signal.SIGSEGV)
    assert isinstance(decoder.load(film(films, 1)), Decoded)


def test_a_film_that_takes_too_long_is_refused_within_its_time(films: Path) -> None:
    decoder = Decoder(PREPARATION, Limits(seconds=3.0))
    decoder.load(film(films))
    assert decoder.child.pid is not None
    os.kill(decoder.child.pid, signal.SIGSTOP)  # it will never answer
    began = time.monotonic()
    answer = decoder.load(film(films, 1))
    assert time.monotonic() - began < 6
    assert isinstance(answer, Refusal)
    assert answer.code == "timed_out"
    assert "longer than 3 s" in answer.reason
    assert isinstance(decoder.load(film(films, 1)), Decoded)
    decoder.child.close()


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (
            Ended(how="Segmentation fault"),
            "crashed",
            "its content ended the decoder (Segmentation fault); fetch the file again from its source",
        ),
        (
            Ended(),
            "crashed",
            "crashed: its content ended the decoder; fetch the file again from its source",
        ),
        (({"facts": {}}, b"x"), "crashed", "talked nonsense"),
        (({"facts": {}}, bytes(64 * 64)), "crashed", "talked nonsense"),
        (({}, bytes(64 * 64)), "crashed", "talked nonsense"),
        (({"code": "no_pixels"}, b""), "crashed", "talked nonsense"),
        (
            ({"bug": "RuntimeError: ours", "trace": ""}, b""),
            "internal",
            "internal: RuntimeError: ours; this is a fault of Carina, please report it",
        ),
        (
            ({"code": "truncated", "fault": "it ends", "cure": "again"}, b""),
            "truncated",
            "truncated: it ends; again",
        ),
    ],
)
def test_what_a_child_says_or_does_not_becomes_a_refusal(
    decoder: Decoder,
    films: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Message | Ended,
    code: str,
    says: str,
) -> None:
    monkeypatch.setattr(Child, "ask", lambda self, head, payload=b"": answer)
    refusal = decoder.load(film(films))
    assert isinstance(refusal, Refusal)
    assert refusal.code == code
    assert says in refusal.reason


def test_facts_of_the_wrong_kind_are_not_believed(
    decoder: Decoder, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = dataclasses.asdict(load(film(films).source, PREPARATION)[1])
    for lie in ({"width": "wide"}, {"patient": ["P1"]}, {"age": "old"}, {"more": 1}):
        said: Any = ({"facts": {**true, **lie}}, bytes(64 * 64))
        monkeypatch.setattr(Child, "ask", lambda self, head, payload=b"", said=said: said)
        answer = decoder.load(film(films))
        assert isinstance(answer, Refusal), lie
        assert answer.code == "crashed"


def test_what_was_begun_ahead_is_not_read_twice(films: Path) -> None:
    with Decoders(PREPARATION) as decoders:
        decoders.start(1, first=film(films))
        assert isinstance(decoders.load(film(films)), Decoded)
        assert isinstance(decoders.load(film(films, 1)), Decoded)
        (only,) = decoders._idle
        assert only.child.served == 2
    assert only.child.pid is None


def test_a_process_that_cannot_be_started_is_an_error_and_no_refusal(
    films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DecoderError, match="cannot be started"):
        Decoder(PREPARATION, Limits()).load(film(films))
