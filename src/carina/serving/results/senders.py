"""The ways out: one class for each kind of destination, all with ``send`` and ``close``.

A sender holds one connection and sends one parcel after another. It raises ``Unreachable`` where nobody
answers (the same parcel is sent later) and ``Rejected`` where somebody answered and did not take it.
Addresses come from the settings alone; a redirect is never followed.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from carina.errors import DeliveryError, Rejected, Unreachable
from carina.serving.results.hl7 import Mllp
from carina.serving.results.webhook import DELIVERY, SIGNATURE, signature
from carina.serving.settings import Destination, Settings

SECONDS = 30.0  # that a connection, and each answer, may take
LARGEST_ANSWER = 1 << 20  # bytes
_STORED = {0x0000: "", 0x0111: "it was there already"}  # C-STORE: PS3.4, B.2.3; PS3.7, annex C
_WARNINGS = {0xB000: "elements coerced", 0xB006: "elements discarded", 0xB007: "does not match its class"}


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent: ``kind`` ("sr", "sc", "hl7", "webhook"), its UID or control ID, its bytes."""

    kind: str
    uid: str
    content: bytes


class Sender(Protocol):
    """One connection to one destination."""

    def send(self, parcel: Parcel) -> str:
        """Send it; what the other side remarked, usually nothing. Raises Unreachable or Rejected."""

    def close(self) -> None:
        """Close the connection."""


def connect(destination: Destination, settings: Settings) -> Sender:
    """A sender for this destination. Raises Unreachable, or DeliveryError where the settings lack a part."""
    makers: dict[str, Callable[[Destination, Settings], Sender]] = {
        "dicom": Store,
        "stow": Stow,
        "hl7": Hl7,
        "webhook": Webhook,
    }
    try:
        return makers[destination.kind](destination, settings)
    except (OSError, ssl.SSLError) as error:
        raise Unreachable(f"{destination.name}: no connection ({error}); it is tried again later") from error


class Store:
    """C-STORE over one association, as pynetdicom's SCU."""

    def __init__(self, destination: Destination, settings: Settings) -> None:
        """Associate; raises Unreachable."""
        from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
        from pynetdicom import AE, build_context
        from pynetdicom.sop_class import (  # type: ignore[attr-defined]
            ComprehensiveSRStorage,
            SecondaryCaptureImageStorage,
        )

        host, port = _address(destination)
        self._name = destination.name
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # what went wrong is in our own words
        ae = AE(ae_title=settings.dicom.ae_title)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = SECONDS
        syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        contexts = [
            build_context(each, syntaxes) for each in (ComprehensiveSRStorage, SecondaryCaptureImageStorage)
        ]
        tls = _tls(destination, host)
        self._link = ae.associate(
            host,
            port,
            contexts=contexts,
            ae_title=destination.ae_title or "ANY-SCP",
            tls_args=(tls, host) if tls is not None else None,
        )
        if self._link.is_rejected:
            raise Unreachable(
                f"{self._name}: {host}:{port} refuses the association; let it know the AE title "
                f"{settings.dicom.ae_title}"
            )
        if not self._link.is_established:
            raise Unreachable(f"{self._name}: no association with {host}:{port}; it is tried again later")

    def send(self, parcel: Parcel) -> str:
        """Store one object; a warning of the other side is an answer like success."""
        from pydicom import dcmread

        if not self._link.is_established:
            raise Unreachable(f"{self._name}: the association has ended; it is sent again later")
        try:
            status = self._link.send_c_store(dcmread(io.BytesIO(parcel.content)))
        except ValueError as error:  # no context was accepted for this class
            raise Rejected(f"{self._name}: does not take this class of object ({error})") from error
        except (RuntimeError, AttributeError) as error:
            raise Unreachable(
                f"{self._name}: the association broke ({error}); it is sent again later"
            ) from error
        code = status.get("Status") if status else None
        if code is None:
            raise Unreachable(f"{self._name}: no answer to C-STORE; it is sent again later")
        if code in _STORED:
            return _STORED[code]
        if code in _WARNINGS:
            return f"stored with a warning, 0x{code:04X}: {_WARNINGS[code]}"
        comment = str(status.get("ErrorComment") or "")[:200]
        raise Rejected(f"{self._name}: answers C-STORE with 0x{code:04X} {comment}".rstrip())

    def close(self) -> None:
        """Release the association."""
        if self._link.is_established:
            self._link.release()


