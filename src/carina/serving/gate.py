"""The gate in front of the DICOM port: who asks for an association as one should is handed on, nobody else.

A toolkit that gives every connection a thread and believes every length can be kept busy by anybody who can
open a socket. Here one thread holds all connections that have not asked yet. It reads no more of each than
one request may have, closes it when the request is not whole in time, and makes room by closing the oldest
connection of the address that has most of them; so a thousand silent or dripping sockets cost a thousand
small buffers for some seconds, and a sender that speaks at once is served at once. What a request asks for,
and whether a seat is free, is decided by whoever owns the gate (``listener.py``), who then takes the socket.

Knows the first 42 bytes of an A-ASSOCIATE-RQ (DICOM PS3.8, section 9.3.2), and nothing of what follows.
"""

from __future__ import annotations

import logging
import selectors
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

LOGGER = logging.getLogger(__name__)
LARGEST_REQUEST = 131072  # bytes of an A-ASSOCIATE-RQ; 128 contexts with 30 transfer syntaxes have 105,000
_LEAST_REQUEST = 68  # bytes after the length: the fixed fields
_REQUEST = 1  # PDU type
_PARTING = 2.0  # seconds that a refused caller has to close the connection
_TICK = 0.1  # seconds between two looks at the clock


class Answer(Enum):
    """What becomes of a request. The values are A-ASSOCIATE-RJ's result, source and reason (PS3.8, 9.3.4)."""

    TAKEN = None  # the socket now belongs to who answered
    LATER = (2, 3, 2)  # no seat is free: local limit exceeded, transient; asked again for a moment
    UNKNOWN_CALLER = (1, 1, 3)  # calling AE title not recognised
    UNKNOWN_CALLED = (1, 1, 7)  # called AE title not recognised


@dataclass(eq=False, slots=True)
class Caller:
    """A connection that has not been handed on. ``data`` is the request as far as it has come."""

    sock: socket.socket
    address: str
    since: float  # time.monotonic
    data: bytearray = field(default_factory=bytearray)
    shaking: bool = False  # in the middle of a TLS handshake
    asked: float | None = None  # when the request was whole
    refused: float | None = None  # when it was answered with no

    @property
    def called(self) -> str:
        """The AE title that the caller asks for."""
        return _title(self.data[10:26])

    @property
    def calling(self) -> str:
        """The caller's own AE title."""
        return _title(self.data[26:42])


@dataclass(frozen=True, slots=True)
class Limits:
    """``seconds`` for a request to be whole, ``patience`` seconds to wait for a seat, ``callers`` at once."""

    seconds: float = 10.0
    patience: float = 1.5
    callers: int = 256


