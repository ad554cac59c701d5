"""Associations as bytes: fragments become requests, answers become fragments, and silence has an end."""

from __future__ import annotations

import io
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom.dsutils import decode

from carina.serving.archive import Archive
from carina.serving.messages import ECHO, STORE, Messages, Request, response
from carina.serving.negotiation import SYNTAXES, VERIFICATION, Context, negotiate
from carina.serving.settings import Settings
from tests.serving.instances import uid_of
from tests.serving.test_listener import Site

DX = "1.2.840.10008.5.1.4.1.1.1.1"
CONTEXTS = {1: Context(VERIFICATION, SYNTAXES[0]), 3: Context(DX, SYNTAXES[0])}


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


def command(field: int, sop_class: str, message: int, data: bool) -> bytes:
    """A request's command set, without its group length."""
    uid = uid_of(message).encode()
    return b"".join(
        (
            element(0x0002, sop_class.encode() + bytes(len(sop_class) % 2)),
            element(0x0100, struct.pack("<H", field)),
            element(0x0110, struct.pack("<H", message)),
            element(0x0800, struct.pack("<H", 1 if data else 0x0101)),
            element(0x1000, uid + bytes(len(uid) % 2)) if field == STORE else b"",
        )
    )


def fragment(context: int, control: int, content: bytes) -> bytes:
    return struct.pack(">IBB", len(content) + 2, context, control) + content


def pdu(content: bytes, kind: int = 4) -> bytes:
    return struct.pack(">BxI", kind, len(content)) + content


@pytest.fixture
def archive(tmp_path: Path, settings: Settings) -> Archive:
    return Archive(tmp_path / "archive", settings)


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_a_film_in_fragments_of_any_size_is_put_together(archive: Archive, size: int) -> None:
    messages = Messages(CONTEXTS, archive, 2**20)
    asked, film = command(STORE, DX, 7, data=True), bytes(range(256)) * 10
    found: list[Request] = []
    for content, control in ((asked, 1), (film, 0)):
        for at in range(0, len(content), size):
            last = 2 * (at + size >= len(content))
            found += messages.take(memoryview(fragment(3, control | last, content[at : at + size])))
    (request,) = found
    assert (request.instance, request.sop_class, request.message) == (uid_of(7), DX, 7)
    assert request.spool is not None
    assert (archive.root / request.spool.finish().path).read_bytes().endswith(film)


@pytest.mark.parametrize(("priority", "pressing"), [(None, False), (0, False), (1, True), (2, False)])
def test_only_what_is_sent_with_high_priority_is_pressing(
    archive: Archive, priority: int | None, pressing: bool
) -> None:
    asked = command(STORE, DX, 7, data=False)
    if priority is not None:
        asked += element(0x0700, struct.pack("<H", priority))
    (request,) = Messages(CONTEXTS, archive, 2**20).take(memoryview(fragment(3, 3, asked)))
    assert request.pressing is pressing


def test_two_requests_in_one_pdu_are_answered_in_their_order(archive: Archive) -> None:
    messages = Messages(CONTEXTS, archive, 2**20)
    store = fragment(3, 3, command(STORE, DX, 1, data=True)) + fragment(3, 2, b"film")
    echo = fragment(1, 3, command(ECHO, VERIFICATION, 2, data=False))
    found = list(messages.take(memoryview(store + echo)))
    assert [(request.field, request.message) for request in found] == [(STORE, 1), (ECHO, 2)]


@pytest.mark.parametrize(
    "content",
    [
        fragment(5, 3, command(STORE, DX, 1, data=True)),  # a context that was refused
        fragment(3, 3, command(STORE, DX, 1, data=True)[:-3]),  # cut
        fragment(3, 3, command(0x0020, DX, 1, data=False)),  # C-FIND
        fragment(3, 3, command(STORE, "1" * 66, 1, data=True)),  # longer than a UID may be
        fragment(3, 3, command(STORE, DX, 1, data=True)) + fragment(1, 2, b"film"),  # in another context
        fragment(3, 3, command(STORE, DX, 1, data=True)) + fragment(3, 1, b"\0"),  # a command inside a film
        fragment(1, 3, command(ECHO, VERIFICATION, 1, data=True)),
    ],
)
def test_what_breaks_the_rules_is_an_error_and_leaves_no_file(archive: Archive, content: bytes) -> None:
    messages = Messages(CONTEXTS, archive, 2**20)
    with pytest.raises(ValueError, match=r"command|data set|C-STORE|C-ECHO|context"):
        list(messages.take(memoryview(content)))
    messages.give_up()
    assert not list((archive.root / "incoming").iterdir())


