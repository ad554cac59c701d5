"""The page in a real browser: keys, live order, window and level, answers, hostile headers, accessibility."""

from __future__ import annotations

import base64
import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from carina.serving.schema import Event, Instance, PredictionRow, Study
from carina.serving.web.app import create_app
from tests.films import chest, encode
from tests.serving.web.browser import chromium, served
from tests.serving.web.conftest import PASSWORD
from tests.serving.web.scene import NOW, Scene, phantom_file

XSS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<svg/onload=alert(1)>",
    "javascript:alert(1)",
    "'-alert(1)-'",
    "</td></tr></table><script src=//evil.example/x.js></script>",
    "{{ 7*7 }}${7*7}<%= 7*7 %>",
    '"autofocus onfocus=alert(1) x="',
    "<a href='javascript:alert(1)'>x</a>",
    "<!--<script>-->alert(1)",
    "\u202eevil\u202c",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def films(tmp_path: Path) -> bytes:
    return phantom_file(tmp_path, 3)


@pytest.fixture
def open_app(scene: Scene) -> Iterator[FastAPI]:
    """The application with heat maps allowed."""
    made = create_app(
        scene.settings.model_copy(update={"heat_maps": True}),
        scene.database,
        scene.archive,
        clock=scene.clock,
    )
    yield made
    made.state.site.darkroom.close()


@pytest.fixture
def place(open_app: FastAPI) -> Iterator[str]:
    with served(open_app) as address:
        yield address


class Seen:
    """A page, and everything it should not have done."""

    def __init__(self, browser: Any, scheme: str = "dark", **how: Any) -> None:
        self.context = browser.new_context(
            color_scheme=scheme, viewport={"width": 1440, "height": 900}, **how
        )
        self.page = self.context.new_page()
        self.dialogs: list[str] = []
        self.faults: list[str] = []
        self.foreign: list[str] = []
        self.page.on("dialog", lambda each: (self.dialogs.append(each.message), each.dismiss()))
        self.page.on("pageerror", lambda each: self.faults.append(str(each)))
        self.page.on("console", lambda each: self.faults.append(each.text) if each.type == "error" else None)
        self.page.on(
            "request", lambda each: self.foreign.append(each.url) if "localhost" not in each.url else None
        )

    def sign_in(self, place: str, name: str = "reader", path: str = "/worklist") -> Any:
        self.page.goto(f"{place}{path}")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"**{path}")
        return self.page

    def well_behaved(self) -> bool:
        blobs = [url for url in self.foreign if not url.startswith(("blob:", "data:"))]
        return (self.dialogs, self.faults, blobs) == ([], [], [])


@pytest.fixture
def seen(browser: Any) -> Iterator[Seen]:
    made = Seen(browser)
    yield made
    made.context.close()


