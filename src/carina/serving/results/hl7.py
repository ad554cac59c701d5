"""A result as HL7 v2.5.1 ORU^R01, and how it travels (MLLP).

The patient, the order (by accession number), and one OBX for each thing said: outcome, finding, probability,
threshold, reason, model. The result status is P, preliminary. No abnormal flag is ever sent, because the only
one there is for the rest of the patients says that they are well. Urgency stands in TQ1-9 for systems that
order by it.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime

from pydicom import Dataset

from carina.errors import Rejected, Unreachable
from carina.serving.results import device
from carina.serving.results.result import Result
from carina.serving.settings import Settings

VERSION = "2.5.1"
START, END = b"\x0b", b"\x1c\r"  # MLLP (HL7 v2 transport specification, release 1)
LARGEST_ANSWER = 65536  # bytes
_PRIORITY = {"now": "S", "soon": "A"}  # TQ1-9, table 0485: stat, as soon as possible; else routine
_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}


def escaped(value: object) -> str:
    """One field's text: delimiters as escape sequences (chapter 2.7), line ends and controls as spaces."""
    text = "".join(sign if sign.isprintable() else " " for sign in str(value))
    return "".join(_ESCAPES.get(sign, sign) for sign in text)


def build_oru(result: Result, settings: Settings, control: str, receiver: str) -> bytes:
    """The message in UTF-8. ``control`` is MSH-10 (at most 20 characters), ``receiver`` MSH-5."""
    header, made = result.header, _time(result.decided_at)
    lines = [
        ["MSH", "^~\\&", "CARINA", escaped(settings.site or ""), escaped(receiver), "", made, "",
         "ORU^R01^ORU_R01", control, "P", VERSION, "", "", "", "", "", "UNICODE UTF-8"],
        ["PID", "1", "", _patient(header), "", _name(str(header.PatientName)), "",
         str(header.PatientBirthDate), str(header.PatientSex)],
        ["OBR", "1", "", escaped(header.AccessionNumber), "triage^Chest radiograph triage^99CARINA", "", "",
         _when(header), "", "", "", "", "", "", "", "", "", "", escaped(header.AccessionNumber), "", "", "",
         made, "", "RAD", "P"],
        ["TQ1", "1", "", "", "", "", "", "", "", _PRIORITY.get(result.urgency or "", "R")],
        *_observations(result, made),
        ["NTE", "1", "", escaped(f"{device.NOTICE} {device.DUTY}")],
    ]  # fmt: skip
    return "".join("|".join(fields).rstrip("|") + "\r" for fields in lines).encode("utf-8")


def control_id(uid: str) -> str:
    """MSH-10 for a delivery: at most 20 characters, the same for every try."""
    return f"{int(uid.rpartition('.')[2]):x}"[-20:]


class Mllp:
    """A connection to an HL7 receiver: one message, one acknowledgement, in turn."""

    def __init__(
        self, host: str, port: int, *, tls: ssl.SSLContext | None = None, seconds: float = 30.0
    ) -> None:
        """Connect; raises ``Unreachable``."""
        self.name, self._seconds = f"{host}:{port}", seconds
        try:
            plain = socket.create_connection((host, port), timeout=seconds)
            self._socket = tls.wrap_socket(plain, server_hostname=host) if tls else plain
        except OSError as error:
            raise Unreachable(f"{self.name}: no connection ({error}); it is tried again later") from error

    def send(self, message: bytes, control: str) -> None:
        """Send one message and wait for its acknowledgement.

        Raises ``Rejected`` where it is refused and ``Unreachable`` where no answer comes in time.
        """
        try:
            self._socket.sendall(START + message + END)
            answer = self._answer()
        except OSError as error:
            raise Unreachable(f"{self.name}: no acknowledgement ({error}); it is sent again later") from error
        check_ack(answer, control, self.name)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _answer(self) -> bytes:
        until, got = time.monotonic() + self._seconds, bytearray()
        while not got.endswith(END):
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the answer did not end in time")
            self._socket.settimeout(left)
            chunk = self._socket.recv(4096)
            if not chunk:
                raise ConnectionResetError("closed before its answer")
            got += chunk
            if len(got) > LARGEST_ANSWER:
                raise Rejected(
                    f"{self.name}: answers more than {LARGEST_ANSWER} bytes; look what listens there"
                )
        return bytes(got[got.find(START) + 1 : -len(END)])


