"""C-STORE messages → files: each fragment goes to the archive as it comes, undecoded.

A data set goes to the disk fragment by fragment, behind file meta information that follows from the request
alone, so that the same film makes the same file each time. A disk that fails, or a data set without end,
stops nothing: the rest of the message is heard and dropped, and the answer says why. What is no C-STORE and
no C-ECHO, and what breaks the rules of PS3.7 or PS3.8 annex E, is a ``ValueError``: its association must end.
Knows nothing of what becomes of a file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from carina.errors import InstanceTooLarge, StoreError, StoreFault
from carina.serving.archive import Archive, Incoming, Stored
from carina.serving.negotiation import IMPLEMENTATION, VERSION, Context

STORE, ECHO = 0x0001, 0x0030  # CommandField of the requests that are served (PS3.7, E.1)
_RESPONSE = 0x8000
_NO_DATA_SET = 0x0101
_PRIORITY, _HIGH = 0x0700, b"\x01\x00"
_LARGEST_COMMAND = 65536  # bytes
_SOP_CLASS, _FIELD, _MESSAGE, _DATA_SET, _INSTANCE = 0x0002, 0x0100, 0x0110, 0x0800, 0x1000  # of group 0000
_OF_COMMAND, _LAST = 1, 2  # bits of a fragment's control header


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``spool`` holds the data set of a C-STORE, and is ``None`` where none came with it."""

    context: Context
    number: int  # of the presentation context
    field: int
    message: int
    sop_class: str
    instance: str
    spool: Spool | None = None
    pressing: bool = False  # sent with the priority HIGH (PS3.7, 9.3.1.1); many senders say LOW of everything


class Spool:
    """One data set on its way to the archive. Writing never raises; :meth:`finish` tells what happened."""

    def __init__(self, archive: Archive, largest: int, start: bytes) -> None:
        self._left = largest
        self._fault: StoreError | None = None
        self._incoming: Incoming | None = None
        try:
            self._incoming = archive.receive()
        except StoreError as error:
            self._fault = error
        self.write(start)

    def write(self, chunk: bytes | memoryview) -> None:
        """Append ``chunk``, unless something went wrong before."""
        self._left -= len(chunk)
        if self._incoming is None:
            return
        if self._left < 0:
            self._fault = InstanceTooLarge("the instance is larger than is taken; see largest_instance")
            self.discard()
            return
        try:
            self._incoming.write(chunk)
        except StoreError as error:
            self._fault, self._incoming = error, None

    def finish(self) -> Stored:
        """Keep it. Raises the ``StoreError`` that stood in the way."""
        if self._fault is not None:
            raise self._fault
        if self._incoming is None:
            raise StoreFault("the message was given up; send it again")
        return self._incoming.finish()

    def discard(self) -> None:
        """Drop it; what was finished is not touched."""
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None


class Messages:
    """The requests of one association, put together from their fragments; data sets go to ``archive``.

    ``contexts`` are what was agreed on, ``largest`` the bytes that a data set may have.
    """

    def __init__(self, contexts: dict[int, Context], archive: Archive, largest: int) -> None:
        self._contexts, self._archive, self._largest = contexts, archive, largest
        self._command, self._of = bytearray(), 0  # what has come of a command, and in which context
        self._open: Request | None = None  # whose data set is coming

    def take(self, content: memoryview) -> Iterator[Request]:
        """The requests that end within ``content``, a P-DATA-TF PDU after its length."""
        if not content:
            raise ValueError("a P-DATA without a fragment")
        at = 0
        while at < len(content):
            if len(content) - at < 6:
                raise ValueError("a fragment without a header")
            length, context, control = struct.unpack_from(">IBB", content, at)
            if not 2 <= length <= len(content) - at - 4:
                raise ValueError(f"a fragment of {length} bytes in a PDU of {len(content)}")
            fragment = content[at + 6 : at + 4 + length]
            at += 4 + length
            take = self._commanded if control & _OF_COMMAND else self._appended
            request = take(context, fragment, bool(control & _LAST))
            if request is not None:
                yield request

    def give_up(self) -> None:
        """Drop the message that is not whole."""
        if self._open is not None and self._open.spool is not None:
            self._open.spool.discard()
        self._open = None
        self._command.clear()

    def _commanded(self, context: int, fragment: memoryview, last: bool) -> Request | None:
        """Append to the command set; the request, if it is whole and has no data set."""
        if self._open is not None or (self._command and context != self._of):
            raise ValueError("a command in the middle of a message")
        if len(self._command) + len(fragment) > _LARGEST_COMMAND:
            raise ValueError("a command set without end")
        self._of = context
        self._command += fragment
        if not last:
            return None
        if context not in self._contexts:
            raise ValueError(f"a command in context {context}, which was not agreed on")
        request, has_data = _request(self._contexts[context], context, bytes(self._command))
        self._command.clear()
        if not has_data:
            return request
        if request.field != STORE:
            raise ValueError("a C-ECHO with a data set")
        start = file_meta(request.sop_class, request.instance, request.context.syntax)
        self._open = replace(request, spool=Spool(self._archive, self._largest, start))
        return None

    def _appended(self, context: int, fragment: memoryview, last: bool) -> Request | None:
        """Append to the data set; the request, if it is whole now."""
        request = self._open
        if request is None or request.spool is None:
            raise ValueError("a data set that no C-STORE announced")
        if context != request.number:
            raise ValueError("a data set of another presentation context than its command")
        request.spool.write(fragment)
        if not last:
            return None
        self._open = None
        return request


