"""HL7 and webhooks: what stands in them, and how a message is framed, acknowledged, signed and refused."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from carina.errors import Rejected, Unreachable
from carina.scoring.triage import FORBIDDEN
from carina.serving.database import Database
from carina.serving.results.device import new_uid
from carina.serving.results.hl7 import END, START, Mllp, build_oru, check_ack, control_id, escaped
from carina.serving.results.result import Result, gather
from carina.serving.results.senders import Parcel, Webhook, connect
from carina.serving.results.webhook import build_event, signature, verify
from carina.serving.settings import Destination, Settings
from tests.serving.results.ward import NOW, OUTCOMES, Shelf, admit, film, model


def told(database: Database, shelf: Shelf, outcome: str, **elements: Any) -> Result:
    with database.write() as session:
        row = admit(session, shelf, outcome, files=[film(**elements)], duty=model(session))
        return gather(session, row.id, shelf, NOW)


def fields(message: bytes) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    for line in message.decode().split("\r")[:-1]:
        found.setdefault(line[:3], []).append(line.split("|"))
    return found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a|b^c&d~e\\f", "a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f"),
        ("two\rlines\n\x0b\x1c", "two lines   "),
        ("\\E\\", "\\E\\E\\E\\"),
        ("山田", "山田"),
    ],
)
def test_text_cannot_break_out_of_its_field(value: str, said: str) -> None:
    assert escaped(value) == said


def test_a_message_names_patient_order_and_outcome(
    sqlite: Database, settings: Settings, shelf: Shelf
) -> None:
    result = told(
        sqlite,
        shelf,
        "now",
        AccessionNumber="A|1",
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Yamada^Tarou^^Dr^Jr=山田^太郎",
    )
    segments = fields(build_oru(result, settings, "c1", "RIS"))
    assert [*segments] == ["MSH", "PID", "OBR", "TQ1", "OBX", "NTE"]
    msh, pid, obr = (segments[each][0] for each in ("MSH", "PID", "OBR"))
    assert (msh[8], msh[9], msh[10], msh[11], msh[17]) == (
        "ORU^R01^ORU_R01",
        "c1",
        "P",
        "2.5.1",
        "UNICODE UTF-8",
    )
    assert pid[3] == "A-17^^^WARD"
    assert pid[5] == "Yamada^Tarou^^Jr^Dr~山田^太郎"
    assert (pid[7], pid[8]) == ("19610203", "F")
    assert (obr[3], obr[7], obr[25]) == ("A\\F\\1", "20261123213000", "P")
    assert segments["TQ1"][0][9] == "S"
    observed = {each[3].split("^")[0]: each for each in segments["OBX"]}
    assert observed["outcome"][5] == "flagged-now^flagged: now^99CARINA"
    assert observed["suspects"][5] == "TB"
    assert observed["p-disease"][5] == "0.9300"
    assert {each[11] for each in segments["OBX"]} == {"P"}  # preliminary
    assert {each[8] for each in segments["OBX"]} == {""}  # no abnormal flag: the other one is N


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_no_message_calls_a_patient_well(
    sqlite: Database, settings: Settings, shelf: Shelf, outcome: str
) -> None:
    result = told(sqlite, shelf, outcome)
    said = (build_oru(result, settings, "c1", "RIS") + build_event(result, "2.25.7")).decode().casefold()
    assert not [word for word in FORBIDDEN if word in said]
    assert "not a medical device" in said


def test_a_control_id_has_at_most_twenty_characters_and_stays() -> None:
    uid = new_uid()
    assert len(control_id(uid)) <= 20
    assert control_id(uid) == control_id(uid)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"MSH|^~\\&|X\rMSA|AA|c1\r", None),
        (b"MSH|^~\\&|X\rMSA|CA|c1\r", None),
        (b"MSH|^~\\&|X\rMSA|AE|c1|no such order\r", "AE no such order"),
        (b"MSH|^~\\&|X\rMSA|AR|c1\rERR|||204\r", "AR 204"),
        (b"MSH|^~\\&|X\rMSA|AA|c2\r", "acknowledges message 'c2'"),
        (b"HTTP/1.1 400 Bad Request\r\n", "without MSA"),
    ],
)
def test_only_the_acknowledgement_of_this_message_counts(answer: bytes, fault: str | None) -> None:
    if fault is None:
        check_ack(answer, "c1", "ris")
        return
    with pytest.raises(Rejected, match=fault):
        check_ack(answer, "c1", "ris")


@contextmanager
def receiver(answer: bytes | None) -> Iterator[tuple[int, list[bytes]]]:
    """An HL7 receiver that answers every message with ``answer``, or hangs up."""
    got: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            message = b""
            while not message.endswith(END):
                chunk = self.request.recv(65536)
                if not chunk:
                    return
                message += chunk
            got.append(message)
            if answer is not None:
                self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], got
        server.shutdown()


def test_a_message_travels_framed_and_is_acknowledged() -> None:
    with receiver(START + b"MSH|^~\\&|X\rMSA|AA|c1\r" + END) as (port, got):
        link = Mllp("127.0.0.1", port, seconds=5)
        link.send(b"MSH|...\r", "c1")
        link.close()
    assert got == [b"\x0bMSH|...\r\x1c\r"]


def test_a_receiver_that_hangs_up_is_tried_again_later() -> None:
    with receiver(None) as (port, _):
        link = Mllp("127.0.0.1", port, seconds=5)
        with pytest.raises(Unreachable, match="no acknowledgement"):
            link.send(b"MSH|...\r", "c1")
        link.close()
    with pytest.raises(Unreachable, match="no connection"):
        Mllp("127.0.0.1", port, seconds=5)


def test_an_endless_answer_is_cut_off() -> None:
    with receiver(START + b"x" * 200_000) as (port, _):
        link = Mllp("127.0.0.1", port, seconds=5)
        with pytest.raises(Rejected, match="more than 65536 bytes"):
            link.send(b"MSH|...\r", "c1")
        link.close()


def test_a_webhook_names_nobody(sqlite: Database, shelf: Shelf) -> None:
    body = build_event(told(sqlite, shelf, "now"), "2.25.7")
    said = json.loads(body)
    assert (said["study"], said["outcome"], said["urgency"]) == (1, "flagged", "now")
    assert said["delivery"] == "2.25.7"
    for planted in (b"Okonkwo", b"A-17", b"ACC-9", b"19610203", b"CHEST", b"House", b"1.2.826"):
        assert planted not in body


def test_a_signature_holds_for_its_body_its_secret_and_its_time() -> None:
    header = signature("hush", b"{}", 1000)
    assert header.startswith("t=1000,v1=")
    assert verify("hush", b"{}", header, 1100)
    assert not verify("hush", b"{ }", header, 1100)
    assert not verify("other", b"{}", header, 1100)
    assert not verify("hush", b"{}", header, 1301)
    assert not verify("hush", b"{}", "t=1000,v1=", 1000)


@contextmanager
def web(status: int, location: str = "") -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """A web server that answers every POST with ``status``."""
    got: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, {name.casefold(): value for name, value in self.headers.items()}, body))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hook?to=7", got
        server.shutdown()


def hook(url: str) -> Destination:
    return Destination.model_validate({"name": "pager", "kind": "webhook", "url": url, "secret": "hush"})


def test_a_webhook_is_signed_for_the_moment_it_is_sent(settings: Settings) -> None:
    with web(204) as (url, got):
        link = connect(hook(url), settings)
        link.send(Parcel("webhook", "2.25.7", b'{"study": 1}'))
        link.close()
    path, headers, body = got[0]
    assert path == "/hook?to=7"
    assert headers["carina-delivery"] == "2.25.7"
    import time

    assert verify("hush", body, headers["carina-signature"], time.time())


def test_a_redirect_is_not_followed(settings: Settings) -> None:
    with web(204) as (elsewhere, seen), web(307, elsewhere) as (url, got):
        link = Webhook(hook(url), settings)
        with pytest.raises(Rejected, match="redirects elsewhere"):
            link.send(Parcel("webhook", "2.25.7", b"{}"))
    assert (len(got), len(seen)) == (1, 0)


@pytest.mark.parametrize(("status", "error"), [(500, Rejected), (404, Rejected), (503, Unreachable)])
def test_an_answer_other_than_success_is_no_delivery(
    settings: Settings, status: int, error: type[Exception]
) -> None:
    with web(status) as (url, _):
        link = Webhook(hook(url), settings)
        with pytest.raises(error):
            link.send(Parcel("webhook", "2.25.7", b"{}"))


def test_times_are_utc_in_both(sqlite: Database, settings: Settings, shelf: Shelf) -> None:
    result = told(sqlite, shelf, "soon")
    assert result.decided_at == NOW + timedelta(seconds=4)
    assert fields(build_oru(result, settings, "c1", "RIS"))["MSH"][0][6] == "20261123220004+0000"
    assert json.loads(build_event(result, "u"))["decided_at"] == "2026-11-23T22:00:04+00:00"
