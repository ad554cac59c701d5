"""C-STORE messages → files: each fragment goes to the archive as it comes, undecoded.

pynetdicom gathers a message in memory; here a data set goes to the disk fragment by fragment, behind file
meta information that follows from the request alone, so that the same film makes the same file each time.
A disk that fails, or a data set without end, stops nothing: the rest of the message is heard and dropped,
and the answer says why. Knows nothing of what becomes of a file.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any, ClassVar

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA

from carina.errors import InstanceTooLarge, StoreError, StoreFault
from carina.serving.archive import Archive, Incoming, Stored

LOGGER = logging.getLogger(__name__)
IMPLEMENTATION = "2.25.208127450176328947265731921458730912655"
_VERSION = "CARINA"
_LARGEST_COMMAND = 65536  # bytes
_UNANSWERED = 4  # requests of one association that wait for their answer


class Spool:
    """One data set on its way to the archive. Writing never raises; :meth:`finish` tells what happened."""

    name: ClassVar[str] = ""  # pynetdicom removes the file of this name: there is none

    def __init__(self, archive: Archive, largest: int, start: bytes) -> None:
        self._left = largest
        self._fault: StoreError | None = None
        self._incoming: Incoming | None = None
        try:
            self._incoming = archive.receive()
        except StoreError as error:
            self._fault = error
        self.write(start)

    @property
    def file(self) -> Spool:
        """Itself: pynetdicom flushes ``file.file``."""
        return self

    def write(self, chunk: bytes) -> None:
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

    def flush(self) -> None:
        """Nothing: what counts is :meth:`finish`."""

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

    close = discard


class Messages(DIMSEServiceProvider):
    """pynetdicom's provider of DIMSE messages for one association, with data sets going to ``archive``.

    ``broken`` is called once where a message is none that is served: the association must then end.
    """

    def __init__(self, assoc: Any, archive: Archive, largest: int, broken: Callable[[], None]) -> None:
        super().__init__(assoc)
        self._archive, self._largest, self._broken = archive, largest, broken

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one P-DATA (PS3.8, annex E). Never raises: the association ends instead."""
        try:
            for context, fragment in primitive.presentation_data_value_list:
                self._fragment(context, fragment)
        except Exception as error:
            LOGGER.info("a DIMSE message was not understood (%s); its association ends", type(error).__name__)
            self.give_up()
            self._broken()

    def give_up(self) -> None:
        """Drop the message that is not whole, and those that nobody serves any more."""
        spools = [getattr(self.message, "_data_set_file", None)]
        while not self.msg_queue.empty():
            spools.append(getattr(self.msg_queue.get_nowait()[1], "_dataset_file", None))
        self.message = None
        for spool in spools:
            if isinstance(spool, Spool):
                spool.discard()

    def _fragment(self, context: int, fragment: bytes) -> None:
        if self.message is None:
            self.message = DIMSEMessage()
        message = self.message
        if fragment[0] & 1:  # of the command
            if message.encoded_command_set.tell() + len(fragment) > _LARGEST_COMMAND:
                raise ValueError("a command set without end")
        elif not isinstance(message, C_STORE_RQ):
            raise ValueError("a data set that no C-STORE announced")
        elif message.context_id != context:
            raise ValueError("a data set of another presentation context than its command")
        elif message._data_set_file is None:
            if self.msg_queue.qsize() >= _UNANSWERED:
                raise ValueError("more requests than are answered")
            message._data_set_file = self._spool(message, context)  # type: ignore[assignment]
        one = P_DATA()
        one.presentation_data_value_list = [[context, fragment]]  # type: ignore[list-item]  # it takes no tuple
        super().receive_primitive(one)
        if self.message is not None and type(self.message) not in (DIMSEMessage, C_STORE_RQ, C_ECHO_RQ):
            raise ValueError("neither C-STORE nor C-ECHO")

    def _spool(self, message: C_STORE_RQ, context: int) -> Spool:
        command, accepted = message.command_set, self.assoc._accepted_cx[context]
        start = file_meta(
            str(command.AffectedSOPClassUID),
            str(command.AffectedSOPInstanceUID),
            str(accepted.transfer_syntax[0]),
        )
        return Spool(self._archive, self._largest, start)


def file_meta(sop_class: str, instance: str, syntax: str) -> bytes:
    """Preamble and file meta information (PS3.10, section 7.1): nothing in it but what the arguments say."""
    elements = b"\x02\x00\x01\x00OB\0\0\x02\0\0\0\0\x01" + b"".join(
        _element(number, vr, value)
        for number, vr, value in (
            (0x02, b"UI", sop_class),
            (0x03, b"UI", instance),
            (0x10, b"UI", syntax),
            (0x12, b"UI", IMPLEMENTATION),
            (0x13, b"SH", _VERSION),
        )
    )
    return bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(elements)) + elements


def _element(number: int, vr: bytes, value: str) -> bytes:
    raw = value.encode("ascii", "replace")[:64]
    if len(raw) % 2:
        raw += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 2, number, vr, len(raw)) + raw