def check_ack(answer: bytes, control: str, name: str) -> None:
    """Raise ``Rejected`` unless ``answer`` accepts the message ``control`` (MSA-1 AA or CA, MSA-2 its ID)."""
    lines = [line.split("|") for line in re.split(r"[\r\n]+", answer.decode("utf-8", "replace")) if line]
    msa = next((fields for fields in lines if fields[0] == "MSA" and len(fields) > 2), None)
    if msa is None:
        raise Rejected(f"{name}: answers without MSA; look what listens there")
    if msa[2].strip() != control:
        raise Rejected(
            f"{name}: acknowledges message {msa[2][:40]!r}, not {control!r}; look what listens there"
        )
    if msa[1] not in ("AA", "CA"):
        said = msa[3] if len(msa) > 3 else next((f[3] for f in lines if f[0] == "ERR" and len(f) > 3), "")
        raise Rejected(f"{name}: answers {msa[1][:10]} {said[:200]}".rstrip() + "; its log says why")


def answering(handle: Callable[[bytes], bytes], message: bytes) -> bytes:
    """The framed answer of ``handle`` to a framed message: for whoever listens."""
    return START + handle(message.removeprefix(START).removesuffix(END)) + END


def _observations(result: Result, made: str) -> list[list[str]]:
    said: list[tuple[str, str, object, str]] = [
        ("CWE", "outcome^Triage outcome", _coded(result), ""),
        ("ST", "because^Reason", escaped(result.because), ""),
        ("ST", "study-uid^Study Instance UID", result.study_uid, ""),
    ]
    if result.finding:
        said.append(("ST", "suspects^The model suspects", escaped(result.finding), ""))
    if result.p_disease is not None:
        said.append(("NM", "p-disease^Probability of any disease", f"{result.p_disease:.4f}", "1"))
    if result.threshold is not None:
        said.append(("NM", "threshold^Flagged from", f"{result.threshold:.4f}", "1"))
    if result.suggestion:
        said.append(
            ("ST", "suggestion^Suggestion; a person must still read it", escaped(result.suggestion), "")
        )
    if result.code:
        said.append(("ST", "code^Why it was not analysed", escaped(result.code), ""))
    if result.model is not None:
        model = f"{result.model.name} ({result.model.fingerprint[:12]}); {result.model.shown}"
        said.append(("ST", "model^Model", escaped(model), ""))
    return [
        [
            "OBX",
            str(number),
            kind,
            f"{what}^99CARINA",
            "",
            str(value),
            unit,
            "",
            "",
            "",
            "",
            "P",
            "",
            "",
            made,
        ]
        for number, (kind, what, value, unit) in enumerate(said, start=1)
    ]


def _coded(result: Result) -> str:
    code = re.sub(r"[^a-z]+", "-", result.label.partition(": needs")[0].partition(": read")[0])
    return f"{code}^{escaped(result.label)}^99CARINA"


def _patient(header: Dataset) -> str:
    issuer = header.get("IssuerOfPatientID")
    return escaped(header.PatientID) + (f"^^^{escaped(issuer)}" if issuer else "")


def _name(dicom: str) -> str:
    """DICOM's family^given^middle^prefix^suffix as XPN: suffix before prefix; its groups as repetitions."""
    names = []
    for group in dicom.split("="):
        parts = [escaped(part) for part in (*group.split("^"), "", "", "", "", "")[:5]]
        if any(parts):
            family, given, middle, prefix, suffix = parts
            names.append("^".join((family, given, middle, suffix, prefix)).rstrip("^"))
    return "~".join(names)


def _when(header: Dataset) -> str:
    date, clock = str(header.StudyDate), str(header.StudyTime).partition(".")[0]
    return f"{date}{clock}" if date else ""


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
