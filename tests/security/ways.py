"""The three ways in, for any bytes: C-STORE, STOW-RS and upload. Each says what became of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2 as httpx
from pydicom.uid import UID, ExplicitVRLittleEndian

from carina.errors import StoreError
from carina.serving.header import read_header
from carina.serving.messages import file_meta
from tests.films import COMPRESSED, NATIVE
from tests.security.house import House
from tests.security.sender import DX, Sender

WAYS = ("C-STORE", "STOW", "upload")
SYNTAXES = (*NATIVE, *COMPRESSED)


@dataclass(frozen=True, slots=True)
class Sent:
    """What a way in said: ``taken`` or not, its status, its words, and the sha256 of what is then stored."""

    taken: bool
    status: int | None
    words: str
    sha256: str


class Doors:
    """All three ways into one service; a DICOM association that breaks is asked for anew."""

    def __init__(self, house: House, client: httpx.Client) -> None:
        self._house, self._client = house, client
        self._sender: Sender | None = None
        self._number = 0

    def send(self, way: str, content: bytes, name: str = "film", start: int | None = None) -> Sent:
        """``start`` is where the data set begins, for C-STORE; found by reading where it is not given."""
        if way == "C-STORE":
            return self._store(content, start)
        return self._stow(content) if way == "STOW" else self._upload(content, name)

    def close(self) -> None:
        """End the association."""
        if self._sender is not None:
            self._sender.close()

    def _upload(self, content: bytes, name: str) -> Sent:
        answer = self._client.post("/api/v1/uploads", params={"name": name}, content=content)
        return Sent(answer.status_code == 201, answer.status_code, answer.text, _sha256(content))

    def _stow(self, content: bytes) -> Sent:
        body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--b--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=b'
        answer = self._client.post("/dicom-web/studies", content=body, headers={"Content-Type": kind})
        return Sent(answer.status_code in (200, 202), answer.status_code, answer.text, _sha256(content))

    def _store(self, content: bytes, start: int | None) -> Sent:
        syntax = syntax_of(content)
        start = content_at(content) if start is None else start
        if self._sender is None or not self._sender.open:
            self.close()
            self._sender = Sender(self._house.dicom_port, SYNTAXES)
            assert self._sender.open, "a listed sender was not served"
        self._number += 1
        uid = f"1.2.826.0.1.3680043.10.999.77.{self._number}"
        status = self._sender.send(content[start:], uid, syntax)
        stored = file_meta(DX, uid, syntax) + content[start:]
        return Sent(status == 0, status, "", _sha256(stored))


@contextmanager
def doors(house: House) -> Iterator[Doors]:
    """The ways into ``house`` for a reader's program and a listed sender."""
    with house.client() as client:
        found = Doors(house, client)
        try:
            yield found
        finally:
            found.close()


def content_at(content: bytes) -> int:
    """Where the data set of a file begins; 0 where that cannot be told."""
    try:
        return read_header(io.BytesIO(content), "").content_at
    except (StoreError, ValueError):
        return 0


def syntax_of(content: bytes) -> str:
    """The transfer syntax that a file's meta information names, if it is one of ours."""
    at = content.find(b"\x02\x00\x10\x00UI")
    if 0 <= at < 1000:
        length = int.from_bytes(content[at + 6 : at + 8], "little")
        named = content[at + 8 : at + 8 + length].rstrip(b"\0 ").decode("latin-1")
        if named in SYNTAXES:
            return UID(named)
    return ExplicitVRLittleEndian


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
