"""STOW-RS, HL7 and webhook over TLS: to the one that the site trusts, and to nobody else."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer
from typing import Any

import pytest

from carina.errors import Unreachable
from carina.serving.results.hl7 import END, START
from carina.serving.results.senders import Parcel, connect
from carina.serving.settings import Destination, Settings
from tests.security.certificates import Authority, Pair

MESSAGE = b"MSH|^~\\&|CARINA||||||ORU^R01|7|P|2.5.1\r"
ANSWER = START + b"MSH|^~\\&|RIS||CARINA|||||7|P|2.5.1\rMSA|AA|7\r" + END


class Silent(TCPServer):
    """A server over TLS; a handshake that fails is the other side's business and no word of ours."""

    got: list[bytes]
    allow_reuse_address = True

    def __init__(self, handler: Any, pair: Pair) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.got = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing."""


class Web(BaseHTTPRequestHandler):
    """Takes every POST."""

    def do_POST(self) -> None:
        self.server.got.append(self.rfile.read(int(self.headers["Content-Length"])))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Ris(BaseRequestHandler):
    """Acknowledges every message."""

    def handle(self) -> None:
        got = b""
        while not got.endswith(END):
            piece = self.request.recv(4096)
            if not piece:
                return
            got += piece
        self.server.got.append(got)  # type: ignore[attr-defined]
        self.request.sendall(ANSWER)


@contextmanager
def serving(handler: Any, pair: Pair) -> Iterator[tuple[int, list[bytes]]]:
    server = Silent(handler, pair)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield int(server.server_address[1]), server.got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def destination(kind: str, port: int, ca: Path) -> Destination:
    where = {"host": "localhost", "port": port} if kind == "hl7" else {"url": f"https://localhost:{port}/in"}
    return Destination.model_validate(
        {"name": "there", "kind": kind, "secret": "s", "tls": {"ca": ca}, **where}
    )


def send(kind: str, port: int, ca: Path, settings: Settings) -> None:
    link = connect(destination(kind, port, ca), settings)
    try:
        link.send(Parcel(kind=kind if kind != "stow" else "sr", uid="7", content=MESSAGE))
    finally:
        link.close()


@pytest.mark.parametrize(("kind", "handler"), [("stow", Web), ("webhook", Web), ("hl7", Ris)])
def test_a_result_reaches_who_shows_the_right_certificate_and_nobody_else(
    tmp_path: Path, settings: Settings, kind: str, handler: Any
) -> None:
    ours, strangers = Authority(tmp_path, "hospital"), Authority(tmp_path, "stranger")
    with serving(handler, ours.sign("there")) as (port, got):
        send(kind, port, ours.own, settings)
        assert len(got) == 1
        assert MESSAGE in got[0]
        with pytest.raises(Unreachable, match=r"certificate|CERTIFICATE"):
            send(kind, port, strangers.own, settings)
    with serving(handler, ours.sign("late", days=-1)) as (port, got):
        with pytest.raises(Unreachable, match=r"expired|certificate"):
            send(kind, port, ours.own, settings)
        assert got == []
