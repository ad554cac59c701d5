"""One DICOM connection as bytes: whole PDUs come out of it, each within a size and a time.

A PDU may have the bytes that the site allows, whatever its length says, and must be whole some seconds after
its first byte. Knows the six bytes that every PDU begins with (DICOM PS3.8, section 9.3.1), and nothing of
what follows them.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress

from carina.serving.gate import Caller
from carina.serving.settings import Dicom

_HEAD = 6  # bytes: type, reserved, length
_PARTING = 2.0  # seconds in which the other side may close the connection before we do


class Line:
    """The connection of ``caller``, whose association request was read already.

    Errors are ``OSError``: ``TimeoutError`` where the other side is too slow, another where it is gone.
    """

    def __init__(self, caller: Caller, dicom: Dicom) -> None:
        self._sock, self._dicom = caller.sock, dicom
        self._head, self._body = memoryview(bytearray(_HEAD)), bytearray()
        self.busy = False  # we are working on a request
        self.spoke = False  # a whole PDU has come
        self.heard = time.monotonic()  # when the last PDU was whole, or answered

    @property
    def idle(self) -> float:
        """Seconds in which neither side did anything."""
        return 0.0 if self.busy else time.monotonic() - self.heard

    def pdu(self) -> tuple[int, memoryview] | None:
        """Type and content of the next PDU; ``None`` when the other side has closed the connection.

        The content is good until the next call. Raises ``ValueError`` for a PDU that is larger than is
        taken, ``TimeoutError`` where none begins within ``idle_seconds`` or one does not end in time.
        """
        self._sock.settimeout(self._dicom.idle_seconds)
        got = self._sock.recv_into(self._head)
        end = time.monotonic() + self._dicom.pdu_seconds
        if not got or not self._fill(self._head[got:], end):
            return None
        kind, length = struct.unpack(">BxI", self._head)
        if length > self._dicom.largest_pdu:
            raise ValueError(f"a PDU of {length} bytes")
        if length > len(self._body):
            self._body = bytearray(length)
        content = memoryview(self._body)[:length]
        if not self._fill(content, end):
            return None
        self.heard, self.spoke = time.monotonic(), True
        return kind, content.toreadonly()

    def _fill(self, view: memoryview, end: float) -> bool:
        """Read until ``view`` is full; False where the connection ends before. By ``end`` (monotonic)."""
        while view:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("a PDU was not whole in time")
            self._sock.settimeout(left)
            got = self._sock.recv_into(view)
            if not got:
                return False
            view = view[got:]
        return True

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        self._sock.settimeout(self._dicom.pdu_seconds)
        self._sock.sendall(data)
        self.heard = time.monotonic()

    def hang_up(self) -> None:
        """End the connection, from whichever thread: who reads from it sees its end."""
        with suppress(OSError):  # the other side was first
            self._sock.shutdown(socket.SHUT_RDWR)

    def part(self) -> None:
        """Let the other side read what was sent last and close the connection (PS3.8, 9.2: state 13)."""
        end = time.monotonic() + _PARTING
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            while (left := end - time.monotonic()) > 0:
                self._sock.settimeout(left)
                if not self._sock.recv(65536):
                    return

    def close(self) -> None:
        """Close the connection."""
        with suppress(OSError):
            self._sock.close()
