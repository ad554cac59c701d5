"""Senders of films that cost next to nothing: C-STORE, STOW-RS and uploads from a few hundred bytes of code.

A sender written down to the socket knows exactly which bytes it sent and which answer it heard, and
leaves the processor to the service. Films are one template with numbers written into it. What was
acknowledged is kept in a :class:`Ledger`; only that is promised.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Literal

import films
import numpy as np
from PIL import Image

from carina.images.phantom import phantom
from carina.serving.header import read_header
from tests.serving.instances import ROOT, uid_of

DX, EXPLICIT = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.1.2.1"
_FIRST = 10_000_000  # film numbers are written with as many digits, so that they fit into the template
_PDU = 16384  # bytes of a P-DATA fragment


@dataclass(frozen=True, slots=True)
class Film:
    """A film to be sent. ``data_set`` is where its data set begins; a picture has none (0)."""

    uid: str
    content: bytes
    data_set: int

    @property
    def sha256(self) -> str:
        """Of the whole file."""
        return hashlib.sha256(self.content).hexdigest()


@cache
def _template(side: int) -> tuple[bytes, int]:
    pixels = phantom("Normal", seed=5, size=side).pixels.astype(np.uint16) << 4
    uids = {
        "SOPInstanceUID": f"{ROOT}.3.{_FIRST}",
        "SeriesInstanceUID": f"{ROOT}.2.{_FIRST}",
        "StudyInstanceUID": f"{ROOT}.1.{_FIRST}",
    }
    content = films.dicom(pixels, bits=12, **uids)
    return content, read_header(BytesIO(content), "").content_at


def film(number: int, side: int = 96) -> Film:
    """Film ``number``: a study of its own, pixels of its own (the last four hold its number)."""
    content, at = _template(side)
    named = content.replace(b"%d" % _FIRST, b"%d" % (_FIRST + number))
    digits = struct.pack("<4H", *(number >> (12 * place) & 4095 for place in range(4)))
    return Film(uid_of(_FIRST + number), named[: -len(digits)] + digits, at)


@cache
def _picture() -> np.ndarray:
    return phantom("Normal", seed=5, size=96).pixels.copy()


def picture(number: int) -> Film:
    """A PNG of a phantom in which ``number`` is written as gray values; its name here is its hash."""
    pixels = _picture().copy()
    pixels[0, :4] = np.frombuffer(struct.pack("<I", number), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    content = buffer.getvalue()
    return Film(hashlib.sha256(content).hexdigest(), content, 0)


class Association:
    """One association with CARINA at ``port``. Raises ``OSError`` where it ends before its time."""

    def __init__(self, port: int, seconds: float = 30.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._message = 0
        try:
            self._socket.sendall(_request())
            kind, _ = self._pdu()
            if kind != 2:
                raise ConnectionError(f"no association: PDU type {kind}")
        except OSError:
            self._socket.close()
            raise

    def store(self, film_: Film) -> int:
        """The status of one C-STORE (PS3.7, 9.3.1)."""
        self._message = self._message % 60000 + 1
        command = _command(self._message, film_.uid)
        data = memoryview(film_.content)[film_.data_set :]
        parts = [_fragment(3, command)]
        for start in range(0, len(data), _PDU):
            last = start + _PDU >= len(data)
            parts.append(_fragment(2 if last else 0, bytes(data[start : start + _PDU])))
        self._socket.sendall(b"".join(parts))
        kind, body = self._pdu()
        if kind != 4:
            raise ConnectionError(f"no answer: PDU type {kind}")
        return _status(body[6:])

    def close(self) -> None:
        """Release, without waiting long for the answer."""
        with suppress(OSError):
            self._socket.sendall(struct.pack(">BBII", 5, 0, 4, 0))
            self._socket.settimeout(1)
            self._pdu()
        self._socket.close()

    def abandon(self) -> None:
        """Close the connection, without a word."""
        self._socket.close()

    def _pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", self._exactly(6))
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            more = self._socket.recv(count - len(got))
            if not more:
                raise ConnectionError("the other side is gone")
            got += more
        return got


def _status(command: bytes) -> int:
    """(0000,0900) of a command set in implicit little endian."""
    at = 0
    while at + 8 <= len(command):
        group, element, length = struct.unpack_from("<HHI", command, at)
        if (group, element) == (0, 0x0900):
            return int.from_bytes(command[at + 8 : at + 8 + length], "little")
        at += 8 + length
    raise ConnectionError("an answer without a status")


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


@cache
def _request() -> bytes:
    """A-ASSOCIATE-RQ (PS3.8, 9.3.2) for DX in explicit little endian."""
    syntaxes = _item(0x30, DX.encode()) + _item(0x40, EXPLICIT.encode())
    user = _item(0x51, struct.pack(">I", _PDU + 6)) + _item(0x52, b"1.2.826.0.1.3680043.10.999.9")
    body = struct.pack(">HH16s16s32x", 1, 0, b"CARINA".ljust(16), b"SENDER".ljust(16))
    body += _item(0x10, b"1.2.840.10008.3.1.1.1") + _item(0x20, b"\1\0\0\0" + syntaxes) + _item(0x50, user)
    return struct.pack(">BxI", 1, len(body)) + body


def _command(message: int, uid: str) -> bytes:
    """The command set of C-STORE-RQ, implicit little endian (PS3.7, annex E.1)."""
    elements = [
        (0x0002, _even(DX)), (0x0100, b"\1\0"), (0x0110, struct.pack("<H", message)), (0x0700, b"\0\0"),
        (0x0800, b"\0\0"), (0x1000, _even(uid)),
    ]  # fmt: skip
    body = b"".join(struct.pack("<HHI", 0, element, len(value)) + value for element, value in elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _even(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def _fragment(header: int, content: bytes) -> bytes:
    return struct.pack(">BxIIBB", 4, len(content) + 6, len(content) + 2, 1, header) + content


def stow(port: int, key: str, film_: Film) -> int:
    """The HTTP status of one STOW-RS request; 200 only where the answer names the instance as stored."""
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + film_.content + b"\r\n--b--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    status, answer = _post(port, key, "/dicom-web/studies", body, kind)
    if status == 200 and film_.uid not in answer.decode("utf-8", "replace"):
        raise AssertionError("success for an instance that the answer does not name")
    return status


def upload(port: int, key: str, film_: Film) -> int:
    """The HTTP status of one upload; 201 only where the film is kept."""
    status, answer = _post(port, key, "/api/v1/uploads?name=film", film_.content, "application/octet-stream")
    if status == 201 and json.loads(answer)["files"][0]["status"] not in ("stored", "known"):
        raise AssertionError("success for a film that was not kept")
    return status


def _post(port: int, key: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        link.request("POST", path, body, {"Content-Type": kind, "Authorization": f"Bearer {key}"})
        answer = link.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as fault:  # it hung up in the middle of an answer
        raise ConnectionError(type(fault).__name__) from fault
    finally:
        link.close()


def get(port: int, path: str, key: str | None = None, seconds: float = 10.0) -> tuple[int, str]:
    """Status and text of one GET. Raises ``OSError`` where nobody answers."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        link.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = link.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    except http.client.HTTPException as fault:
        raise ConnectionError(type(fault).__name__) from fault
    finally:
        link.close()