class _Http:
    """HTTP to one address: no redirect, no proxy, answers up to a megabyte."""

    def __init__(self, destination: Destination, _settings: Settings) -> None:
        if not destination.url:
            raise DeliveryError(f"destination {destination.name}: has no url; add it to the settings")
        self._name, self._destination = destination.name, destination
        url = urlsplit(destination.url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise DeliveryError(
                f"destination {destination.name}: {destination.url!r} is no http or https address"
            )
        self._path = url.path.rstrip("/") + (f"?{url.query}" if url.query else "")
        if url.scheme == "https":
            tls = _tls(destination, url.hostname) or ssl.create_default_context()
            self._link: http.client.HTTPConnection = http.client.HTTPSConnection(
                url.hostname, url.port, timeout=SECONDS, context=tls
            )
        else:
            self._link = http.client.HTTPConnection(url.hostname, url.port, timeout=SECONDS)

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """One POST; the status and the answer. Raises Unreachable, and Rejected for a redirect."""
        password = self._destination.password
        if self._destination.user and password is not None:
            pair = f"{self._destination.user}:{password.get_secret_value()}".encode()
            headers = {**headers, "Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        try:
            self._link.request("POST", path or "/", body=body, headers={"User-Agent": "carina", **headers})
            answer = self._link.getresponse()
            content = answer.read(LARGEST_ANSWER)
            self._link.close()  # some servers end a connection that is used again without a word
        except (OSError, http.client.HTTPException) as error:
            self._link.close()
            fault = str(error) or type(error).__name__
            raise Unreachable(f"{self._name}: no answer ({fault}); it is sent again later") from error
        if 300 <= answer.status < 400:
            raise Rejected(
                f"{self._name}: redirects elsewhere ({answer.status}), which is not followed; correct url"
            )
        if answer.status in (429, 502, 503, 504):
            raise Unreachable(f"{self._name}: is not ready ({answer.status}); it is sent again later")
        return answer.status, content

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


class Stow(_Http):
    """STOW-RS (PS3.18, 10.5): one object a request; ``url`` is the root of the DICOMweb service."""

    def send(self, parcel: Parcel) -> str:
        """Store one object; ``FailedSOPSequence`` in the answer is a refusal."""
        border = f"carina-{parcel.uid.replace('.', '')[-40:]}"
        head = f"--{border}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = head + parcel.content + f"\r\n--{border}--\r\n".encode()
        status, answer = self._post(
            f"{self._path}/studies",
            body,
            {
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={border}',
                "Accept": "application/dicom+json",
            },
        )
        failed = _failure_reason(answer)
        if status not in (200, 202) or failed is not None:
            reason = f" reason 0x{failed:04X}" if failed else ""
            raise Rejected(f"{self._name}: answers STOW-RS with {status}{reason}; its log says why")
        return ""


class Webhook(_Http):
    """A signed POST; any 2xx is success."""

    def send(self, parcel: Parcel) -> str:
        """Send one message, signed for this moment."""
        headers = {"Content-Type": "application/json", DELIVERY: parcel.uid}
        if self._destination.secret is not None:
            secret = self._destination.secret.get_secret_value()
            headers[SIGNATURE] = signature(secret, parcel.content, int(time.time()))
        status, _ = self._post(self._path, parcel.content, headers)
        if not 200 <= status < 300:
            raise Rejected(f"{self._name}: answers with {status}; its log says why")
        return ""


class Hl7:
    """ORU^R01 over MLLP."""

    def __init__(self, destination: Destination, _settings: Settings) -> None:
        host, port = _address(destination)
        self._link = Mllp(host, port, tls=_tls(destination, host), seconds=SECONDS)

    def send(self, parcel: Parcel) -> str:
        """Send one message and wait for its acknowledgement."""
        self._link.send(parcel.content, parcel.uid)
        return ""

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


def _failure_reason(answer: bytes) -> int | None:
    """FailureReason of the first instance that failed, 0 where none is named; None where all were stored."""
    try:
        told: Any = json.loads(answer)
        if isinstance(told, list):
            told = told[0]
        failed = told.get("00081198", {}).get("Value", [])
        return int(failed[0].get("00081197", {}).get("Value", [0])[0]) if failed else None
    except (ValueError, AttributeError, IndexError, KeyError, TypeError):
        return None  # the status alone counts


def _address(destination: Destination) -> tuple[str, int]:
    if not destination.host or not destination.port:
        raise DeliveryError(f"destination {destination.name}: needs host and port; add them to the settings")
    return destination.host, destination.port


def _tls(destination: Destination, host: str) -> ssl.SSLContext | None:
    """What is asked of the other side's certificate, and what is shown of ours; TLS 1.2 or newer."""
    trust = destination.tls
    if trust is None:
        return None
    try:
        context = ssl.create_default_context(cafile=None if trust.ca is None else str(trust.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if trust.certificate is not None:
            context.load_cert_chain(trust.certificate, trust.key)
    except (OSError, ssl.SSLError) as error:
        raise DeliveryError(
            f"destination {destination.name}: its certificates cannot be read ({error}); correct tls"
        ) from error
    return context
