"""A result as a signed message without patient data, for pagers, chat and dashboards.

It says that our study number so-and-so was decided, and how urgent it is; who the patient is, and what was
found, is looked up by whoever may. Signed with HMAC-SHA-256 (RFC 2104) over the time of sending and the body,
so that a receiver can refuse what is forged and what is old.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re

from carina.serving.results import device
from carina.serving.results.result import Result

SIGNATURE = "Carina-Signature"
DELIVERY = "Carina-Delivery"
TOLERANCE = 300.0  # seconds within which a receiver should take a message


def build_event(result: Result, uid: str) -> bytes:
    """The body: JSON with sorted keys, the same bytes for every try."""
    model = None if result.model is None else {"fingerprint": result.model.fingerprint}
    body = {
        "event": "study.decided",
        "delivery": uid,
        "study": result.study,
        "version": result.version,
        "received_at": result.received_at.isoformat(timespec="seconds"),
        "decided_at": result.decided_at.isoformat(timespec="seconds"),
        "outcome": result.outcome,
        "urgency": result.urgency,
        "code": result.code,
        "p_disease": result.p_disease,
        "threshold": result.threshold,
        "suggestion": result.suggestion,
        "model": model,
        "notice": f"{device.NOTICE} {device.DUTY}",
    }
    return json.dumps(body, sort_keys=True, ensure_ascii=False).encode("utf-8")


def signature(secret: str, body: bytes, at: int) -> str:
    """The header's value: ``t=SECONDS,v1=HEX``, HMAC-SHA-256 over ``SECONDS.BODY``; ``at`` is Unix time."""
    digest = hmac.new(secret.encode("utf-8"), b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def verify(secret: str, body: bytes, header: str, now: float, tolerance: float = TOLERANCE) -> bool:
    """Whether a header is ours for this body and not older, or newer, than ``tolerance`` seconds.

    What a receiver does; here for those who write one in Python.
    """
    known = re.fullmatch(r"t=(\d{1,12}),v1=[0-9a-f]{64}", header)
    if known is None or abs(now - int(known[1])) > tolerance:
        return False
    return hmac.compare_digest(signature(secret, body, int(known[1])), header)
