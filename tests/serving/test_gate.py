"""The DICOM port cannot be blocked: dripping sockets, floods, giant lengths; a listed sender gets in."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.dsutils import encode

from carina.serving.gate import LARGEST_REQUEST
from carina.serving.settings import Settings
from tests.serving.instances import instance, uid_of
from tests.serving.test_association import asking
from tests.serving.test_listener import Site

SERVED_WITHIN = 2.0  # seconds: the promise


@pytest.fixture
def site(tmp_path: Path, settings: Settings) -> Iterator[Site]:
    running = Site(tmp_path, settings, pdu_seconds=2.0, idle_seconds=5.0, associations=6, per_address=4)
    yield running
    running.close()


def connect(site: Site, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", site.listener.port), timeout=10, source_address=(source, 0))


def send_one(site: Site, number: int) -> float:
    """Seconds from connecting to the acknowledgement of one film."""
    begin = time.monotonic()
    association = site.associate()
    assert association.is_established
    assert association.send_c_store(pydicom.dcmread(io.BytesIO(instance(number)))).Status == 0
    seconds = time.monotonic() - begin
    association.release()
    return seconds


def memory() -> int:
    """Resident bytes of this process."""
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1]) * 1024


def closed_within(sock: socket.socket, seconds: float) -> bool:
    sock.settimeout(seconds)
    try:
        return sock.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("sockets", [30, 300])
def test_dripping_sockets_block_nobody_and_are_closed(site: Site, sockets: int) -> None:
    with ExitStack() as stack:
        dripping = [stack.enter_context(connect(site)) for _ in range(sockets)]
        for sock in dripping:
            sock.send(b"\x01\x00\x00\x00")
        over = threading.Event()

        def drip() -> None:
            while not over.wait(0.5):
                for sock in dripping:
                    try:
                        sock.send(b"\x00")
                    except OSError:
                        continue

        drops = threading.Thread(target=drip)
        drops.start()
        try:
            waits = [send_one(site, number) for number in range(5)]
        finally:
            time.sleep(2.0)
            over.set()
            drops.join()
        assert max(waits) <= SERVED_WITHIN
        assert all(closed_within(sock, 3.0) for sock in dripping)
    assert site.listener.associations <= 1


@pytest.mark.parametrize("length", [10**9, 0xFFFFFFF0, 0, 10, LARGEST_REQUEST + 1])
def test_a_request_of_absurd_length_is_closed_at_once_and_costs_no_memory(site: Site, length: int) -> None:
    before = memory()
    for _ in range(10):
        with connect(site) as sock:
            sock.sendall(struct.pack(">BBI", 1, 0, length))
            begin = time.monotonic()
            try:
                for _ in range(200):
                    sock.sendall(bytes(65536))
                    if time.monotonic() - begin > 3:
                        pytest.fail("it is still being read after 3 s")
            except OSError:
                pass
            assert closed_within(sock, 2.0)
    assert memory() - before < 20 * 2**20


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\x04\0\0\0\0\x10", b"\xff"]
)
def test_what_is_no_association_request_is_closed_at_once(site: Site, first: bytes) -> None:
    with connect(site) as sock:
        sock.sendall(first)
        assert closed_within(sock, 1.0)


def established(site: Site) -> Any:
    entity = AE(ae_title="IDLE")
    entity.add_requested_context("1.2.840.10008.1.1")
    return entity.associate("127.0.0.1", site.listener.port, ae_title="CARINA")


def test_idle_associations_give_way_to_a_sender(site: Site) -> None:
    idle = [established(site) for _ in range(4)]  # all that one address may have
    assert all(association.is_established for association in idle)
    assert site.listener.associations == 4
    waits = [send_one(site, number) for number in range(3)]
    assert max(waits) <= SERVED_WITHIN
    assert sorted(site.kept()) == [uid_of(number) for number in range(3)]
    for association in idle:
        association.abort()


def test_a_pdu_within_an_association_has_a_size_and_an_end(site: Site) -> None:
    for header, patience in (
        (struct.pack(">BBI", 4, 0, 0xFFFFFFF0), 2.0),
        (struct.pack(">BBI", 4, 0, 5000), 5.0),
    ):
        association = established(site)
        sock = association.dul.socket.socket
        before = memory()
        sock.sendall(header)
        end = time.monotonic() + patience
        while site.listener.associations and time.monotonic() < end:
            time.sleep(0.05)
        assert site.listener.associations == 0
        assert memory() - before < 10 * 2**20
        association.abort()


@pytest.mark.parametrize(
    "fragment",
    [
        b"\x00\x00\x00\x04\x01\x02ab",  # a data set without its command
        b"\x00\x00\x00\x04\x01\x03ab",  # a command set that is none
        b"\x00\x00\x00\x04\x63\x03ab",  # of a context that was never agreed
        b"\xff\xff\xff\xff\x01\x03ab",  # longer than its PDU
        b"\x00\x00\x00\x01\x01",  # without a control header
        b"\x00\x00",
    ],
)
def test_a_broken_message_ends_its_association_and_nothing_else(site: Site, fragment: bytes) -> None:
    association = established(site)
    association.dul.socket.socket.sendall(struct.pack(">BBI", 4, 0, len(fragment)) + fragment)
    end = time.monotonic() + 4
    while site.listener.associations and time.monotonic() < end:
        time.sleep(0.05)
    assert site.listener.associations == 0
    association.abort()
    assert send_one(site, 7) <= SERVED_WITHIN


def test_callers_who_ask_for_seat_after_seat_and_say_nothing_keep_nobody_out(site: Site) -> None:
    ended, held = threading.Event(), list[socket.socket]()

    def churn() -> None:
        while not ended.wait(1 / 12):
            held.append(connect(site))
            held[-1].sendall(asking())

    asker = threading.Thread(target=churn)
    asker.start()
    try:
        time.sleep(1.0)
        for number in range(20, 26):
            assert send_one(site, number) <= SERVED_WITHIN
    finally:
        ended.set()
        asker.join()
        for sock in held:
            sock.close()
    assert len(held) > 12


def test_a_fault_with_one_caller_leaves_the_gate_open_for_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("carina.serving.listener.Association.start", no_thread)
        assert not established(site).is_established
    assert site.listener.listening
    assert site.listener.associations == 0
    assert send_one(site, 7) <= SERVED_WITHIN


def no_thread(_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_a_sender_that_vanishes_in_the_middle_leaves_nothing(site: Site) -> None:
    association = site.associate()
    body = instance(7, side=512)
    sock = association.dul.socket.socket
    ds = pydicom.dcmread(io.BytesIO(body))
    assert association.send_c_store(ds).Status == 0
    command = pydicom.Dataset()
    context = association.accepted_contexts[0]
    command.AffectedSOPClassUID, command.CommandField = context.abstract_syntax, 1
    command.MessageID, command.Priority, command.CommandDataSetType = 2, 2, 1
    command.AffectedSOPInstanceUID = uid_of(8)
    encoded = encode(command, True, True)
    group_length = b"\0\0\0\0\x04\0\0\0" + struct.pack("<I", len(encoded))
    for control, content in ((3, group_length + encoded), (0, body[400:20000])):
        item = struct.pack(">IBB", len(content) + 2, context.context_id, control) + content
        sock.sendall(struct.pack(">BBI", 4, 0, len(item)) + item)
    end = time.monotonic() + 3
    while not list((site.archive.root / "incoming").iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    assert len(list((site.archive.root / "incoming").iterdir())) == 1
    association.abort()
    end = time.monotonic() + 5
    while site.listener.associations and time.monotonic() < end:
        time.sleep(0.05)
    assert not list((site.archive.root / "incoming").iterdir())
    assert list(site.kept()) == [uid_of(7)]
