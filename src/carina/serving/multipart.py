"""multipart/related → parts, while the bytes come in: no part is ever held in memory.

Pushed, not pulled: whoever has bytes feeds them. Every buffer has a limit, whatever a sender claims; lengths
are counted, never believed. Knows RFC 2046 (section 5.1.1) and nothing of what the parts hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from carina.errors import RequestError

_PREAMBLE, _HEADERS, _PARTS = (
    65536,
    8192,
    100_000,
)  # bytes before the first part, of one part's headers; parts
_PARAMETER = re.compile(r';\s*([A-Za-z0-9!#$&^_.+-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))')
_BOUNDARY = re.compile(r"^[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]$")


@dataclass(frozen=True, slots=True)
class Begin:
    """A part begins; header names are in lower case."""

    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Data:
    """Some bytes of the part."""

    content: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The part is whole."""


class _State(Enum):
    PREAMBLE, DELIMITER, HEADERS, BODY, EPILOGUE = range(5)


class Parts:
    """The parts of a body of ``content_type``. Raises ``RequestError`` for what is no such body."""

    def __init__(self, content_type: str) -> None:
        boundary = parameters(content_type).get("boundary", "")
        if not _BOUNDARY.match(boundary):
            raise RequestError("Content-Type: names no boundary; send multipart/related with one")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._buffer = bytearray(b"\r\n")  # so that the first delimiter looks as the others do
        self._state, self._skipped, self._count = _State.PREAMBLE, 0, 0

    def feed(self, chunk: bytes) -> Iterator[Begin | Data | End]:
        """What ``chunk`` completes. Raises ``RequestError`` where the body breaks the form or a limit."""
        self._buffer += chunk
        while True:
            before = self._state, len(self._buffer)
            yield from self._step()
            if (self._state, len(self._buffer)) == before:
                return

    def finish(self) -> None:
        """Raises ``RequestError`` where the body ended before its last part did."""
        if self._state is not _State.EPILOGUE:
            raise RequestError("the body ends before its closing boundary; send it again")

    def _step(self) -> Iterator[Begin | Data | End]:
        if self._state is _State.PREAMBLE:
            content, found = self._up_to_delimiter()
            self._skipped += len(content)
            if self._skipped > _PREAMBLE:
                raise RequestError("the body does not begin with its boundary; send multipart/related")
            self._state = _State.DELIMITER if found else self._state
        elif self._state is _State.DELIMITER:
            self._after_delimiter()
        elif self._state is _State.HEADERS:
            headers = self._headers()
            if headers is not None:
                yield Begin(headers)
        elif self._state is _State.BODY:
            content, found = self._up_to_delimiter()
            if content:
                yield Data(content)
            if found:
                self._state = _State.DELIMITER
                yield End()
        else:
            self._buffer.clear()  # what follows the last part is to be ignored

    def _up_to_delimiter(self) -> tuple[bytes, bool]:
        """What certainly stands before the next delimiter, and whether that was found (and taken away)."""
        at = self._buffer.find(self._delimiter)
        end = at if at >= 0 else max(0, len(self._buffer) - len(self._delimiter) + 1)
        content = bytes(self._buffer[:end])
        del self._buffer[: end + (len(self._delimiter) if at >= 0 else 0)]
        return content, at >= 0

    def _after_delimiter(self) -> None:
        if self._buffer.startswith(b"--"):
            self._state = _State.EPILOGUE
            return
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > 256:
                raise RequestError(
                    "a boundary is not followed by the end of its line; send multipart/related"
                )
            return
        if self._buffer[:end].strip(b" \t"):
            raise RequestError("a boundary is followed by something else; send multipart/related")
        self._count += 1
        if self._count > _PARTS:
            raise RequestError(f"more than {_PARTS} parts; send fewer at a time")
        del self._buffer[:end]  # the line's end stays: it also ends empty headers
        self._state = _State.HEADERS

    def _headers(self) -> dict[str, str] | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or end > _HEADERS:
            if len(self._buffer) > _HEADERS:
                raise RequestError(f"a part has more than {_HEADERS} bytes of headers; send fewer")
            return None
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        self._buffer[:0] = b"\r\n" if self._buffer.startswith(self._delimiter[2:]) else b""  # an empty part
        self._state = _State.BODY
        pairs = (line.partition(":") for line in lines if line)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}


def parameters(content_type: str) -> dict[str, str]:
    """The parameters of a media type, names in lower case, and the type itself under ``""``."""
    found = {"": content_type.partition(";")[0].strip().lower()}
    for name, quoted, plain in _PARAMETER.findall(content_type):
        found[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
    return found
