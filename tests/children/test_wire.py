"""What goes between Carina and its children: what came in comes out, and nothing else is believed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import carina
from carina.children import wire


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


def test_no_module_of_carina_unpickles_anything() -> None:
    for path in Path(carina.__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert "import pickle" not in text, path
        assert "allow_pickle=True" not in text, path
