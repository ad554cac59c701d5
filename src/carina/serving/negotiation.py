"""What a sender and this port agree on before anything is sent: which kinds of objects, in which encoding.

Radiographs (CR, DX, all kinds of secondary capture) in every transfer syntax, each stored as it was sent,
and verification. Other objects (reports, documents) are not agreed on, so a sender learns it before it
sends. pynetdicom reads the request and writes the answer (DICOM PS3.8, 9.3.2 and 9.3.3; PS3.7, annex D);
who may ask at all is the gate's and the listener's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_acceptor

from carina.serving.header import IMAGES

IMPLEMENTATION = "2.25.208127450176328947265731921458730912655"
VERSION = "CARINA"
VERIFICATION = "1.2.840.10008.1.1"
_APPLICATION = "1.2.840.10008.3.1.1.1"  # the DICOM application context
_ELSEWHERE = ("1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.204",
              "1.2.840.10008.1.2.4.205")  # fmt: skip  # JPIP: the pixels are not in the file
_EXPLICIT = "1.2.840.10008.1.2.1"
SYNTAXES = (  # the one we would rather have first: explicit little endian keeps the value representations
    _EXPLICIT,
    *(uid for uid in ALL_TRANSFER_SYNTAXES if uid not in (_EXPLICIT, *_ELSEWHERE) and ".1.2.7." not in uid),
)
_SCP_VERSION = (1, 2, 2)  # A-ASSOCIATE-RJ: permanent, by the provider, protocol version not supported


@dataclass(frozen=True, slots=True)
class Context:
    """One presentation context that was agreed on: what it carries, and how that is encoded."""

    sop_class: str
    syntax: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """The answer to an association request, and what it says.

    ``contexts`` by their number; ``None`` where the request was refused. ``largest`` is how many bytes of a
    P-DATA-TF PDU the sender takes after its length; 0: any.
    """

    answer: bytes
    contexts: dict[int, Context] | None = None
    largest: int = 0


def negotiate(request: bytes, largest_pdu: int) -> Agreement:
    """What is answered to ``request``, a whole A-ASSOCIATE-RQ.

    Raises whatever pynetdicom makes of a request that breaks the rules.
    """
    asked = A_ASSOCIATE_RQ()
    asked.decode(request)
    wanted = asked.to_primitive()
    if not asked.protocol_version & 1:
        wanted.result, wanted.result_source, wanted.diagnostic = _SCP_VERSION
        return Agreement(_encoded(A_ASSOCIATE_RJ(wanted)))
    results, _ = negotiate_as_acceptor(wanted.presentation_context_definition_list, _supported())
    given: Any = A_ASSOCIATE()  # pynetdicom's setters take more than their getters give
    given.application_context_name = _APPLICATION
    given.calling_ae_title, given.called_ae_title = wanted.calling_ae_title, wanted.called_ae_title
    given.result, given.result_source = 0, 1
    given.presentation_context_definition_results_list = results
    given.user_information = _about_us(largest_pdu)
    contexts = {
        int(each.context_id): Context(str(each.abstract_syntax), str(each.transfer_syntax[0]))
        for each in results
        if each.result == 0 and each.context_id is not None
    }
    return Agreement(_encoded(A_ASSOCIATE_AC(given)), contexts, int(wanted.maximum_length_received or 0))


@cache
def _supported() -> list[PresentationContext]:
    """Verification, and each image class in every transfer syntax."""
    images = [build_context(uid, list(SYNTAXES)) for uid in IMAGES]
    return [build_context(VERIFICATION, list(SYNTAXES[:2])), *images]


def _about_us(largest_pdu: int) -> list[Any]:
    length, uid, name = (
        MaximumLengthNotification(),
        ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
    )
    length.maximum_length_received = largest_pdu
    uid.implementation_class_uid = IMPLEMENTATION
    name.implementation_version_name = VERSION
    return [length, uid, name]


def _encoded(pdu: Any) -> bytes:
    return bytes(pdu.encode())