@pytest.mark.parametrize("largest", [0, 10, 40, 4096])
def test_an_answer_keeps_to_the_size_that_the_sender_takes(largest: int) -> None:
    asked = Request(CONTEXTS[3], 3, STORE, 9, DX, uid_of(9))
    rest, whole = response(asked, 0xA700, largest), b""
    while rest:
        kind, length, _, context, control = struct.unpack_from(">BxIIBB", rest)
        assert (kind, context) == (4, 3)
        assert not largest or length <= largest
        whole += rest[12 : 6 + length]
        rest = rest[6 + length :]
        assert control == (1 if rest else 3)
    said = decode(io.BytesIO(whole), True, True)
    assert (said.CommandField, said.MessageIDBeingRespondedTo, said.Status) == (0x8001, 9, 0xA700)
    assert said.AffectedSOPInstanceUID == uid_of(9)
    assert said.CommandGroupLength == len(whole) - 12


def asking(version: int = 1) -> bytes:
    """An association request for verification and DX, as it is sent."""
    item = lambda kind, content: struct.pack(">BxH", kind, len(content)) + content  # noqa: E731
    contexts = b"".join(
        item(
            0x20,
            bytes([number, 0, 0, 0]) + item(0x30, each.sop_class.encode()) + item(0x40, each.syntax.encode()),
        )
        for number, each in CONTEXTS.items()
    )
    user = item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3"))
    fixed = struct.pack(">HH16s16s32s", version, 0, b"CARINA".ljust(16), b"SENDER".ljust(16), b"")
    return pdu(fixed + item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + user, kind=1)


def test_another_version_of_the_protocol_is_refused_as_the_standard_says() -> None:
    assert negotiate(asking(), 65536).contexts == CONTEXTS
    assert negotiate(asking(), 65536).largest == 16384
    refused = negotiate(asking(version=2), 65536)
    assert refused.contexts is None
    assert refused.answer == struct.pack(">BxIxBBB", 3, 4, 1, 2, 2)


@pytest.fixture
def line(tmp_path: Path, settings: Settings) -> Iterator[socket.socket]:
    """A connection over which an association was agreed on."""
    site = Site(tmp_path, settings, idle_seconds=0.5)
    with socket.create_connection(("127.0.0.1", site.listener.port), timeout=10) as sock:
        sock.sendall(asking())
        assert heard(sock)[0] == 2
        yield sock
    site.close()


def heard(sock: socket.socket) -> tuple[int, bytes]:
    """Type and content of the next PDU."""
    kind, length = struct.unpack(">BxI", sock.recv(6, socket.MSG_WAITALL))
    return kind, sock.recv(length, socket.MSG_WAITALL)


def test_a_store_without_a_data_set_is_not_understood_and_the_next_is_served(line: socket.socket) -> None:
    line.sendall(pdu(fragment(3, 3, command(STORE, DX, 1, data=False))))
    assert heard(line)[1].find(element(0x0900, struct.pack("<H", 0xC000))) > 0
    line.sendall(pdu(fragment(1, 3, command(ECHO, VERIFICATION, 2, data=False))))
    assert heard(line)[1].find(element(0x0900, bytes(2))) > 0


def test_a_release_in_the_middle_of_a_film_is_answered(line: socket.socket) -> None:
    line.sendall(pdu(fragment(3, 3, command(STORE, DX, 1, data=True)) + fragment(3, 0, b"half a film")))
    line.sendall(pdu(bytes(4), kind=5))
    assert heard(line) == (6, bytes(4))
    assert line.recv(1) == b""


def test_a_sender_that_falls_silent_is_told_so(line: socket.socket) -> None:
    assert heard(line) == (7, b"\0\0\x02\0")  # A-ABORT, by the service provider
    assert line.recv(1) == b""
