"""In a real browser: no tag of a film runs, no other page changes anything, and no frame holds ours."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select

from carina.serving import people
from carina.serving.schema import Feedback, Study, User
from tests.security.elements import hostile_film
from tests.security.figures import Tell
from tests.security.house import House, until
from tests.serving.web.browser import chromium

WORDS = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(2)>", '"><svg onload=alert(3)>',
    "'onmouseover='alert(4)", "</title><script>alert(5)//", "<iframe srcdoc=x>", "{{7*7}}${7*7}",
    "javascript:alert(6)", "<style>*{display:none}", "<base href=//evil>", "&#60;script&#62;",
    "<meta http-equiv=refresh>", "\u202e<b>", "%3Cscript%3E", "<a href=data:,x>",
)  # fmt: skip
MARKUP = "main script, main iframe, main svg[onload], main base, main style"
HANDLERS = "document.querySelectorAll('[onerror],[onload],[onmouseover]').length"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


class Seen:
    """A page of somebody who is signed in, and everything that it should not have done."""

    def __init__(self, browser: Any, house: House, role: str) -> None:
        self.context = browser.new_context()
        with house.database.write() as session:
            signed = people.begin_session(
                session, people.find_user(session, role), datetime.now(UTC), hours=1
            )
        cookie = {
            "name": "carina",
            "value": signed.token,
            "url": house.address,
            "sameSite": "Strict",
            "httpOnly": True,
        }
        self.context.add_cookies([cookie])
        self.dialogs: list[str] = []
        self.blocked: list[str] = []
        self.page = self.context.new_page()
        self.page.on("dialog", lambda each: (self.dialogs.append(each.message), each.dismiss()))
        self.page.on(
            "console",
            lambda each: self.blocked.append(each.text) if "Content Security" in each.text else None,
        )


@pytest.fixture
def seen(browser: Any, house: House) -> Iterator[Seen]:
    made = Seen(browser, house, "admin")
    yield made
    made.context.close()


def test_no_text_of_a_film_runs_on_any_page(house: House, seen: Seen, tell: Tell, soak: bool) -> None:
    films, studies, elements = (len(WORDS) if soak else 4), [], 0
    with house.client() as reader:
        for number in range(films):
            words = WORDS[number % len(WORDS) :] + WORDS[: number % len(WORDS)]
            content, elements = hostile_film(words, number)
            answer = reader.post("/api/v1/uploads", params={"name": f"{WORDS[number]}.dcm"}, content=content)
            assert answer.status_code == 201, answer.text
            studies.append(answer.json()["files"][0]["study"])
        until(house.at_rest)
    paths = [f"/studies/{number}" for number in studies]
    paths += [
        "/worklist",
        "/worklist?view=read",
        "/dashboard",
        "/deliveries",
        "/log",
        "/upload",
        "/about",
        "/people",
    ]
    paths += [f"/worklist?q={word}" for word in WORDS[:3]]
    for path in paths:
        seen.page.goto(house.address + path)
        assert seen.page.locator(MARKUP).count() == 0, path
        assert seen.page.evaluate(HANDLERS) == 0, path
    seen.page.goto(house.address + "/worklist")
    assert "alert(" in seen.page.locator("tbody").inner_text(), "it is shown, as text"
    tell(
        "web",
        f"XSS through {elements:,} text elements of {films} films on {len(paths)} pages in Chromium: "
        f"{len(seen.dialogs)} dialogs, {len(seen.blocked)} scripts that the policy had to stop",
    )
    assert seen.dialogs == []
    assert seen.blocked == []


ATTACK = """<!doctype html><title>prize</title><iframe id=frame src="{there}/worklist"></iframe>
<form id=form method=post enctype=text/plain action="{there}/api/v1/users" target=sink>
<input name='{{"name":"mallory","password":"three blind mice run","role":"admin","x":"' value='"}}'></form>
<form id=read method=post action="{there}/api/v1/studies/1/feedback" target=sink></form>
<form id=in method=post action="{there}/sign-in" target=sink><input name=name value=admin></form>
<iframe name=sink></iframe>
<img src="{there}/api/v1/session"><script>
const body = JSON.stringify({{name: "mallory", password: "three blind mice run", role: "admin"}});
const tries = [["POST", "/api/v1/users"], ["POST", "/api/v1/studies/1/feedback"],
  ["PUT", "/api/v1/studies/1/flag"],
  ["DELETE", "/api/v1/session"], ["POST", "/api/v1/keys"], ["POST", "/api/v1/uploads"]];
const done = tries.flatMap(([method, path]) => ["cors", "no-cors"].map(mode =>
  fetch("{there}" + path, {{method, mode, credentials: "include",
    body: method === "DELETE" ? undefined : body,
    headers: mode === "cors" ? {{"Content-Type": "application/json"}} : {{}}}})
  .then(answer => answer.text()).then(text => text.length, () => -1)));
for (const id of ["form", "read", "in"]) document.getElementById(id).submit();
Promise.all(done).then(all => {{ window.got = all; }});
</script>"""


@pytest.fixture
def elsewhere(house: House) -> Iterator[int]:
    """A page of somebody else, on another port of this machine."""
    page = ATTACK.format(there=house.address).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_somebody_else_changes_nothing_reads_nothing_and_frames_nothing(
    house: House, seen: Seen, tell: Tell, elsewhere: int, host: str
) -> None:
    def state() -> tuple[object, ...]:
        with house.database.read() as session:
            return (
                session.scalar(select(func.count(User.id))),
                session.scalar(select(func.count(Feedback.id))),
                session.scalar(select(func.count()).where(Study.read_at.is_not(None))),
                session.scalar(select(func.count()).where(Study.flagged_by.is_not(None))),
                session.scalar(select(func.count(Study.id))),
            )

    before = state()
    seen.page.goto(f"http://{host}:{elsewhere}/")
    until(lambda: seen.page.evaluate("window.got !== undefined"), 30)
    got = seen.page.evaluate("window.got")
    framed = [each.url for each in seen.page.frames if each.url.startswith(house.address)]
    text = [each.content() for each in seen.page.frames if each is not seen.page.main_frame]
    tell(
        "web",
        f"CSRF and clickjacking by a page at {host}: {len(got) + 3} requests with the victim's cookie "
        f"changed nothing and read {sum(length > 0 for length in got)} answers; {len(framed)} frames opened",
    )
    assert state() == before
    assert all(length <= 0 for length in got)
    assert not any("Worklist" in each for each in text)
    seen.page.goto(house.address + "/worklist")
    assert seen.page.url.endswith("/worklist"), "the victim is still signed in"