def response(request: Request, status: int, largest: int) -> bytes:
    """The response with ``status``, as PDUs of at most ``largest`` bytes after their length (0: any)."""
    command = b"".join(
        (
            _command_element(_SOP_CLASS, _padded(request.sop_class)),
            _command_element(_FIELD, struct.pack("<H", request.field | _RESPONSE)),
            _command_element(0x0120, struct.pack("<H", request.message)),
            _command_element(_DATA_SET, struct.pack("<H", _NO_DATA_SET)),
            _command_element(0x0900, struct.pack("<H", status)),
            _command_element(_INSTANCE, _padded(request.instance)) if request.field == STORE else b"",
        )
    )
    command = _command_element(0, struct.pack("<I", len(command))) + command
    size = max(1, largest - 6) if largest else len(command)
    pdus = b""
    for at in range(0, len(command), size):
        part = command[at : at + size]
        control = _OF_COMMAND | (_LAST if at + size >= len(command) else 0)
        pdus += struct.pack(">BxIIBB", 4, len(part) + 6, len(part) + 2, request.number, control) + part
    return pdus


def _request(context: Context, number: int, command: bytes) -> tuple[Request, bool]:
    """What ``command``, a command set in implicit little endian (PS3.7, 6.3.1), asks for; whether a data set
    follows."""
    values: dict[int, bytes] = {}
    at = 0
    while at < len(command):
        if len(command) - at < 8:
            raise ValueError("a command set that is cut")
        group, element, length = struct.unpack_from("<HHI", command, at)
        at += 8
        if group != 0 or length > len(command) - at:
            raise ValueError("a command set that is none")
        values[element] = command[at : at + length]
        at += length
    field = _number(values, _FIELD)
    if field not in (STORE, ECHO):
        raise ValueError("neither C-STORE nor C-ECHO")
    instance = _uid(values, _INSTANCE) if field == STORE else ""
    request = Request(
        context, number, field, _number(values, _MESSAGE), _uid(values, _SOP_CLASS), instance,
        pressing=values.get(_PRIORITY) == _HIGH,
    )  # fmt: skip
    return request, _number(values, _DATA_SET) != _NO_DATA_SET


def _number(values: dict[int, bytes], element: int) -> int:
    raw = values.get(element, b"")
    if len(raw) != 2:
        raise ValueError(f"a command set without its (0000,{element:04x})")
    return int.from_bytes(raw, "little")


def _uid(values: dict[int, bytes], element: int) -> str:
    raw = values.get(element, b"").rstrip(b"\0 ")
    if not 1 <= len(raw) <= 64 or not raw.isascii():
        raise ValueError(f"a command set whose (0000,{element:04x}) is no UID")
    return raw.decode("ascii")


def _padded(uid: str) -> bytes:
    raw = uid.encode("ascii")
    return raw + bytes(len(raw) % 2)


def _command_element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, element, len(value)) + value


def file_meta(sop_class: str, instance: str, syntax: str) -> bytes:
    """Preamble and file meta information (PS3.10, section 7.1): nothing in it but what the arguments say."""
    elements = b"\x02\x00\x01\x00OB\0\0\x02\0\0\0\0\x01" + b"".join(
        _element(number, vr, value)
        for number, vr, value in (
            (0x02, b"UI", sop_class),
            (0x03, b"UI", instance),
            (0x10, b"UI", syntax),
            (0x12, b"UI", IMPLEMENTATION),
            (0x13, b"SH", VERSION),
        )
    )
    return bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(elements)) + elements


def _element(number: int, vr: bytes, value: str) -> bytes:
    raw = value.encode("ascii", "replace")[:64]
    if len(raw) % 2:
        raw += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 2, number, vr, len(raw)) + raw
