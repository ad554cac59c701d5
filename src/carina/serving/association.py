"""One DICOM association, served by one thread from its request to its end.

The acceptor's part of the upper layer (DICOM PS3.8, section 9.2) and no more: agree, hear requests and
answer each before the next is heard, release or abort. pynetdicom's own association has two threads that
poll each other, and copies every fragment several times: that took more of the processor than all the rest
of a store (docs/log.md).
Knows nothing of what a request is answered with.
"""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable

from carina.serving.archive import Archive
from carina.serving.gate import Caller
from carina.serving.line import Line
from carina.serving.messages import Messages, Request, response
from carina.serving.negotiation import Agreement, negotiate
from carina.serving.settings import Dicom

LOGGER = logging.getLogger(__name__)
_DATA, _RELEASE, _ABORT = 4, 5, 7  # PDU types
_RELEASED = struct.pack(">BxII", 6, 4, 0)  # A-RELEASE-RP
_ABORTED = struct.pack(">BxIBBBB", 7, 4, 0, 0, 2, 0)  # A-ABORT, by the service provider


class Association(threading.Thread):
    """The association that ``caller`` asked for. ``answer`` gives each request its status; ``ended`` is
    called once, when all is over."""

    def __init__(
        self,
        caller: Caller,
        dicom: Dicom,
        archive: Archive,
        answer: Callable[[Request, Caller], int],
        ended: Callable[[Association], None],
    ) -> None:
        super().__init__(name=f"dicom {caller.address}", daemon=True)
        self.caller, self._dicom, self._archive = caller, dicom, archive
        self._answer, self._ended = answer, ended
        self.line = Line(caller, dicom)

    def run(self) -> None:
        """Serve until the sender releases, aborts, is silent too long, breaks the rules, or is gone."""
        try:
            self._serve()
        except (TimeoutError, ValueError) as error:
            LOGGER.info("an association from %s was aborted: %s", self.caller.address, error)
            self._abort()
        except OSError:  # the other side is gone
            pass
        except Exception as error:
            LOGGER.info("an association from %s was aborted: %s", self.caller.address, type(error).__name__)
            self._abort()
        finally:
            self.line.close()
            self._ended(self)

    def _serve(self) -> None:
        agreement = self._agreed()
        self.line.send(agreement.answer)
        if agreement.contexts is None:
            self.line.part()
            return
        messages = Messages(agreement.contexts, self._archive, self._dicom.largest_instance)
        try:
            while (pdu := self.line.pdu()) is not None:
                kind, content = pdu
                if kind == _DATA:
                    for request in messages.take(content):
                        self.line.send(response(request, self._answered(request), agreement.largest))
                elif kind == _RELEASE:
                    messages.give_up()
                    self.line.send(_RELEASED)
                    self.line.part()
                    return
                elif kind == _ABORT:
                    return
                else:
                    raise ValueError(f"a PDU of type {kind} within an association")
        finally:
            messages.give_up()

    def _agreed(self) -> Agreement:
        """What is agreed on. ``ValueError``, without anything that was sent, where the request is broken."""
        try:
            return negotiate(bytes(self.caller.data), self._dicom.largest_pdu)
        except Exception as error:
            raise ValueError(f"its request was not understood ({type(error).__name__})") from error
        finally:
            del self.caller.data[42:]  # both titles stay: they say who sent the films

    def _answered(self, request: Request) -> int:
        self.line.busy = True
        try:
            return self._answer(request, self.caller)
        finally:
            self.line.busy = False

    def _abort(self) -> None:
        try:
            self.line.send(_ABORTED)
        except OSError:
            return
        self.line.part()
