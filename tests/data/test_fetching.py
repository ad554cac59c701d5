"""Fetching: resumed, verified, whole or not at all. A real server here, and a Kaggle of our own."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
import threading
import types
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from carina.data.fetching import fetch as fetching
from carina.data.fetching.archive import unpack
from carina.data.fetching.download import download
from carina.data.fetching.fetch import MANIFEST, fetch
from carina.data.sources import family
from carina.data.sources.way import Download, Kaggle, Way
from carina.errors import FetchError, MissingExtra, SourceError
from carina.records import Progress

pytest.importorskip("httpx2")

FILM = bytes(range(256)) * 4096  # 1 MiB


@dataclass
class Server:
    """What the server has, how it behaves, and what it was asked."""

    url: str = ""
    body: bytes = FILM
    etag: str | None = '"one"'
    cuts: list[int] = field(default_factory=list)  # bytes after which each next answer is cut
    ranges: bool = True
    status: int = 200
    says_length: bool = True
    asked: list[dict[str, str]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(dict(handler.headers))
        if self.status != 200:
            handler.send_response(self.status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = 0
        wanted = handler.headers.get("Range")
        if self.ranges and wanted and handler.headers.get("If-Range") == self.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(self.body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        if self.etag:
            handler.send_header("ETag", self.etag)
        if self.says_length:
            handler.send_header("Content-Length", str(len(self.body) - start))
        handler.end_headers()
        part = self.body[start:]
        handler.wfile.write(part[: self.cuts.pop(0)] if self.cuts else part)
        handler.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_address[1]}/film.bin"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        running.shutdown()
        thread.join()


def bring(server: Server, folder: Path, checksum: str | None = None) -> Path:
    return download(Download(server.url, "film.bin", checksum), folder, pause=0)


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(server: Server, tmp_path: Path) -> None:
    told: list[Progress] = []
    got = download(Download(server.url, "film.bin"), tmp_path / "new", tell=told.append)
    assert got.read_bytes() == FILM
    assert [path.name for path in got.parent.iterdir()] == ["film.bin"]
    assert (told[-1].done, told[-1].total) == (2, 2)  # megabytes, rounded up


def test_a_cut_connection_is_taken_up_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 200_000]
    assert bring(server, tmp_path).read_bytes() == FILM
    assert len(server.asked) == 3
    starts = [int(asked["Range"].removeprefix("bytes=")[:-1]) for asked in server.asked[1:]]
    assert 0 < starts[0] <= 300_000 < starts[1] <= 500_000
    assert {asked["If-Range"] for asked in server.asked[1:]} == {'"one"'}


def test_a_later_call_goes_on_from_what_an_earlier_one_kept(server: Server, tmp_path: Path) -> None:
    server.cuts = [600_000, *[0] * 6]
    with pytest.raises(FetchError, match="MB are kept: run the same command again to go on from there"):
        bring(server, tmp_path)
    assert not (tmp_path / "film.bin").exists()
    kept = (tmp_path / "film.bin.part").stat().st_size
    assert 0 < kept <= 600_000
    server.asked.clear()
    server.cuts.clear()
    assert bring(server, tmp_path).read_bytes() == FILM
    assert [asked["Range"] for asked in server.asked] == [f"bytes={kept}-"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.cuts = [600_000, *[0] * 6]
    with pytest.raises(FetchError):
        bring(server, tmp_path)
    server.body, server.etag, server.cuts = FILM[::-1], '"two"', []
    assert bring(server, tmp_path).read_bytes() == FILM[::-1]


@pytest.mark.parametrize(("etag", "ranges"), [(None, True), ('W/"one"', True), ('"one"', False)])
def test_without_a_strong_mark_or_ranges_the_whole_file_is_fetched_again(
    etag: str | None, ranges: bool, server: Server, tmp_path: Path
) -> None:
    server.etag, server.ranges, server.cuts = etag, ranges, [300_000]
    assert bring(server, tmp_path).read_bytes() == FILM


def test_a_part_that_is_whole_already_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "film.bin.part").write_bytes(FILM)
    notes = {"url": server.url, "validator": '"one"', "size": len(FILM)}
    (tmp_path / "film.bin.part.json").write_text(json.dumps(notes))
    assert bring(server, tmp_path).read_bytes() == FILM
    assert len(server.asked) == 1


def test_a_part_of_another_address_is_not_built_upon(server: Server, tmp_path: Path) -> None:
    (tmp_path / "film.bin.part").write_bytes(b"x" * 1000)
    notes = {"url": "http://elsewhere/film.bin", "validator": '"one"', "size": None}
    (tmp_path / "film.bin.part.json").write_text(json.dumps(notes))
    assert bring(server, tmp_path).read_bytes() == FILM


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_the_checksum_is_verified(kind: str, server: Server, tmp_path: Path) -> None:
    right = hashlib.new(kind, FILM).hexdigest()
    assert bring(server, tmp_path / "right", f"{kind}:{right}").is_file()
    with pytest.raises(FetchError, match=r"not the file that was published .* it was deleted"):
        bring(server, tmp_path / "wrong", f"{kind}:{'0' * len(right)}")
    assert list((tmp_path / "wrong").iterdir()) == []


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "the set may have moved"), (503, "the server is busy .* run the same command")],
)
def test_what_the_server_refuses_is_said(status: int, words: str, server: Server, tmp_path: Path) -> None:
    server.status = status
    with pytest.raises(FetchError, match=words):
        bring(server, tmp_path)


def test_a_full_disk_is_noticed_before_the_first_byte(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 200_500_000))
    with pytest.raises(FetchError, match=r"film.bin: needs 0.0 GB beside 0.2 GB that stay free"):
        bring(server, tmp_path)
    assert (tmp_path / "film.bin.part").stat().st_size == 0


def zipped(files: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda _: None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name)
            change(member)
            archive.writestr(member, content)
    return stream.getvalue()


def test_an_archive_is_unpacked_whole(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"set/TB/1.png": b"one", "set/Normal/2.png": b"two"}))
    assert unpack(tmp_path / "a.zip", tmp_path / "out") == 2
    assert (tmp_path / "out/set/Normal/2.png").read_bytes() == b"two"


@pytest.mark.parametrize(
    "name", ["../evil.png", "/tmp/evil.png", "a/../../evil.png", "..\\evil.png", "C:/evil.png"]
)
def test_names_that_lead_out_of_the_folder_are_refused_before_anything_is_written(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"good.png": b"good", name: b"evil"}))
    with pytest.raises(FetchError, match="leads out of the folder"):
        unpack(tmp_path / "a.zip", tmp_path / "in" / "out")
    assert not (tmp_path / "in").exists()


def test_links_in_an_archive_are_refused(tmp_path: Path) -> None:
    def link(member: zipfile.ZipInfo) -> None:
        member.external_attr = 0o120777 << 16

    (tmp_path / "a.zip").write_bytes(zipped({"link": b"/etc"}, link))
    with pytest.raises(FetchError, match="leads out of the folder"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("fault", ["cut", "flipped"])
def test_a_damaged_archive_is_never_half_unpacked(fault: str, tmp_path: Path) -> None:
    whole = bytearray(zipped({f"{i}.png": os.urandom(500) for i in range(20)}))
    if fault == "cut":
        del whole[-200:]
    else:
        whole[len(whole) // 2] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(whole)
    with pytest.raises(FetchError, match=r"incomplete or damaged .* it was deleted"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def lent(monkeypatch: pytest.MonkeyPatch, name: str, way: Way) -> None:
    """Let ``carina fetch NAME`` go another way."""
    monkeypatch.setitem(family.PUBLIC_SETS, name, replace(family.PUBLIC_SETS[name], way=way))


def test_a_set_is_put_in_its_place_in_one_step(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.body, server.says_length = zipped({"set/metadata.csv": b"a", "set/images/1.png": b"b"}), False
    lent(monkeypatch, "figure1", Download(server.url, "set.zip"))
    got = fetch("figure1", tmp_path / "figure1")
    assert (got.files, got.before) == (2, False)
    assert (
        tmp_path / "figure1" / "images" / "1.png"
    ).read_bytes() == b"b"  # without the archive's own folder
    manifest = json.loads((tmp_path / "figure1" / MANIFEST).read_text())
    assert (manifest["name"], manifest["files"], manifest["where"]) == ("figure1", 2, server.url)
    assert "research only" in manifest["licence"]
    assert [path.name for path in tmp_path.iterdir()] == ["figure1"]
    assert fetch("figure1", tmp_path / "figure1").before
    assert len(server.asked) == 1
    with pytest.raises(FetchError, match="holds figure1; name another folder"):
        fetch("actualmed", tmp_path / "figure1")


def test_an_archive_that_came_incomplete_leaves_no_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.body, server.says_length = zipped({"1.png": FILM})[:-100], False
    lent(monkeypatch, "figure1", Download(server.url, "set.zip"))
    with pytest.raises(FetchError, match="incomplete or damaged"):
        fetch("figure1", tmp_path / "figure1")
    assert not (tmp_path / "figure1").exists()
    server.body = zipped({"1.png": FILM})
    assert fetch("figure1", tmp_path / "figure1").files == 1


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FetchError, match="is not empty; name a new folder with --out"):
        fetch("figure1", tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rsna", "register at Kaggle, accept the rules: https://www.kaggle.com/c/rsna"),
        ("chexpert", "register with Stanford AIMI"),
        ("da_db", "where to get it is not known"),
    ],
)
def test_a_set_that_is_not_ours_to_fetch_says_where_to_ask(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=words):
        fetch(name, tmp_path / name)
    assert not (tmp_path / name).exists()


def test_an_unknown_set_is_an_error_with_the_names(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no public set of this name"):
        fetch("nihh", tmp_path)


class Refused(OSError):
    """As requests' HTTPError: an OSError with a response."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} Client Error.")
        self.response = types.SimpleNamespace(status_code=status)


