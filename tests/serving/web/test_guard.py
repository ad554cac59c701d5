"""What is turned away before anything looks at it, and what every answer carries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from carina.serving.web.guard import Guard, host_name
from tests.serving.web.scene import Scene

Client = Callable[..., TestClient]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("localhost:8642", 200), ("LOCALHOST", 200), ("127.0.0.1:8642", 200),
        ("[::1]:80", 200), ("[0:0:0:0:0:0:0:1]", 200), ("localhost.", 200), ("evil.example", 400),
        ("localhost.evil.example", 400), ("evil.example:8642", 400), ("localhost@evil.example", 400),
        ("localhost/evil", 400), ("", 400), ("a b", 400), ("127.0.0.1.nip.io", 400), ("0.0.0.0", 400),
        ("[::]", 400), ("2130706433", 400), ("localhost,evil.example", 400), ("localhost:99999999", 400),
        ("loc\xe1lhost", 400),
    ],
)  # fmt: skip
def test_only_hosts_of_ours_are_answered(client: Client, host: str, status: int) -> None:
    assert client().get("/health", headers={"Host": host.encode("latin-1")}).status_code == status


def test_addresses_are_compared_in_their_short_form() -> None:
    assert host_name("[0:0::0:1]") == "::1"
    assert host_name("LocalHost.") == "localhost"


def test_every_answer_forbids_what_no_page_of_ours_needs(scene: Scene, client: Client) -> None:
    study = scene.study()
    viewer = client("viewer")
    for path in (
        "/worklist",
        "/static/carina.css",
        "/health",
        "/nothing",
        "/api/v1/worklist",
        f"/studies/{study}",
    ):
        headers = viewer.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "script-src 'self';" in policy, "no inline script, no eval"
        assert "style-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers
    assert viewer.get("/worklist").headers["cache-control"] == "no-store"


def test_no_page_holds_an_inline_script_or_style(scene: Scene, client: Client) -> None:
    import re

    study = scene.study(model=scene.model())
    admin = client("admin")
    for path in (
        "/worklist",
        f"/studies/{study}",
        "/dashboard",
        "/upload",
        "/deliveries",
        "/people",
        "/log",
        "/about",
    ):
        page = admin.get(path).text
        assert not re.search(r"<script(?![^>]*\bsrc=\"/static/)", page), path
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page), path
        assert not re.search(r"(src|href)=\"(https?:)?//", page), f"{path} loads something from elsewhere"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "GZIP", "identity, gzip", "zstd"])
def test_compressed_requests_are_not_taken(client: Client, coding: str) -> None:
    answer = client("reader").put(
        "/api/v1/studies/1/flag", content=b"\x1f\x8b", headers={"Content-Encoding": coding}
    )
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("-1", 400),
        ("+5", 400),
        ("1e3", 400),
        ("0x10", 400),
        ("4294967295", 413),
        ("9" * 25, 400),
        ("70000", 413),
    ],
)
def test_a_length_that_is_none_or_too_much_is_refused_before_the_body(
    client: Client, length: str, status: int
) -> None:
    reader = client("reader")
    headers = {"Content-Length": length}
    assert reader.post("/api/v1/users", content=b"{}", headers=headers).status_code == status


def test_bytes_are_counted_whatever_the_header_says(client: Client) -> None:
    def drip() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    answer = client("admin").post("/api/v1/users", content=drip())  # chunked: no Content-Length
    assert answer.status_code == 413


def test_a_body_that_stops_coming_ends_the_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    async def stuck() -> Any:
        if not pieces:
            await asyncio.sleep(60)
        return pieces.pop()

    pieces = [{"type": "http.request", "body": b"x", "more_body": True}]
    scope = {
        "type": "http", "method": "POST", "path": "/", "scheme": "http", "raw_path": b"/",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"origin", b"http://localhost")],
    }  # fmt: skip
    guard = Guard(app, hosts=frozenset({"localhost"}), stall=0.05)
    with pytest.raises(Exception, match="408"):
        asyncio.run(guard(scope, stuck, lambda message: asyncio.sleep(0)))


@pytest.mark.parametrize("endless", [False, True])
def test_who_is_refused_may_finish_sending_and_has_the_answer_before(
    endless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carina.serving.web.guard.LINGER", 0.2)
    taken, said = 0, []

    async def body() -> Any:
        nonlocal taken
        taken += 1
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b"x" * 1000, "more_body": endless or taken < 50}

    async def send(message: Any) -> None:
        said.append((message["type"], message.get("more_body", False), taken))

    scope = {
        "type": "http", "method": "POST", "path": "/", "scheme": "http", "raw_path": b"/",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"), (b"origin", b"http://localhost"), (b"content-encoding", b"gzip"),
        ],
    }  # fmt: skip
    guard = Guard(_never, hosts=frozenset({"localhost"}))
    asyncio.run(asyncio.wait_for(guard(scope, body, send), 10))
    assert said[:2] == [("http.response.start", False, 0), ("http.response.body", True, 0)]
    assert said[2] == ("http.response.body", False, taken)
    assert taken > 50 if endless else taken == 50


async def _never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("it was refused")


def test_odd_methods_and_endless_addresses_are_refused(client: Client) -> None:
    assert client().request("TRACE", "/worklist").status_code == 405
    assert client().request("PROPFIND", "/worklist").status_code == 405
    assert client("viewer").get("/worklist?q=" + "x" * 9000).status_code == 414


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/....//app.py",
        "/static/%2fetc/passwd", "/static//etc/passwd", "/static/..\\app.py", "/static/%c0%ae%c0%ae/app.py",
        "/studies/../../etc/passwd", "/api/v1/instances/..%2f..%2fetc/file", "/api/v1/instances/1%00/file",
        "/static/.%2e/templates/page.html",
    ],
)  # fmt: skip
def test_no_path_leads_out(client: Client, path: str) -> None:
    answer = client("admin").get(path)
    assert answer.status_code in (404, 405, 422)
    assert "root:" not in answer.text
    assert "create_app" not in answer.text


def test_faults_show_no_traceback_and_nothing_that_was_sent(scene: Scene, client: Client) -> None:
    viewer = client("viewer")
    page = viewer.get("/studies/<script>alert(1)</script>", headers={"Accept": "text/html"})
    assert "<script>alert" not in page.text
    missing = viewer.get("/studies/999999", headers={"Accept": "text/html"})
    assert missing.status_code == 404
    assert "there is no study of this number" in missing.text
    scene.database.close()
    with scene.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE health")
    broken = viewer.get("/worklist", headers={"Accept": "text/html"})
    assert broken.status_code == 503
    assert "the database does not answer" in broken.text
    assert "Traceback" not in broken.text
    assert "health" not in broken.text.lower().replace("/health", "")
