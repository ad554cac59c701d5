"""Names that strangers choose: none leads to another file, line, cell or host."""

from __future__ import annotations

import http.server
import io
import json
import re
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import films
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from tests.security.elements import hostile_film
from tests.security.figures import Tell
from tests.security.house import House, until
from tests.security.sender import Sender
from tests.security.ways import content_at
from tests.serving.instances import instance

UPWARDS = ("../", "..\\", "....//", "..%2f", "%2e%2e%2f", "..%252f", "..%c0%af", "..;/", "./../", "..\x00/")
TARGETS = ("etc/cron.d/x", "carina.sqlite", "Windows\\win.ini")
ABSOLUTE = (
    "/etc/passwd", "//etc/passwd", "C:\\x", "\\\\host\\share\\x", "file:///etc/passwd", "~/.ssh/id_rsa",
    "/proc/self/environ", "\x00/etc/passwd", "a\x00b", "CON", "NUL.dcm", "a/b/../../../c", "$(id)", "`id`",
    "x" * 5000, "..", ".", "/", "\r\nSet-Cookie: a=b", "\x1b]0;x\x07", "\u202e", "%00", "-rf", "*", "|id",
    "a/./../../b", "../" * 40, "..\\" * 40, "\uff0e\uff0e/etc/passwd", "..\u2215etc\u2215passwd",
)  # fmt: skip
FORMS = [up * 6 + target for up in UPWARDS for target in TARGETS] + list(ABSOLUTE)


def files(house: House) -> set[Path]:
    """All files beside the archive's own and the service's log, tables and spools."""
    own = ("carina.sqlite", "carina.sqlite-wal", "carina.sqlite-shm", "carina.sqlite-journal")
    return {
        path
        for path in house.folder.parent.rglob("*")
        if path.name not in own and path != house.log and not _stored(path)
    }


def _stored(path: Path) -> bool:
    stored = re.fullmatch(r"[0-9a-f]{64}", path.name) and path.parent.parent.name == "archive"
    return bool(stored) or path.parent.name == "incoming"


def test_no_name_leads_to_a_file(house: House, tell: Tell, soak: bool) -> None:
    assert len(FORMS) == 60
    forms, before, sent = (FORMS if soak else FORMS[::4]), files(house), 0
    with house.client() as reader, zipped() as bundle:
        sender = Sender(house.dicom_port, seconds=3)
        for number, form in enumerate(forms):
            film = instance(SOPInstanceUID=f"1.2.3.9.{number}")
            answer = reader.post(f"/api/v1/uploads?name={quote(form[:200])}", content=film)
            assert answer.status_code == 201, (form, answer.text)
            shown = answer.json()["files"][0]["name"]
            assert not set(shown) & set("/\\\r\n\0\x1b"), shown
            uid = form.encode("latin-1", "replace")[:64].decode("latin-1")
            sender.send(film[content_at(film) :], uid)
            if not sender.open:
                sender.close()
                sender = Sender(house.dicom_port, seconds=3)
            for path in (f"/api/v1/instances/{form}/file", f"/static/{form}"):
                status, text = fetched(house, path)
                assert status in (0, 400, 404, 405, 414, 422), (path, status)
                assert b"root:" not in text
            sent += 4
            bundle.writestr(zipfile.ZipInfo(form.replace("\0", "_")), instance())
        sender.close()
        bundle.close()
        answer = reader.post("/api/v1/uploads?name=all.zip", content=bundle.fp_content())
        assert answer.status_code == 201, answer.text
    until(house.at_rest, 120)
    tell("web", f"path traversal, {len(forms)} forms ({sent} file names, zips, UIDs, addresses): 0 files")
    assert files(house) == before


def fetched(house: House, path: str) -> tuple[int, bytes]:
    """Status and answer to a request whose path goes out as it stands, but for what ends a line."""
    target = quote(path, safe="/%;\\:@&=+$,.~!*'()[]{}|^`<>\"?#")[:6000].encode()
    head = " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Authorization: Bearer {house.keys['admin']}\r\n"
    with socket.create_connection(("127.0.0.1", house.web_port), timeout=30) as sock:
        sock.sendall(b"GET " + target + head.encode() + b"\r\n")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    words = answer.split(b" ", 2)
    return (int(words[1]) if len(words) > 2 else 0), answer