Way = Literal["dicom", "stow", "upload"]


@dataclass
class Ledger:
    """What was acknowledged, by the way it came, and every refusal that was heard."""

    films: dict[str, tuple[Way, Film]] = field(default_factory=dict)
    refused: list[int] = field(default_factory=list)
    tries: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self, way: Way, film_: Film) -> None:
        """``film_`` is promised from now on."""
        with self._lock:
            self.films[film_.uid] = way, film_

    def __len__(self) -> int:
        return len(self.films)


class Sending(threading.Thread):
    """One sender that sends ``films`` and retries each until it is acknowledged, or ``stop`` is set."""

    def __init__(
        self, way: Way, films: Iterable[Film], ledger: Ledger, ports: Callable[[], tuple[int, int]],
        key: str = "", stop: threading.Event | None = None, pause: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(daemon=True)
        self._way, self._films, self._ledger, self._ports = way, films, ledger, ports
        self._key, self._stop_, self._pause = key, stop or threading.Event(), pause
        self._link: Association | None = None

    def run(self) -> None:
        """Send until all is acknowledged."""
        for each in self._films:
            while not self._stop_.is_set() and not self._sent(each):
                self._stop_.wait(random.uniform(0.05, 0.4))
            if self._stop_.wait(self._pause):
                break
        if self._link is not None:
            self._link.close()

    def _sent(self, film_: Film) -> bool:
        dicom, web = self._ports()
        self._ledger.tries += 1
        try:
            if self._way == "dicom":
                self._link = self._link or Association(dicom)
                status, good = self._link.store(film_), 0
            elif self._way == "stow":
                status, good = stow(web, self._key, film_), 200
            else:
                status, good = upload(web, self._key, film_), 201
        except OSError:
            if self._link is not None:
                self._link.abandon()
                self._link = None
            return False
        if status != good:
            self._ledger.refused.append(status)
            return False
        self._ledger.acknowledge(self._way, film_)
        return True