class Gate(threading.Thread):
    """Listens on ``listening`` until :meth:`close`; calls ``admit`` with each whole request.

    ``welcome`` (address) says whether a connection is accepted at all; ``tls`` wraps it.
    """

    def __init__(
        self,
        listening: socket.socket,
        admit: Callable[[Caller], Answer],
        welcome: Callable[[str], bool],
        limits: Limits,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(name="dicom gate", daemon=True)
        self._listening, self._admit, self._welcome = listening, admit, welcome
        self._limits, self._tls = limits, tls
        self._callers: dict[socket.socket, Caller] = {}
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()
        self._closing = False
        self.turned_away = 0  # connections closed without a whole request

    def run(self) -> None:
        """Accept, read, hand on, close what is late: until :meth:`close`."""
        self._listening.setblocking(False)
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        try:
            while not self._closing:
                for key, _ in self._selector.select(_TICK):
                    if key.fileobj is self._listening:
                        self._accept()
                    elif isinstance(key.data, Caller):
                        self._guarded(self._hear, key.data)
                for caller in list(self._callers.values()):
                    self._guarded(self._look_at_the_clock, caller)
        finally:
            for caller in list(self._callers.values()):
                self._drop(caller)
            self._listening.close()
            self._selector.close()
            self._waker.close()
            self._woken.close()

    def close(self) -> None:
        """Stop listening and close all connections that were not handed on."""
        self._closing = True
        if self.is_alive():
            with suppress(OSError):  # it has seen for itself that it is to end
                self._waker.send(b"\0")
            self.join()

    def _accept(self) -> None:
        for _ in range(64):
            try:
                sock, address = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:  # no descriptor left: the oldest connection gives way
                LOGGER.warning("a DICOM connection cannot be accepted (%s)", error.strerror)
                self._make_room()
                time.sleep(0.01)
                return
            self._let_in(sock, str(address[0]))

    def _let_in(self, sock: socket.socket, address: str) -> None:
        address = address.removeprefix("::ffff:")
        if not self._welcome(address):
            sock.close()
            self.turned_away += 1
            return
        if len(self._callers) >= self._limits.callers:
            self._make_room()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller = Caller(sock, address, time.monotonic())
        if self._tls is not None:
            try:
                caller.sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            except (OSError, ValueError):  # gone already
                sock.close()
                return
            caller.shaking = True
        self._callers[caller.sock] = caller
        self._selector.register(caller.sock, selectors.EVENT_READ, caller)

    def _make_room(self) -> None:
        """Close the oldest connection of the address that has most of them."""
        if self._callers:
            ((crowded, _),) = Counter(caller.address for caller in self._callers.values()).most_common(1)
            self._drop(next(caller for caller in self._callers.values() if caller.address == crowded))

    def _hear(self, caller: Caller) -> None:
        """Read what came; once the request is whole, ask whether it is taken."""
        if caller.sock not in self._callers:  # closed in this very round
            return
        if caller.refused is not None:
            self._part(caller)
            return
        try:
            if caller.shaking and isinstance(caller.sock, ssl.SSLSocket):
                caller.sock.do_handshake()
                caller.shaking = False
            while (wanted := _missing(caller.data)) > 0:
                chunk = caller.sock.recv(wanted)
                if not chunk:
                    self._drop(caller)
                    return
                caller.data += chunk
        except (ssl.SSLWantReadError, BlockingIOError, InterruptedError):
            return
        except ssl.SSLWantWriteError:
            self._selector.modify(caller.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, caller)
            return
        except OSError:  # a reset, a failed handshake
            self._drop(caller)
            return
        if wanted < 0:
            LOGGER.info("a DICOM connection from %s was closed: no association request", caller.address)
            self._drop(caller)
            return
        self._selector.unregister(caller.sock)
        caller.asked = time.monotonic()
        self._ask(caller)

    def _ask(self, caller: Caller) -> None:
        answer = self._admit(caller)
        if answer is Answer.TAKEN:
            del self._callers[caller.sock]
        elif answer is not Answer.LATER or self._late(caller.asked, self._limits.patience):
            self._refuse(caller, answer)

    def _refuse(self, caller: Caller, answer: Answer) -> None:
        """Say no. It is then for the caller to close the connection (PS3.8, 9.2: state 13)."""
        result, source, reason = answer.value
        LOGGER.info("an association from %s was refused: %s", caller.address, answer.name.lower())
        try:
            caller.sock.send(struct.pack(">BBIBBBB", 3, 0, 4, 0, result, source, reason))
        except OSError:
            self._drop(caller)
            return
        caller.refused = time.monotonic()
        self._selector.register(caller.sock, selectors.EVENT_READ, caller)

    def _part(self, caller: Caller) -> None:
        """Close once the caller did."""
        try:
            gone = not caller.sock.recv(4096)
        except (ssl.SSLWantReadError, BlockingIOError, InterruptedError):
            return
        except OSError:
            gone = True
        if gone:
            self._drop(caller)

    def _look_at_the_clock(self, caller: Caller) -> None:
        if caller.refused is not None:
            if self._late(caller.refused, _PARTING):
                self._drop(caller)
        elif caller.asked is not None:
            self._ask(caller)
        elif self._late(caller.since, self._limits.seconds):
            self._drop(caller)

    def _guarded(self, work: Callable[[Caller], None], caller: Caller) -> None:
        """Whatever one caller brings about, the gate stays open for the others."""
        try:
            work(caller)
        except Exception as error:
            LOGGER.error("a DICOM connection from %s was closed: %s", caller.address, type(error).__name__)
            with suppress(Exception):
                self._selector.unregister(caller.sock)
            self._callers.pop(caller.sock, None)
            caller.sock.close()

    @staticmethod
    def _late(since: float | None, seconds: float) -> bool:
        return since is not None and time.monotonic() - since > seconds

    def _drop(self, caller: Caller) -> None:
        self.turned_away += caller.asked is None
        if caller.asked is None or caller.refused is not None:
            self._selector.unregister(caller.sock)
        del self._callers[caller.sock]
        caller.sock.close()


def _missing(data: bytearray) -> int:
    """Bytes that the request still lacks, as far as is known; -1 where it is none."""
    if data and data[0] != _REQUEST:
        return -1
    if len(data) < 6:
        return 6 - len(data)
    (length,) = struct.unpack_from(">I", data, 2)
    if not _LEAST_REQUEST <= length <= LARGEST_REQUEST:
        return -1
    return int(6 + length - len(data))


def _title(field_: bytes | bytearray) -> str:
    return bytes(field_).decode("ascii", "replace").strip(" \0")