class _Zip(zipfile.ZipFile):
    """A zip in memory."""

    def __init__(self) -> None:
        self._stream = io.BytesIO()
        super().__init__(self._stream, "w")

    def fp_content(self) -> bytes:
        """The whole archive, once it was closed."""
        return self._stream.getvalue()


def zipped() -> _Zip:
    return _Zip()


def test_no_uid_or_title_is_believed(house: House) -> None:
    for title in ("../../etc", "'; DROP", "<script>", "A" * 16, "\x1b[31m", "MODALITY\\X"):
        try:
            sender = Sender(house.dicom_port, calling=title)
        except ValueError:  # no AE title even for the client
            continue
        assert not sender.open, title
        sender.close()


LINES = (
    '\r\n{"at": "now", "says": "all well"}',
    "\n\nERROR",
    "\x1b[2J\x1b[H",
    "\u2028forged",
    "%s%n{0}",
    "\x00",
)


def marked(line: str) -> bytes:
    """A film of a patient of that name."""
    return instance(PatientName=f"A^{line}"[:60], SpecificCharacterSet="ISO_IR 192")


def test_nobody_writes_a_line_of_the_log(house: House, tell: Tell) -> None:
    with house.client() as reader:
        for number, line in enumerate(LINES):
            reader.post(f"/api/v1/uploads?name={quote(line)}", content=b"no film" + bytes([number]))
            reader.post(f"/api/v1/uploads?name={quote(line)}", content=marked(line))
            reader.get(f"/studies/{quote(line)}")
            reader.get("/worklist", params={"q": line})
    until(house.at_rest)
    lines = house.said().splitlines()
    for line in lines:
        assert isinstance(json.loads(line), dict), line
        assert not any(ord(each) < 32 or ord(each) in (0x7F, 0x2028, 0x9B) for each in line), line
    tell("web", f"log injection, {4 * len(LINES)} requests: all {len(lines)} lines are JSON objects of ours")
    assert not [line for line in lines if json.loads(line).get("says") == "all well"]


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    """A server that nobody should ask for anything, and what it was asked for."""
    met: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            met.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", met
    server.shutdown()
    thread.join()
    server.server_close()


def test_no_address_in_a_film_or_a_request_is_ever_called(
    house: House, tell: Tell, canary: tuple[str, list[str]]
) -> None:
    where, met = canary
    with house.client() as reader:
        film, elements = hostile_film([f"{where}/tag"], number=1)
        assert reader.post("/api/v1/uploads", content=film).status_code == 201
        for path in ("/worklist", "/api/v1/worklist", "/dashboard", "/upload", "/studies/1", "/sign-in"):
            for name in ("url", "uri", "next", "redirect", "src", "destination", "host", "file"):
                reader.get(path, params={name: f"{where}/{name}"})
        proxied = {
            "X-Forwarded-For": where,
            "X-Forwarded-Host": where,
            "Referer": where,
            "Forwarded": f"host={where}",
        }
        reader.get("/worklist", headers=proxied)
        reader.post("/api/v1/uploads", params={"name": where, "url": where}, content=instance())
        kind = {"Content-Type": f'multipart/related; type="application/dicom"; boundary=b; start="{where}"'}
        reader.post(
            "/dicom-web/studies",
            content=f"--b\r\nContent-Location: {where}\r\n\r\n--b--".encode(),
            headers=kind,
        )
    jpip = films.dicom(
        None, ExplicitVRLittleEndian, PixelDataProviderURL=f"{where}/jpip", SOPInstanceUID="1.2.3.8"
    )
    sender = Sender(house.dicom_port)
    sender.send(jpip[content_at(jpip) :], "1.2.3.8")
    sender.close()
    until(house.at_rest)
    places = f"{elements:,} DICOM elements, 48 queries and 6 headers"
    tell("web", f"SSRF, an address in {places}: called {len(met)} times")
    assert met == []
