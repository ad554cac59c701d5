"""STOW-RS: a request with many instances → each in the archive, and an answer for each (DICOM PS3.18, 10.5).

Streams: an instance is on the disk before the next is read. One that cannot be taken stops none of the
others. Knows nothing of the web server; it is fed bytes and answers with a status and DICOM JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from carina.errors import InstanceTooLarge, NotDicom, RequestError, StoreError, StoreFault, StoreFull
from carina.serving.archive import Incoming, Stored
from carina.serving.header import read_header
from carina.serving.intake import DICOM, Intake
from carina.serving.multipart import Begin, Data, Parts, parameters

LOGGER = logging.getLogger(__name__)
_MOST_FAULTS = 200  # parts that cannot be taken, after which a request is given up
_OTHER_STUDY = 0xA900  # the data set does not match what was asked for
_CLASS, _INSTANCE, _REASON = "00081150", "00081155", "00081197"
_DONE, _FAILED, _OTHER = "00081199", "00081198", "0008119A"  # PS3.18, table I.2-1


@dataclass(frozen=True, slots=True)
class Answer:
    """The HTTP status, and the body as DICOM JSON (``application/dicom+json``)."""

    status: int
    body: dict[str, Any]


def store(
    chunks: Iterable[bytes],
    content_type: str,
    intake: Intake,
    *,
    sender: str | None,
    address: str | None,
    largest: int,
    study_uid: str | None = None,
) -> Answer:
    """Take a whole request. ``largest`` is the most bytes of one instance.

    ``study_uid`` is the study in the request's path, when there is one. Raises ``RequestError`` where the
    body is no multipart/related; what was whole before that is kept.
    """
    reception = Reception(
        content_type, intake, sender=sender, address=address, largest=largest, study_uid=study_uid
    )
    with reception:
        for chunk in chunks:
            reception.feed(chunk)
        return reception.finish()


class Reception:
    """As :func:`store`, for a server that is given its bytes little by little. Leave it by ``with``."""

    def __init__(
        self,
        content_type: str,
        intake: Intake,
        *,
        sender: str | None,
        address: str | None,
        largest: int,
        study_uid: str | None = None,
    ) -> None:
        kind = parameters(content_type)
        if kind[""] != "multipart/related":
            raise RequestError("Content-Type: is not multipart/related; send DICOM files that way")
        if kind.get("type", DICOM).lower() != DICOM:
            raise RequestError(f"Content-Type: parts of type {kind['type'][:64]} are not taken; send {DICOM}")
        self._parts, self._intake = Parts(content_type), intake
        self._sender, self._address, self._largest, self._study = sender, address, largest, study_uid
        self._incoming: Incoming | None = None
        self._fault: StoreError | None = None
        self._done: list[dict[str, Any]] = []
        self._failed: list[dict[str, Any]] = []
        self._other: list[dict[str, Any]] = []
        self._faults: list[StoreError] = []

    def __enter__(self) -> Reception:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        for event in self._parts.feed(chunk):
            if isinstance(event, Begin):
                self._begin(event.headers)
            elif isinstance(event, Data):
                self._write(event.content)
            else:
                self._end()

    def finish(self) -> Answer:
        """The answer to the request, once all its bytes were fed."""
        self._parts.finish()
        body = {
            tag: {"vr": "SQ", "Value": items}
            for tag, items in ((_DONE, self._done), (_FAILED, self._failed), (_OTHER, self._other))
            if items
        }
        return Answer(self._status(), body)

    def _status(self) -> int:
        if not self._faults:
            if not self._done:
                raise RequestError("the body holds no part; send at least one DICOM file")
            return 200
        if self._done:
            return 202
        for kind in (StoreFull, StoreFault):
            if any(isinstance(fault, kind) for fault in self._faults):
                return kind.http
        return 409

    def _begin(self, headers: dict[str, str]) -> None:
        self._fault, self._incoming = None, None
        kind = parameters(headers.get("content-type", DICOM))[""]
        try:
            if kind != DICOM:
                raise NotDicom(f"a part of type {kind[:64]}; send {DICOM}")
        except StoreError as error:
            self._fault = error

    def _write(self, content: bytes) -> None:
        if self._fault is not None:
            return
        try:
            if self._incoming is None:  # a part without content costs no file
                self._incoming = self._intake.archive.receive()
            if self._incoming.size + len(content) > self._largest:
                raise InstanceTooLarge("the instance is larger than is taken; see largest_instance")
            self._incoming.write(content)
        except StoreError as error:
            self._fault = error
            self._drop()

    def _end(self) -> None:
        stored: Stored | None = None
        try:
            if self._fault is not None:
                raise self._fault
            if self._incoming is None:
                raise NotDicom("a part without content; send DICOM files")
            stored = self._incoming.finish()
            self._check_study(stored)
            receipt = self._intake.take(stored, origin="stow", sender=self._sender, address=self._address)
            self._done.append(_reference(receipt.instance_uid, receipt.sop_class))
        except StoreError as error:
            self._refuse(error, stored)
        finally:
            self._drop()

    def _check_study(self, stored: Stored) -> None:
        """Raises ``NotDicom`` where the request's path names another study."""
        if self._study is None:
            return
        with self._intake.archive.open(stored.path) as file:
            if read_header(file, stored.sha256).study_uid != self._study:
                raise _OfAnotherStudy(
                    "it belongs to another study than the request names; send it to that one"
                )

    def _refuse(self, error: StoreError, stored: Stored | None) -> None:
        LOGGER.warning("an instance by STOW was not kept: %s", error)
        self._faults.append(error)
        if sum(not isinstance(each, StoreFull | StoreFault) for each in self._faults) >= _MOST_FAULTS:
            raise RequestError(
                f"{_MOST_FAULTS} parts could not be taken, the last: {error}; send DICOM files"
            )
        reason = {_REASON: {"vr": "US", "Value": [error.status]}}
        try:
            if stored is None:
                raise error
            with self._intake.archive.open(stored.path) as file:
                header = read_header(file, stored.sha256)
        except (StoreError, OSError):
            self._other.append(reason)
        else:
            self._failed.append(_reference(header.instance_uid, header.sop_class) | reason)
            if isinstance(error, _OfAnotherStudy):  # else the next start would enter it
                self._intake.reject(stored, header.instance_uid)

    def _drop(self) -> None:
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None


class _OfAnotherStudy(NotDicom):
    status = _OTHER_STUDY


def _reference(instance: str, sop_class: str | None) -> dict[str, Any]:
    value = [sop_class] if sop_class else []
    return {_CLASS: {"vr": "UI", "Value": value}, _INSTANCE: {"vr": "UI", "Value": [instance]}}