def kaggle(monkeypatch: pytest.MonkeyPatch, get: Callable[[str, Path], None]) -> None:
    """A kagglehub of our own: ``get`` puts the files of a handle into a folder of the cache."""

    def dataset_download(handle: str) -> str:
        folder = Path(os.environ["KAGGLEHUB_CACHE"]) / "datasets" / handle / "versions" / "2"
        folder.mkdir(parents=True, exist_ok=True)
        print("Downloading …")
        get(handle, folder)
        return str(folder)

    module = types.ModuleType("kagglehub")
    module.dataset_download = dataset_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", module)


def test_a_set_comes_from_kaggle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def get(handle: str, folder: Path) -> None:
        asked.append(handle)
        (folder / "chest_xray").mkdir()
        (folder / "chest_xray" / "1.jpeg").write_bytes(b"film")

    kaggle(monkeypatch, get)
    monkeypatch.delenv("KAGGLEHUB_CACHE", raising=False)
    got = fetch("chest_xray", tmp_path / "films")
    assert asked == ["paultimothymooney/chest-xray-pneumonia"]
    assert (tmp_path / "films" / "1.jpeg").read_bytes() == b"film"
    assert got.files == 1
    assert [path.name for path in tmp_path.iterdir()] == ["films"]
    assert "KAGGLEHUB_CACHE" not in os.environ
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refused(403), "sign in with a Kaggle token .* and accept its terms at https://www.kaggle.com"),
        (Refused(404), "it may have moved"),
        (ConnectionError("no route to host"), "no route to host; run the same command again"),
    ],
)
def test_what_kaggle_refuses_is_said(
    error: Exception, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(handle: str, folder: Path) -> None:
        (folder / "half.jpeg").write_bytes(b"half")
        raise error

    kaggle(monkeypatch, get)
    with pytest.raises(FetchError, match=words):
        fetch("chest_xray", tmp_path / "films")
    assert not (tmp_path / "films").exists()


def test_a_fault_of_our_own_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(handle: str, folder: Path) -> None:
        raise ZeroDivisionError

    kaggle(monkeypatch, get)
    with pytest.raises(ZeroDivisionError):
        fetch("chest_xray", tmp_path / "films")


def test_what_kaggle_attached_elsewhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("kagglehub")
    module.dataset_download = lambda handle: "/kaggle/input/x"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    with pytest.raises(FetchError, match="lies at /kaggle/input/x already"):
        fetch("chest_xray", tmp_path / "films")


def test_a_missing_extra_names_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtra, match=r"pip install 'carina\[fetch\]'"):
        fetch("chest_xray", tmp_path / "films")
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(MissingExtra, match=r"pip install 'carina\[fetch\]'"):
        fetch("figure1", tmp_path / "films")


def test_every_set_on_kaggle_has_an_owner_and_a_name() -> None:
    for known in family.PUBLIC_SETS.values():
        if isinstance(known.way, Kaggle):
            assert known.way.handle.count("/") == 1


def test_relatives_are_said_in_words() -> None:
    assert "tbx11k is partly made of films of shenzhen" in fetching.relatives("shenzhen")
