"""Messages between Carina and its children: a head of plain values and a payload of bytes.

No pickle: a decoder that a hostile film has taken over can say false things, not run code with its parent.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from typing import Any

_SIZES = struct.Struct(">IQ")  # of the head and of the payload, in bytes
_MOST_HEAD, _MOST_PAYLOAD = 1 << 20, 1 << 30
_CHUNK = 1 << 20

Message = tuple[dict[str, Any], bytes]


def send(handle: int, head: dict[str, Any], payload: bytes = b"") -> None:
    """Write one message; raises ``OSError`` where nobody reads any more."""
    text = json.dumps(head).encode()  # ASCII: names that are no UTF-8 pass as escaped surrogates
    for part in (_SIZES.pack(len(text), len(payload)) + text, payload):
        at, whole = 0, memoryview(part)
        while at < len(whole):
            at += os.write(handle, whole[at:])


def receive(handle: int, wait: Callable[[], None] = lambda: None) -> Message | None:
    """The next message; ``None`` where the other side is gone.

    ``wait`` is called before each read, and may raise. Raises ``ValueError`` for what is no message.
    """
    sizes = _exactly(handle, _SIZES.size, wait)
    if sizes is None:
        return None
    head_size, payload_size = _SIZES.unpack(sizes)
    if head_size > _MOST_HEAD or payload_size > _MOST_PAYLOAD:
        raise ValueError(f"a message of {head_size} and {payload_size} bytes")
    text, payload = _exactly(handle, head_size, wait), _exactly(handle, payload_size, wait)
    if text is None or payload is None:
        return None
    head = json.loads(text)
    if not isinstance(head, dict):
        raise ValueError("a message without a head")
    return head, payload


def _exactly(handle: int, size: int, wait: Callable[[], None]) -> bytes | None:
    parts, left = [], size
    while left:
        wait()
        part = os.read(handle, min(left, _CHUNK))
        if not part:
            return None
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