def until(page: Any, true: str, seconds: float = 20) -> None:
    """Wait for an expression. Playwright's own waiting needs ``eval``, which the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(true):
        assert time.monotonic() < end, f"never came true: {true}"
        time.sleep(0.05)


def order(page: Any) -> list[int]:
    rows = page.locator("tbody tr")
    return [int(rows.nth(place).get_attribute("data-id")) for place in range(rows.count())]


def chosen(page: Any) -> int:
    return int(page.locator("tr[aria-selected=true]").get_attribute("data-id"))


def test_the_list_is_worked_with_the_keyboard_alone(scene: Scene, place: str, seen: Seen) -> None:
    first, second, third = (scene.study(said="soon", p=p) for p in (0.9, 0.8, 0.7))
    page = seen.sign_in(place)
    for key, expected in (
        ("j", first),
        ("j", second),
        ("j", third),
        ("j", third),
        ("k", second),
        ("g", first),
    ):
        page.keyboard.press(key)
        assert chosen(page) == expected
    page.keyboard.press("G")
    page.keyboard.press("f")
    until(page, f"document.querySelector('tbody tr').dataset.id === '{third}'")
    assert order(page) == [third, first, second]
    assert chosen(page) == third, "the selection goes where the study goes"
    page.keyboard.press("r")
    until(page, "document.querySelectorAll('tbody tr').length === 2")
    page.keyboard.press("u")
    until(page, "document.querySelectorAll('tbody tr').length === 3")
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("P00002")
    until(page, "document.querySelectorAll('tbody tr').length === 1")
    assert order(page) == [second]
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/studies/{second}")
    assert seen.well_behaved(), (seen.dialogs, seen.faults, seen.foreign)


def test_the_order_changes_under_the_readers_eyes_and_the_selection_stays(
    scene: Scene, place: str, seen: Seen
) -> None:
    first, second = scene.study(said="soon", p=0.6), scene.study(said="unflagged")
    page = seen.sign_in(place)
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert chosen(page) == second
    loud = scene.study(said="now", p=0.99, minutes=0)
    until(page, "document.querySelectorAll('tbody tr').length === 3")
    assert order(page) == [loud, first, second]
    assert chosen(page) == second
    assert page.locator("#faults").inner_text() == ""
    assert seen.well_behaved(), (seen.dialogs, seen.faults, seen.foreign)


def test_films_are_dropped_onto_the_page_and_an_open_list_changes_by_itself(
    scene: Scene, place: str, seen: Seen, films: bytes
) -> None:
    quiet = scene.study(said="unflagged")
    page = seen.sign_in(place)
    page.keyboard.press("j")
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        for number in range(2):
            archive.writestr(f"in the zip {number}.png", encode(chest(seed=number), "PNG"))
    sent = {"film.dcm": films, "film.png": encode(chest(seed=7), "PNG"), "more.zip": zipped.getvalue()}
    desk = seen.context.new_page()
    desk.goto(f"{place}/upload")
    drop(desk, "#upload", sent)
    until(desk, "document.querySelectorAll('#sent a').length === 4", 60)
    assert desk.locator("#sent tbody tr").count() == 5, "each once, and the zip"
    assert "in the zip 1.png" in desk.locator("#sent").inner_text()
    until(page, "document.querySelectorAll('tbody tr').length === 5", 60)
    assert order(page)[-1] == quiet, "what nobody has looked at stands above what was not flagged"
    assert "film.png" in page.locator("tbody").inner_text(), "a picture without a header is told by its name"
    last = order(page)[3]
    with scene.database.write() as session:
        found = session.get_one(Study, last)
        found.rank, found.weight, found.outcome, found.urgency = 0, -0.9, "flagged", "now"
        session.add(Event(at=scene.now, kind="study", study_id=last))
    until(page, f"document.querySelector('tbody tr').dataset.id === '{last}'", 60)
    assert chosen(page) == quiet, "the selection stays where it was"
    assert seen.well_behaved(), (seen.dialogs, seen.faults, seen.foreign)


def drop(page: Any, where: str, files: dict[str, bytes]) -> None:
    """Let go of files over ``where``, as from a folder of the desktop."""
    dragged = page.evaluate_handle(
        """files => {
          const dragged = new DataTransfer();
          for (const [name, content] of files)
            dragged.items.add(new File([Uint8Array.from(atob(content), (each) => each.charCodeAt(0))], name));
          return dragged;
        }""",
        [[name, base64.b64encode(content).decode()] for name, content in files.items()],
    )
    page.dispatch_event(where, "drop", {"dataTransfer": dragged})


def test_films_may_be_dropped_onto_the_list_itself(
    scene: Scene, place: str, seen: Seen, films: bytes
) -> None:
    scene.study()
    page = seen.sign_in(place)
    drop(page, "body", {"film.dcm": films, "other.png": encode(chest(seed=8), "PNG")})
    until(page, "document.querySelectorAll('.sending #sent a').length === 2", 60)
    assert page.url.endswith("/worklist"), "the browser did not leave for the file"
    until(page, "document.querySelectorAll('#list tbody tr').length === 3", 60)
    page.get_by_role("button", name="Close").click()
    assert page.locator(".sending").count() == 0
    assert seen.well_behaved(), (seen.dialogs, seen.faults, seen.foreign)


def test_a_viewer_who_drops_a_film_is_told_why_nothing_is_sent(
    scene: Scene, place: str, seen: Seen, films: bytes
) -> None:
    page = seen.sign_in(place, "viewer")
    drop(page, "body", {"film.dcm": films})
    until(page, "document.getElementById('said').innerText.includes('viewer')", 20)
    assert page.locator("#sent").count() == 0


def test_the_button_for_the_theme_changes_it_once(place: str, seen: Seen) -> None:
    page = seen.sign_in(place)
    before = page.evaluate("getComputedStyle(document.documentElement).colorScheme")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") != before


def test_the_page_turns_red_by_itself_when_the_model_fails(scene: Scene, place: str, seen: Seen) -> None:
    scene.study()
    page = seen.sign_in(place)
    scene.well(model="the self-test failed")
    scene.study(said=None, minutes=0)
    page.wait_for_selector(".faults", timeout=5000)
    assert "the self-test failed" in page.locator(".faults").inner_text()


def test_window_level_zoom_pan_and_invert_work_on_16_bit_pixels(
    scene: Scene, place: str, seen: Seen, films: bytes
) -> None:
    study = scene.study(film=films, model=scene.model())
    page = seen.sign_in(place, path=f"/studies/{study}")
    page.wait_for_selector("canvas[data-state=shown]")
    canvas = page.locator("#film")
    middle = (
        "(() => { const c = document.getElementById('film'); "
        "return c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data[0]; })()"
    )
    before, gray = canvas.evaluate("each => ({...each.dataset})"), page.evaluate(middle)
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 80, y + 120, steps=4)
    page.mouse.up()
    until(page, f"document.getElementById('film').dataset.level !== '{before['level']}'")
    after = canvas.evaluate("each => ({...each.dataset})")
    assert float(after["level"]) > float(before["level"]), "down is darker"
    assert float(after["window"]) == pytest.approx(float(before["window"]) * 1.377, rel=0.01), "e^(80/250)"
    assert page.evaluate(middle) < gray
    page.keyboard.press("0")
    assert abs(page.evaluate(middle) - gray) <= 1
    page.keyboard.press("i")
    assert abs(page.evaluate(middle) - (255 - gray)) <= 1
    page.keyboard.press("0")
    page.mouse.wheel(0, -500)
    until(page, f"document.getElementById('film').dataset.zoom > {float(before['zoom']) * 2.5}")
    place_before = canvas.get_attribute("data-place")
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(x + 50, y + 30, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert canvas.get_attribute("data-place") != place_before
    assert seen.well_behaved(), (seen.dialogs, seen.faults, seen.foreign)


def test_each_film_of_a_study_is_shown_by_its_number_with_what_was_said_of_it(
    scene: Scene, place: str, seen: Seen, films: bytes
) -> None:
    study = scene.study(film=films, model=scene.model(), p=0.6)
    with scene.database.write() as session:
        first = session.get(Instance, 1)
        said = session.query(PredictionRow).one()
        kept = {name: getattr(first, name) for name in ("series_id", "sha256", "size", "path", "received_at")}
        second = Instance(study_id=study, uid="1.2.9", view="AP", **kept)
        session.add(second)
        session.flush()
        shares = {"TB": 0.123, "Normal": 0.877}
        words = {"outcome": "not flagged: read as usual", "because": "below", "p_disease": 0.123}
        session.add(PredictionRow(instance_id=second.id, at=said.at, probabilities=shares, **words))
    page = seen.sign_in(place, path=f"/studies/{study}")
    page.wait_for_selector("canvas[data-state=shown]")
    assert page.locator("#film-wait").is_hidden()
    assert page.locator(".shares:visible caption").inner_text() == "PA 1: probabilities"
    page.keyboard.press("2")
    page.wait_for_selector("canvas[data-instance='2'][data-state=shown]")
    assert page.locator(".shares:visible caption").inner_text() == "AP 2: probabilities"
    assert page.locator(".film-tab[aria-pressed=true]").inner_text() == "AP 2"
    assert seen.well_behaved(), (seen.dialogs, seen.faults, seen.foreign)


def test_moments_are_written_in_the_zone_of_the_browser(
    browser: Any, scene: Scene, place: str, films: bytes
) -> None:
    study = scene.study(film=films)
    far = Seen(browser, timezone_id="Asia/Tokyo")
    page = far.sign_in(place, path=f"/studies/{study}")
    assert "2026-11-23 16:55" in page.locator(".files").inner_text()
    assert "times are Asia/Tokyo" in page.locator("footer").inner_text()
    far.context.close()


def test_the_heat_map_is_off_until_asked_for(scene: Scene, place: str, seen: Seen, films: bytes) -> None:
    study = scene.study(film=films, model=scene.model())
    page = seen.sign_in(place, path=f"/studies/{study}")
    page.wait_for_selector("canvas[data-state=shown]")
    assert page.locator("#heat-map").is_hidden()
    page.keyboard.press("h")
    until(page, "document.getElementById('heat-map').naturalWidth > 400")
    assert page.locator("#film").is_hidden()
    page.keyboard.press("h")
    assert page.locator("#film").is_visible()
    assert seen.well_behaved(), (seen.dialogs, seen.faults, seen.foreign)


def test_disagreeing_asks_what_it_was(scene: Scene, place: str, seen: Seen) -> None:
    study = scene.study(said="soon", p=0.6, model=scene.model())
    page = seen.sign_in(place, path=f"/studies/{study}")
    page.keyboard.press("d")
    page.get_by_label("no finding").check()
    page.get_by_label("Comment").fill("an old scar")
    page.get_by_role("button", name="Keep").click()
    page.wait_for_url("**/worklist")
    page.goto(f"{place}/studies/{study}")
    assert "disagree" in page.locator(".heard").inner_text()
    assert "an old scar" in page.locator(".heard").inner_text()


def test_what_it_was_is_said_with_the_keyboard_alone(scene: Scene, place: str, seen: Seen) -> None:
    study = scene.study(said="soon", p=0.6, model=scene.model())
    page = seen.sign_in(place, path=f"/studies/{study}")
    page.keyboard.press("d")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    picked = page.evaluate("document.querySelector('#what input[name=finding]:checked').value")
    assert picked == page.evaluate("document.querySelectorAll('#what input[name=finding]')[2].value")
    page.keyboard.press("a")  # a slip: it answers nothing
    page.keyboard.press("Enter")
    page.wait_for_url("**/worklist")
    page.goto(f"{place}/studies/{study}")
    heard = page.locator(".heard").inner_text()
    assert heard.startswith("disagree")
    assert picked in heard


def test_markup_in_any_header_is_text(scene: Scene, place: str, seen: Seen) -> None:
    every = [
        "patient_name", "patient_id", "issuer", "birth_date", "sex", "accession", "description", "study_date",
        "study_time", "referring", "institution", "study_id",
    ]  # fmt: skip
    numbers = []
    for number, payload in enumerate(XSS):
        facts = dict.fromkeys(every, payload)
        numbers.append(
            scene.study(
                said="now",
                p=0.9 - number / 100,
                finding=payload,
                because=payload,
                **facts,
                flagged_by=payload,
            )
        )
    with scene.database.write() as session:
        from sqlalchemy import update

        from carina.serving.schema import Instance, Series

        session.execute(update(Series).values(modality=XSS[0], description=XSS[1], body_part=XSS[2]))
        session.execute(
            update(Instance).values(view=XSS[0], name=XSS[1], sender=XSS[4], sop_class=XSS[2], problem=XSS[5])
        )
    page = seen.sign_in(place, "admin")
    assert XSS[0] in page.locator("tbody").inner_text()
    for number in numbers:
        page.goto(f"{place}/studies/{number}")
        assert page.locator("h1").count() == 1
        assert page.locator("main script, main iframe, main object").count() == 0
    for path in (
        "/worklist?q=<script>alert(1)</script>",
        "/log",
        "/dashboard",
        "/studies/0",
        "/nothing<script>",
    ):
        page.goto(place + path)
    assert seen.dialogs == []
    assert not [url for url in seen.foreign if "evil" in url]
    assert not [fault for fault in seen.faults if "Content Security Policy" in fault], (
        "nothing needed stopping"
    )


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_no_fault_on_any_page(
    scene: Scene, place: str, browser: Any, scheme: str, films: bytes
) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    from axe_playwright_python.sync_playwright import Axe

    from carina.serving.schema import Delivery

    study = scene.study(film=films, model=scene.model(), minutes=75)
    for said in ("now", "unread", "unflagged", None):
        scene.study(said=said, minutes=3)
    scene.study(patient_id="P00001", read_at=NOW, read_by="reader")
    with scene.database.write() as session:
        session.add(
            Delivery(
                study_id=study, version=1, destination="pacs", kind="sr", uid="2.25.1", state="dead",
                attempts=12, created_at=NOW, not_before=NOW, error="connection refused",
            )
        )  # fmt: skip
    scene.well(store="the disk is nearly full")
    seen = Seen(browser, scheme)
    seen.page.goto(f"{place}/sign-in")
    faults = {"/sign-in": Axe().run(seen.page).response["violations"]}
    seen.sign_in(place, "admin")
    for path in (
        "/worklist",
        "/worklist?view=read",
        f"/studies/{study}",
        "/dashboard",
        "/upload",
        "/deliveries",
        "/people",
        "/roll-out",
        "/log",
        "/about",
    ):
        seen.page.goto(place + path)
        if "studies" in path:
            seen.page.wait_for_selector("canvas[data-state=shown]")
        faults[path] = Axe().run(seen.page).response["violations"]
    seen.context.close()
    told = {
        path: [(each["id"], [node["target"] for node in each["nodes"]][:3]) for each in found]
        for path, found in faults.items()
        if found
    }
    assert told == {}, told


def test_colour_never_stands_alone(scene: Scene, place: str, seen: Seen) -> None:
    for said in ("now", "soon", "unread", "unflagged"):
        scene.study(said=said)
    page = seen.sign_in(place)
    cells = page.locator("td.urgency")
    told = [cells.nth(place).inner_text().split("\n")[0] for place in range(cells.count())]
    assert told == ["▲▲ now", "▲ soon", "? not analysed", "– not flagged"]
