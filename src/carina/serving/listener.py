"""The DICOM port: C-STORE and C-ECHO, from whoever the site lists; a film is kept before it is acknowledged.

Knows who may send and how many may at once (what they may send: ``negotiation.py``), and nothing of scoring:
a response never waits for it.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import threading
import time
from typing import Any

from carina.errors import ListenerError, StoreError
from carina.serving.archive import Archive
from carina.serving.association import Association
from carina.serving.database import Database
from carina.serving.gate import Answer, Caller, Gate, Limits
from carina.serving.intake import Intake
from carina.serving.messages import ECHO, Request, Spool
from carina.serving.settings import Dicom, Settings, Tls, is_loopback
from carina.serving.tls import server_context

LOGGER = logging.getLogger(__name__)
_REST = 1.0  # seconds of silence after which a seat may be given to somebody who waits
_SPEECHLESS = 0.2  # the same, where nothing has come on it: who asks for seats and is silent takes no other's
_SUCCESS, _FAILURE, _NOT_SUPPORTED, _NOT_UNDERSTOOD = 0x0000, 0x0110, 0x0122, 0xC000  # PS3.7, annex C


class Listener:
    """The DICOM port of ``settings``. ``port`` is known after :meth:`start`.

    Raises ``ListenerError`` when the port cannot be opened, or would be open to anybody.
    """

    def __init__(self, settings: Settings, database: Database, archive: Archive) -> None:
        self._dicom = settings.dicom
        self._archive, self._intake = archive, Intake(database, archive, settings)
        self._peers = [
            (peer.ae_title.strip(), [ipaddress.ip_network(a, strict=False) for a in peer.addresses])
            for peer in self._dicom.peers
        ]
        self._served: set[Association] = set()
        self._lock = threading.Lock()
        self._gate: Gate | None = None
        self.port = self._dicom.port
        self.received = 0  # acknowledged C-STOREs since the start
        _check_exposure(self._dicom)

    @property
    def listening(self) -> bool:
        """Whether the port is open."""
        return self._gate is not None and self._gate.is_alive()

    @property
    def associations(self) -> int:
        """How many are served at this moment."""
        return len(self._served)

    def start(self) -> None:
        """Open the port; returns when it can be connected to."""
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # it would log what senders wrote
        tls = _tls_context(self._dicom.tls) if self._dicom.tls else None
        host, port = self._dicom.host, self._dicom.port
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listening = socket.create_server((host, port), family=family, backlog=512)
        except OSError as error:
            raise ListenerError(
                f"{host}:{port}: the DICOM port cannot be opened ({error.strerror}); "
                "end the program that holds it, or set dicom.port"
            ) from error
        self.port = listening.getsockname()[1]
        limits = Limits(seconds=self._dicom.pdu_seconds)
        self._gate = Gate(listening, self._admit, self._welcome, limits, tls)
        self._gate.start()

    def stop(self, seconds: float = 10.0) -> None:
        """Close the port; let the requests in work be answered, then end all associations."""
        if self._gate is not None:
            self._gate.close()
            self._gate = None
        end = time.monotonic() + seconds
        while any(served.line.busy for served in self._seats()) and time.monotonic() < end:
            time.sleep(0.02)
        for served in self._seats():
            served.line.hang_up()
        for served in self._seats():
            served.join(max(0.1, end - time.monotonic()))

    def _seats(self) -> list[Association]:
        with self._lock:
            return list(self._served)

    def _welcome(self, address: str) -> bool:
        """Whether anybody at ``address`` may connect at all."""
        return not self._peers or any(_within(address, networks) for _, networks in self._peers)

    def _admit(self, caller: Caller) -> Answer:
        """Whether the association that ``caller`` asks for is served; if so it begins."""
        if caller.called != self._dicom.ae_title.strip():
            return Answer.UNKNOWN_CALLED
        listed = any(
            title == caller.calling and _within(caller.address, networks) for title, networks in self._peers
        )
        if self._peers and not listed:
            return Answer.UNKNOWN_CALLER
        if not self._seat_for(caller.address):
            return Answer.LATER
        served = Association(caller, self._dicom, self._archive, self._answer, self._ended)
        with self._lock:
            self._served.add(served)
        try:
            served.start()
        except RuntimeError:  # the system gives no more threads
            self._ended(served)
            raise
        return Answer.TAKEN

    def _seat_for(self, address: str) -> bool:
        """Whether a seat is free; where none is, one that has long been silent is given up for it."""
        seats = self._seats()
        beside = [served for served in seats if served.caller.address == address]
        if len(beside) >= self._dicom.per_address:
            crowd = beside
        elif len(seats) >= self._dicom.associations:
            crowd = seats
        else:
            return True
        silent = max(crowd, key=_rested)
        if _rested(silent) < 1:
            return False
        LOGGER.info("a silent association from %s gave way", silent.caller.address)
        silent.line.hang_up()
        self._ended(silent)
        return True

    def _ended(self, served: Association) -> None:
        with self._lock:
            self._served.discard(served)

    def _answer(self, request: Request, caller: Caller) -> int:
        """The status of the response to ``request``."""
        spool = request.spool
        try:
            if request.sop_class != request.context.sop_class:
                return _NOT_SUPPORTED
            if request.field == ECHO:
                return _SUCCESS
            return _NOT_UNDERSTOOD if spool is None else self._status(spool, caller, request.pressing)
        finally:
            if spool is not None:
                spool.discard()

    def _status(self, spool: Spool, caller: Caller, pressing: bool) -> int:
        """Keep what was sent, and only then say so. Whatever goes wrong on the way is a failure."""
        try:
            stored = spool.finish()
            who = {"sender": caller.calling, "address": caller.address}
            receipt = self._intake.take(stored, origin="dicom", **who, pressing=pressing)
        except StoreError as error:
            LOGGER.warning("an instance from %s was not kept: %s", caller.address, error)
            return error.status
        except Exception as error:
            LOGGER.error("an instance from %s was not kept: %s", caller.address, type(error).__name__)
            return _FAILURE
        LOGGER.info("instance %d of study %d: %s", receipt.instance_id, receipt.study_id, receipt.status)
        self.received += 1
        return _SUCCESS


def _rested(served: Association) -> float:
    """How long a seat has been silent, in units of what it may be before it gives way."""
    return served.line.idle / (_REST if served.line.spoke else _SPEECHLESS)


def _within(address: str, networks: list[Any]) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(found.version == network.version and found in network for network in networks)


def _check_exposure(dicom: Dicom) -> None:
    """Raises ``ListenerError`` where the port could be reached from elsewhere by anybody."""
    if is_loopback(dicom.host):
        return
    if not dicom.peers:
        raise ListenerError(
            f"dicom.host {dicom.host}: reached from other machines, and no sender is listed; list them with "
            "[[dicom.peers]] (ae_title, addresses), or keep to 127.0.0.1"
        )
    if dicom.tls is None:
        raise ListenerError(
            f"dicom.host {dicom.host}: reached from other machines without TLS; set dicom.tls (certificate, "
            "key), or keep to 127.0.0.1 and let a TLS tunnel end there"
        )


def _tls_context(tls: Tls) -> ssl.SSLContext:
    """As :func:`~carina.serving.tls.server_context`; raises ``ListenerError``."""
    try:
        return server_context(tls)
    except (OSError, ssl.SSLError) as error:
        raise ListenerError(
            f"{tls.certificate}: certificate or key cannot be used ({error}); "
            "give PEM files that belong together"
        ) from error
