"""The DICOM port: C-STORE and C-ECHO, from whoever the site lists; a film is kept before it is acknowledged.

What may be sent: radiographs (CR, DX, all kinds of secondary capture) in every transfer syntax, each stored
as it was sent. Other objects (reports, documents) are not negotiated, so a sender learns it before it sends.
Knows nothing of scoring: a response never waits for it.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import threading
import time
from typing import Any

from pynetdicom import AE, evt
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.presentation import PresentationContext, build_context

from carina.errors import ListenerError, StoreError
from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.gate import Answer, Caller, Gate, Limits
from carina.serving.header import IMAGES
from carina.serving.intake import Intake
from carina.serving.line import Served
from carina.serving.messages import IMPLEMENTATION, Spool
from carina.serving.settings import Dicom, Settings, Tls, is_loopback
from carina.serving.tls import server_context

LOGGER = logging.getLogger(__name__)
VERIFICATION = "1.2.840.10008.1.1"
_ELSEWHERE = ("1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.204",
              "1.2.840.10008.1.2.4.205")  # fmt: skip  # JPIP: the pixels are not in the file
_EXPLICIT = "1.2.840.10008.1.2.1"
SYNTAXES = (  # the one we would rather have first: explicit little endian keeps the value representations
    _EXPLICIT,
    *(uid for uid in ALL_TRANSFER_SYNTAXES if uid not in (_EXPLICIT, *_ELSEWHERE) and ".1.2.7." not in uid),
)
_REST = 1.0  # seconds of silence after which a seat may be given to somebody who waits
_SUCCESS, _FAILURE, _NOT_SUPPORTED = 0x0000, 0x0110, 0x0122  # PS3.7, annex C


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
        self._served: set[Served] = set()
        self._lock = threading.Lock()
        self._gate: Gate | None = None
        self._ae, self._contexts = _entity(self._dicom), _contexts()
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

    def _seats(self) -> list[Served]:
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
        served = Served(self._ae, caller, self._contexts, self._dicom, self._archive, self._ended)
        served.bind(evt.EVT_C_STORE, self._store, [served])
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
        silent = max(crowd, key=lambda served: served.line.idle)
        if silent.line.idle < _REST:
            return False
        LOGGER.info("a silent association from %s gave way", silent.caller.address)
        silent.line.hang_up()
        self._ended(silent)
        return True

    def _ended(self, served: Served) -> None:
        with self._lock:
            self._served.discard(served)

    def _store(self, event: evt.Event, served: Served) -> int:
        """The handler of C-STORE: its answer is the status of the response."""
        request: Any = event.request
        spool, request._dataset_file = request._dataset_file, None
        served.line.busy += 1
        try:
            if not isinstance(spool, Spool):
                return _FAILURE
            if request.AffectedSOPClassUID != event.context.abstract_syntax:
                return _NOT_SUPPORTED
            return self._status(spool, served.caller)
        finally:
            if isinstance(spool, Spool):
                spool.discard()
            served.line.heard = time.monotonic()
            served.line.busy -= 1

    def _status(self, spool: Spool, caller: Caller) -> int:
        """Keep what was sent, and only then say so. Whatever goes wrong on the way is a failure."""
        try:
            stored = spool.finish()
            receipt = self._intake.take(stored, origin="dicom", sender=caller.calling, address=caller.address)
        except StoreError as error:
            LOGGER.warning("an instance from %s was not kept: %s", caller.address, error)
            return error.status
        except Exception as error:
            LOGGER.error("an instance from %s was not kept: %s", caller.address, type(error).__name__)
            return _FAILURE
        LOGGER.info("instance %d of study %d: %s", receipt.instance_id, receipt.study_id, receipt.status)
        self.received += 1
        return _SUCCESS


def _entity(dicom: Dicom) -> AE:
    """pynetdicom's application entity; how many associations there are is the gate's business."""
    entity = AE(ae_title=dicom.ae_title)
    entity.implementation_class_uid = IMPLEMENTATION
    entity.implementation_version_name = "CARINA"
    entity.maximum_associations = 1_000_000
    entity.maximum_pdu_size = dicom.largest_pdu
    entity.acse_timeout = dicom.pdu_seconds
    entity.dimse_timeout = dicom.idle_seconds
    entity.network_timeout = dicom.idle_seconds
    return entity


def _contexts() -> list[PresentationContext]:
    """Verification, and each image class in every transfer syntax."""
    images = [build_context(uid, list(SYNTAXES)) for uid in IMAGES]
    return [build_context(VERIFICATION, list(SYNTAXES[:2])), *images]


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
