"""A DICOM sender that sends what it is given, byte for byte, however broken."""

from __future__ import annotations

import io
import time
import warnings
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from tests.security.house import SENDER

DX = "1.2.840.10008.5.1.4.1.1.1.1"


class Sender:
    """One association; data sets are sent in the transfer syntaxes of ``syntaxes``."""

    def __init__(
        self, port: int, syntaxes: Any = (ExplicitVRLittleEndian,), calling: str = SENDER, seconds: float = 30
    ) -> None:
        entity = AE(ae_title=calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = seconds
        for syntax in syntaxes:
            entity.add_requested_context(DX, syntax)
        self._association = entity.associate("127.0.0.1", port, ae_title="CARINA")
        self._number = 0
        if self.open:
            self._association._reactor_checkpoint.clear()  # the answers are ours to take
            while not self._association._is_paused:
                time.sleep(0.005)

    @property
    def open(self) -> bool:
        """Whether the association stands."""
        return bool(self._association.is_established)

    def send(
        self, data_set: bytes, uid: str, syntax: str = ExplicitVRLittleEndian, sop_class: str = DX
    ) -> int | None:
        """The status of the answer; None where there was none."""
        context = next(
            each for each in self._association.accepted_contexts if each.transfer_syntax[0] == syntax
        )
        request = C_STORE()
        self._number = self._number % 65535 + 1
        request.MessageID, request.Priority = self._number, 2
        request.DataSet = io.BytesIO(data_set)
        with warnings.catch_warnings():  # pynetdicom's, of what we say on purpose, and of it in the answer
            warnings.simplefilter("ignore")
            request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, uid
            self._association.dimse.send_msg(request, context.context_id)
            _, answer = self._association.dimse.get_msg(block=True)
        return None if answer is None else int(answer.Status)

    def close(self) -> None:
        """Release, or abort what cannot be released."""
        self._association._reactor_checkpoint.set()
        if self.open:
            self._association.release()
        else:
            self._association.abort()
        transport = self._association.dul.socket
        if transport is not None and transport.socket is not None:
            transport.socket.close()


def store(port: int, path: Path) -> float:
    """Seconds from connecting to the acknowledgement of one film, by a listed sender."""
    import pydicom

    begin = time.monotonic()
    entity = AE(ae_title=SENDER)
    entity.add_requested_context(DX, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title="CARINA")
    assert association.is_established, "a listed sender was not served"
    assert association.send_c_store(pydicom.dcmread(path)).Status == 0
    seconds = time.monotonic() - begin
    association.release()
    return seconds
