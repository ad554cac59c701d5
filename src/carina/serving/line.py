"""One DICOM association as it is served here: pynetdicom's, behind limits of our own.

pynetdicom reads a PDU as long as the sender takes for it and as large as the sender says; here each has a
size it may not exceed and a moment by which it must be whole. Knows nothing of what is received.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import Any

from pynetdicom import AE, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from carina.serving.archive import Archive
from carina.serving.gate import Caller
from carina.serving.messages import Messages
from carina.serving.settings import Dicom

_QUIET = 0.5  # seconds after which a line counts as resting
_AWAKE, _RESTING, _BUSY = 0.005, 0.02, 0.001  # seconds that a loop waits for something to happen, at a time


class Line(AssociationSocket):
    """A socket whose request was read already: it is heard again first, and what follows under limits."""

    def __init__(self, assoc: Association, caller: Caller, dicom: Dicom) -> None:
        caller.sock.settimeout(dicom.pdu_seconds)
        super().__init__(assoc, client_socket=caller.sock)
        self._first, self._dicom = caller.data, dicom
        self._within, self._deadline = False, 0.0
        self.busy = 0  # requests that we are working on
        self.heard = time.monotonic()  # when the last PDU was whole
        self._poll = select.poll()  # select knows no descriptors above 1023
        self._poll.register(caller.sock, select.POLLIN | select.POLLHUP | select.POLLERR)

    @property
    def idle(self) -> float:
        """Seconds in which neither side did anything."""
        return 0.0 if self.busy else time.monotonic() - self.heard

    @property
    def pause(self) -> float:
        """Seconds that pynetdicom's loops may wait at a time: an answer must not wait for them."""
        return _BUSY if self.busy else _RESTING if self.idle > _QUIET else _AWAKE

    @property
    def ready(self) -> bool:
        """Whether there is something to read; waits for it a moment, which spares the processor."""
        if self.socket is None or not self._is_connected:
            return False
        if self._first or (isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()):
            return True
        try:
            return bool(self._poll.poll(1000 * self.pause))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # the transport connection is closed (PS3.8, table 9-8)
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        """Exactly ``nr_bytes``, or fewer at the end of the connection.

        Raises ``OSError`` where a PDU is larger than is taken, or is not whole in time.
        """
        if self._first:
            taken, self._first = self._first[:nr_bytes], self._first[nr_bytes:]
            return taken
        if self.socket is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        if nr_bytes > self._dicom.largest_pdu:
            raise OSError(errno.EMSGSIZE, f"a PDU of {nr_bytes} bytes")
        if not self._within:
            self._deadline = time.monotonic() + self._dicom.pdu_seconds
        data = bytearray(nr_bytes)
        view, got = memoryview(data), 0
        while got < nr_bytes:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("a PDU was not whole in time")
            self.socket.settimeout(left)
            more = self.socket.recv_into(view[got:])
            if not more:
                break
            got += more
        view.release()
        self.socket.settimeout(self._dicom.pdu_seconds)
        self._within = (
            not self._within and nr_bytes == 6
        )  # a PDU is read as its first six bytes, then the rest
        if not self._within:
            self.heard = time.monotonic()
        del data[got:]
        return data

    def hang_up(self) -> None:
        """Close the connection; the association notices and ends."""
        sock = self.socket
        if sock is not None:
            with suppress(OSError):  # the other side was first
                sock.shutdown(socket.SHUT_RDWR)


class Served(Association):
    """An association that ends by itself and says so: ``ended`` is called when its thread is done."""

    def __init__(
        self,
        ae: AE,
        caller: Caller,
        contexts: list[PresentationContext],
        dicom: Dicom,
        archive: Archive,
        ended: Callable[[Served], None],
    ) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self.caller, self._ended = caller, ended
        self._server = _Hangman()  # type: ignore[assignment]
        self.name = f"dicom {caller.address}"
        self.line = Line(self, caller, dicom)
        self.set_socket(self.line)
        largest = dicom.largest_instance
        self.messages = Messages(self, archive, largest, lambda: self.dul.event_queue.put("Evt19"))
        self.dimse = self.messages
        self._reactor_checkpoint = _Pace(self.line, self.messages)
        local, remote = caller.sock.getsockname(), (caller.address, 0)
        self.acceptor.maximum_length = dicom.largest_pdu
        self.acceptor.ae_title = dicom.ae_title
        self.acceptor.address_info = AddressInformation.from_tuple(local)
        self.acceptor.implementation_class_uid = ae.implementation_class_uid
        self.acceptor.implementation_version_name = ae.implementation_version_name
        self.acceptor.supported_contexts = deepcopy(contexts)
        self.requestor.address_info = AddressInformation.from_tuple(remote)

    def _bind_defaults(self) -> None:
        """pynetdicom's own answers to events, without its protocol log, which would write patients' names."""
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    def run(self) -> None:
        """Serve until the peer releases, aborts, or is gone."""
        try:
            super().run()
        finally:
            self.dul.kill_dul()
            self.messages.give_up()
            self.line.close()
            self._ended(self)


class _Pace(threading.Event):
    """What pynetdicom's loop passes each time round: here it waits a moment for the next message."""

    def __init__(self, line: Line, messages: Messages) -> None:
        super().__init__()
        self._line, self._queue = line, messages.msg_queue
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        with self._queue.not_empty:
            if not self._queue.queue:
                self._queue.not_empty.wait(self._line.pause)
        return super().wait(timeout)


class _Hangman:
    """What pynetdicom wants of a server when an association is over."""

    def shutdown_request(self, sock: Any) -> None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        sock.close()
