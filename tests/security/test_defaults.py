"""Safe by default: this machine only, no file for others, and TLS that old or wrong peers do not pass."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from carina.errors import CarinaError
from carina.serving.database import Database
from carina.serving.listener import Listener
from carina.serving.service import Service, check_exposure
from carina.serving.settings import Role, Settings
from carina.serving.upgrades import upgrade
from tests.security.certificates import Authority, Pair
from tests.security.figures import Tell
from tests.security.house import SENDER, House

LISTENS, LOOPBACK = "0A", "0100007F"  # of /proc/net/tcp


def listening(pid: int) -> set[str]:
    """The addresses, as /proc/net/tcp writes them, that a process listens on."""
    inodes = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == LISTENS and f"socket:[{parts[9]}]" in inodes:
                found.add(parts[1].partition(":")[0])
    return found


def test_a_fresh_start_listens_to_this_machine_alone_and_keeps_its_files_to_itself(
    house: House, tell: Tell
) -> None:
    assert listening(house.pid) == {LOOPBACK}
    everything = [house.data, *house.data.rglob("*")]
    open_to_others = [path for path in everything if path.stat().st_mode & 0o077]
    said = f"{len(everything)} files and folders, {len(open_to_others)} open to others"
    tell("defaults", f"a fresh start listens on 127.0.0.1 alone; {said}")
    assert open_to_others == []


def test_the_database_is_private_whoever_makes_it_first(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        database = Database(f"sqlite:///{tmp_path / 'carina.sqlite'}")
        upgrade(database)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        database.close()
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}, modes


TLS = {"certificate": "c.pem", "key": "k.pem"}
PEERS = [{"ae_title": SENDER}]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "ward-7.example"])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"web": {}}, "without TLS"),
        ({"web": {"tls": TLS, "sign_in": False}}, "nobody would have to sign in"),
        ({"web": {"tls": TLS}}, "nobody has a password yet"),
        ({"dicom": {}}, "no sender is listed"),
        ({"dicom": {"tls": TLS}}, "no sender is listed"),
        ({"dicom": {"peers": PEERS}}, "without TLS"),
    ],
)
def test_no_other_address_without_tls_a_password_and_a_list(
    tmp_path: Path, host: str, changes: dict[str, dict[str, Any]], says: str
) -> None:
    ((part, given),) = changes.items()
    settings = Settings.model_validate({"data": tmp_path, part: {"host": host, "port": 0} | given})
    database = Database("sqlite://")
    upgrade(database)
    with pytest.raises(CarinaError, match=says) as fault:
        refuse(part, settings, database)
    assert ";" in str(fault.value), "and the cure"
    database.close()


def refuse(part: str, settings: Settings, database: Database) -> None:
    if part == "web":
        check_exposure(settings, database, Role.ALL)
    else:
        Listener(settings, database, None)  # type: ignore[arg-type]  # it gets no further


@dataclass(frozen=True, slots=True)
class Ward:
    """A service that speaks TLS only, asks for certificates, and who comes to it."""

    house: House
    authority: Authority
    known: Pair
    expired: Pair
    stranger: Pair


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder = tmp_path_factory.mktemp("tls")
    authority, other = Authority(folder, "hospital"), Authority(folder, "elsewhere")
    own = authority.sign("carina")
    tls = {"certificate": str(own.certificate), "key": str(own.key), "ca": str(authority.own)}
    people = (authority.sign("known"), authority.sign("expired", days=-1), other.sign("stranger"))
    with House(folder / "site", None, dicom={"tls": tls}, web={"tls": tls}) as running:
        yield Ward(running, authority, *people)


def spoken(ward: Ward, port: int, said: bytes, shown: Pair | None, **how: Any) -> bytes:
    """What comes back when ``said`` is said over TLS with the certificate ``shown``; nothing on refusal."""
    context = ssl.create_default_context(cafile=str(ward.authority.own))
    for name, value in how.items():
        if name == "ciphers":
            context.set_ciphers(value)
        else:
            setattr(context, name, value)
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
        ):
            sock.sendall(said)
            return sock.recv(4096)
    except (ssl.SSLError, ConnectionError):
        return b""


def question(port_of: str) -> bytes:
    """A request that is answered: HTTP, or an association."""
    if port_of == "page":
        return b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    title = SENDER.encode().ljust(16)
    items = b"\x10\x00\x00\x151.2.840.10008.3.1.1.1"
    context = b"\x30\x00\x00\x111.2.840.10008.1.1" + b"\x40\x00\x00\x111.2.840.10008.1.2"
    items += struct.pack(">BBHBBBB", 0x20, 0, len(context) + 4, 1, 0, 0, 0) + context
    user = b"\x51\x00\x00\x04\x00\x00\x40\x00" + b"\x52\x00\x00\x071.2.3.4"
    items += struct.pack(">BBH", 0x50, 0, len(user)) + user
    body = b"\x00\x01\x00\x00" + b"CARINA".ljust(16) + title + bytes(32) + items
    return struct.pack(">BBI", 1, 0, len(body)) + body


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("port_of", ["page", "DICOM port"])
def test_old_versions_and_wrong_or_expired_certificates_are_turned_away(
    ward: Ward, tell: Tell, port_of: str
) -> None:
    port = ward.house.web_port if port_of == "page" else ward.house.dicom_port
    said, welcome = question(port_of), b"HTTP/1.1 200" if port_of == "page" else b"\x02\x00"
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        answer = spoken(ward, port, said, ward.known, minimum_version=version, maximum_version=version)
        assert answer.startswith(welcome), (version, answer[:40])
    old = {"ciphers": "ALL:@SECLEVEL=0", "minimum_version": ssl.TLSVersion.TLSv1}
    refused = {
        "TLS 1.0": spoken(ward, port, said, ward.known, **old, maximum_version=ssl.TLSVersion.TLSv1),
        "TLS 1.1": spoken(ward, port, said, ward.known, **old, maximum_version=ssl.TLSVersion.TLSv1_1),
        "no certificate": spoken(ward, port, said, None),
        "an expired one": spoken(ward, port, said, ward.expired),
        "one of a stranger": spoken(ward, port, said, ward.stranger),
        "no TLS": _plain(port, said),
    }
    said = f"TLS 1.2 and 1.3 with a known certificate served; refused: {', '.join(refused)}"
    tell("defaults", f"{port_of}: {said}")
    let_in = (welcome, b"HTTP/1.1 2", b"\x02\x00")
    assert not [name for name, answer in refused.items() if answer.startswith(let_in)]


def test_over_tls_cookies_stay_with_it(ward: Ward) -> None:
    said = b"GET /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    answer = spoken(ward, ward.house.web_port, said, ward.known).lower()
    assert b"strict-transport-security: max-age=31536000" in answer
    assert b"; secure" in answer
    assert b"; httponly" in answer


def _plain(port: int, said: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(said)
        try:
            return sock.recv(4096)
        except ConnectionError:
            return b""


def test_certificates_that_cannot_be_used_are_said_in_a_sentence(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "hospital")
    one, other = authority.sign("one"), authority.sign("other")
    tls = {"certificate": one.certificate, "key": other.key}
    for part in ("web", "dicom"):
        settings = Settings.model_validate(
            {"data": tmp_path / "data", "free_bytes": 0, "web": {"port": 0}, "dicom": {"port": 0}}
            | {part: {"port": 0, "tls": tls}}
        )
        service = Service(settings, Role.WEB if part == "web" else Role.LISTENER)
        with pytest.raises(CarinaError, match="PEM files"):
            service.start()
