"""The worklist as people and programs see it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from carina.serving import auditlog
from carina.serving.database import Database
from carina.serving.intake import OTHER_PATIENT
from carina.serving.schema import Health, Instance, Job
from carina.serving.settings import Settings
from carina.serving.web.site import unproven
from tests.serving.web.conftest import department
from tests.serving.web.scene import Scene

Client = Callable[..., TestClient]


@pytest.fixture
def scene(database: Database, settings: Settings) -> Scene:
    """The department on SQLite and on PostgreSQL."""
    return department(database, settings)


def places(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'data-id="(\d+)"', page)]


def test_what_needs_a_reader_stands_between_flagged_and_unflagged(scene: Scene, client: Client) -> None:
    unflagged = scene.study(said="unflagged", minutes=90)
    soon = scene.study(said="soon", p=0.6)
    unread = scene.study(said="unread", minutes=1)
    now = scene.study(said="now", p=0.5, minutes=1)
    louder = scene.study(said="soon", p=0.9, minutes=1)
    page = client("viewer").get("/worklist")
    assert page.status_code == 200
    assert places(page.text) == [now, louder, soon, unread, unflagged]
    rows = client("viewer").get("/api/v1/worklist").json()["rows"]
    assert [row["id"] for row in rows] == [now, louder, soon, unread, unflagged]
    assert [row["urgency"] for row in rows] == ["now", "soon", "soon", "not analysed", "not flagged"]


def test_a_row_says_why_how_long_who_and_what(scene: Scene, client: Client) -> None:
    scene.study(
        said="now", p=0.82, minutes=75, finding="TB", patient_name="Yamada^Tarou=山田^太郎",
        description="Chest PA", accession="A-77", age=67.0, sex="M",
    )  # fmt: skip
    page = client("viewer").get("/worklist").text
    for expected in (
        "now",
        "TB",
        "0.820",
        "threshold </span>0.310",
        "1 h 15",
        "Yamada, Tarou · 山田 太郎",
        "67 y, M",
        "A-77",
    ):
        assert expected in page
    assert "overdue" in page, "15 minutes are the cap of what is flagged now"
    row = client("viewer").get("/api/v1/worklist").json()["rows"][0]
    assert (row["waiting"], row["overdue"]) == (75 * 60, True)


def test_nothing_on_any_page_says_that_a_patient_is_well(scene: Scene, client: Client) -> None:
    study = scene.study(said="unflagged", model=scene.model())
    admin = client("admin")
    for path in ("/worklist", f"/studies/{study}", "/dashboard", "/about", "/upload"):
        page = admin.get(path).text.lower()
        assert not re.search(r"\b(normal|negative|healthy)\b", page), path
        assert "not a medical device" in page
        assert "every study must be read by a qualified person" in page


def test_a_study_that_is_read_leaves_the_open_list_and_can_be_put_back(scene: Scene, client: Client) -> None:
    study = scene.study()
    reader = client("reader")
    assert reader.post(f"/api/v1/studies/{study}/feedback", json={"kind": "read"}).status_code == 201
    assert places(reader.get("/worklist").text) == []
    assert places(reader.get("/worklist?view=read").text) == [study]
    assert "read by reader" in reader.get("/worklist?view=read").text
    assert reader.delete(f"/api/v1/studies/{study}/read").json()["read_at"] is None
    assert places(reader.get("/worklist").text) == [study]


def test_a_study_that_is_asked_for_stands_first_until_that_is_taken_back(
    scene: Scene, client: Client
) -> None:
    loud = scene.study(said="now", p=0.99)
    quiet = scene.study(said="unflagged", p=0.02)
    reader = client("reader")
    row = reader.put(f"/api/v1/studies/{quiet}/flag", json={"flagged": True}).json()
    assert (row["flagged_by"], row["urgency"]) == ("reader", "now")
    assert places(reader.get("/worklist").text) == [quiet, loud]
    reader.put(f"/api/v1/studies/{quiet}/flag", json={"flagged": False})
    assert places(reader.get("/worklist").text) == [loud, quiet]


def test_the_films_of_a_study_that_is_asked_for_are_scored_before_others(
    scene: Scene, client: Client
) -> None:
    study = scene.study(said=None)
    with scene.database.write() as session:
        film = session.scalars(select(Instance).where(Instance.study_id == study)).one()
        session.add(
            Job(kind="score", instance_id=film.id, created_at=film.received_at, not_before=film.received_at)
        )

    def priorities() -> list[int]:
        with scene.database.read() as session:
            return list(session.scalars(select(Job.priority)))

    reader = client("reader")
    assert priorities() == [0]
    reader.put(f"/api/v1/studies/{study}/flag", json={"flagged": True})
    assert priorities() == [-1]
    reader.put(f"/api/v1/studies/{study}/flag", json={"flagged": False})
    assert priorities() == [0]


def test_search_finds_names_and_numbers_and_takes_signs_as_letters(scene: Scene, client: Client) -> None:
    ada = scene.study(patient_name="Okafor^Adaeze", patient_id="77_1", accession="ACC-1")
    bob = scene.study(patient_name="Novák^Jiří", patient_id="7781", accession="100%")
    viewer = client("viewer")

    def found(words: str) -> list[int]:
        return [row["id"] for row in viewer.get("/api/v1/worklist", params={"q": words}).json()["rows"]]

    assert found("okafor") == [ada]
    assert found("acc-1") == found("Acc-1") == [ada]
    assert found("adaeze ACC-1") == [ada]
    assert found("acc-1") == [ada], "whoever types small letters"
    assert found("77_1") == [ada], "an underscore is no wildcard"
    assert found("100%") == [bob]
    assert found("Jiří") == [bob]
    assert found("' OR 1=1 --") == []


def test_filters_count_and_pages_hold_together(scene: Scene, client: Client) -> None:
    for _ in range(7):
        scene.study(said="soon")
    for _ in range(3):
        scene.study(said="unread")
    viewer = client("viewer")
    page = viewer.get("/api/v1/worklist", params={"limit": 4, "offset": 4}).json()
    assert page["total"] == 10
    assert page["counts"] == {"now": 0, "soon": 7, "not analysed": 3, "not flagged": 0}
    assert len(page["rows"]) == 4
    only = viewer.get("/api/v1/worklist", params={"urgency": "not-analysed"}).json()
    assert (only["total"], len(only["rows"])) == (3, 3)
    assert only["counts"]["soon"] == 7, "the other counts stay, so that one can go there"
    assert viewer.get("/api/v1/worklist", params={"urgency": "worst"}).status_code == 422


def test_the_page_is_red_when_a_part_is_not_well_or_silent(scene: Scene, client: Client) -> None:
    viewer = client("viewer")
    assert "Not all films are analysed" not in viewer.get("/worklist").text
    scene.well(model="golden film 2 scored 0.4 apart: not ready")
    page = viewer.get("/worklist").text
    assert 'role="alert"' in page
    assert "golden film 2 scored 0.4 apart" in page
    scene.well()
    scene.now += timedelta(minutes=5)
    page = viewer.get("/worklist").text
    assert "nothing works on the films, nothing heard since 08:00 UTC" in page
    assert viewer.get("/api/v1/status").json()["well"] is False
    assert viewer.get("/ready").status_code == 503
    assert viewer.get("/health").status_code == 200


def test_a_part_that_spoke_by_a_clock_that_was_set_back_is_not_taken_for_alive(
    scene: Scene, client: Client
) -> None:
    scene.well()
    scene.now -= timedelta(hours=1)
    viewer = client("viewer")
    assert viewer.get("/ready").text == "not ready: model, store, worker\n"
    scene.well()
    assert viewer.get("/ready").text == "ready\n"


def test_a_destination_that_is_away_is_told_and_films_are_still_taken(scene: Scene, client: Client) -> None:
    with scene.database.write() as session:
        session.add(Health(part="destination pacs", at=scene.now, well=False, says="it refuses results"))
    viewer = client("viewer")
    assert "it refuses results" in viewer.get("/worklist").text
    assert viewer.get("/api/v1/status").json()["well"] is False
    assert 'carina_well{part="destination"} 0.0' in viewer.get("/metrics").text
    assert viewer.get("/ready").status_code == 200
    scene.well(store="the disk is full")
    assert viewer.get("/ready").text == "not ready: store\n"


def test_the_step_of_the_roll_out_is_on_every_page(scene: Scene, client: Client) -> None:
    from carina.serving.schema import Step

    study = scene.study()
    with scene.database.write() as session:
        session.add(Step(at=scene.now, by="admin", step="prioritise", evidence={}))
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
        assert "<b>prioritise</b>" in admin.get(path).text, path


def test_what_readers_say_is_kept_with_what_carina_had_said(scene: Scene, client: Client) -> None:
    study = scene.study(said="soon", p=0.6)
    reader = client("reader")
    said = {"kind": "disagree", "disease": False, "comment": "an old scar"}
    assert reader.post(f"/api/v1/studies/{study}/feedback", json=said).status_code == 201
    whole = reader.get(f"/api/v1/studies/{study}").json()
    assert whole["read_by"] == "reader"
    kept = whole["feedback"][0]
    assert (kept["kind"], kept["disease"], kept["comment"]) == ("disagree", False, "an old scar")
    from sqlalchemy import select

    from carina.serving.schema import Feedback

    with scene.database.read() as session:
        row = session.scalars(select(Feedback)).one()
    assert (row.outcome, row.p_disease, row.reader) == ("flagged", 0.6, "reader")


def test_agreeing_says_by_itself_whether_there_is_disease(scene: Scene, client: Client) -> None:
    reader = client("reader")
    said = {}
    for outcome in ("soon", "unflagged"):
        for kind in ("agree", "disagree"):
            study = scene.study(said=outcome)
            answer = reader.post(f"/api/v1/studies/{study}/feedback", json={"kind": kind}).json()
            said[(outcome, kind)] = answer["disease"]
    assert said == {
        ("soon", "agree"): True,
        ("soon", "disagree"): False,
        ("unflagged", "agree"): False,
        ("unflagged", "disagree"): True,
    }


def test_earlier_studies_are_those_of_the_same_id_of_the_same_issuer(scene: Scene, client: Client) -> None:
    here = scene.study(patient_id="4711", issuer="NORTH")
    earlier = scene.study(patient_id="4711", issuer="NORTH", study_date="20250101")
    scene.study(patient_id="4711", issuer="SOUTH")
    scene.study(patient_id="4711", issuer=None)
    scene.study(patient_id=None, issuer=None)
    viewer = client("viewer")
    assert [each["id"] for each in viewer.get(f"/api/v1/studies/{here}").json()["priors"]] == [earlier]
    assert f"/studies/{earlier}" in viewer.get(f"/studies/{here}").text


def test_the_study_says_what_was_shown_at_its_threshold(scene: Scene, client: Client) -> None:
    study = scene.study(said="soon", p=0.6, model=scene.model())
    page = " ".join(client("viewer").get(f"/studies/{study}").text.split())
    assert "388 of 398 diseased people of “north” were found: at least 95.6 % with 95 % confidence" in page
    assert "none of these" in page


def test_a_model_without_a_threshold_for_this_site_is_told_over_the_list(
    scene: Scene, client: Client
) -> None:
    assert "No threshold was shown" not in client("viewer").get("/worklist").text, "no model is on duty"
    scene.study(said="soon", p=0.6, model=scene.model())
    assert "No threshold was shown to hold at this site" in client("viewer").get("/worklist").text
    shown = scene.settings.model_copy(update={"site": "north"})
    with scene.database.read() as session:
        assert not unproven(session, shown)


def test_files_that_contradict_each_other_are_told_before_the_film(scene: Scene, client: Client) -> None:
    study = scene.study(said="soon", p=0.6, conflict=True)
    with scene.database.write() as session:
        (film,) = session.scalars(select(Instance).where(Instance.study_id == study))
        film.problem = OTHER_PATIENT
    for twice in (False, True):  # only what happened is said
        with scene.database.write() as session:
            session.get_one(Instance, film.id).conflict = twice
        page = client("viewer").get(f"/studies/{study}").text
        told = page[page.index('class="warnings"') : page.index('class="viewer"')]
        assert ("Two files with other bytes came under one UID (film 1)" in told) is twice
        assert "Film 1 names another patient than the rest of this study" in told
    assert "films contradict each other" in client("viewer").get("/worklist").text


def test_the_log_is_in_words(scene: Scene, client: Client) -> None:
    detail = {"met": True, "demands": [{"asks": "days", "met": False}, {"asks": "films"}], "model": None}
    with scene.database.write() as session:
        auditlog.append(session, "ada", "step taken", "site", detail, now=scene.now)
    page = client("admin").get("/log").text
    assert "met yes, demands asks days, met no; asks films<" in page


def test_moments_are_marked_for_the_zone_of_the_browser(scene: Scene, client: Client) -> None:
    scene.study()
    page = client("viewer").get("/studies/1").text
    assert '<time datetime="2026-11-23T07:55:00Z">2026-11-23 07:55</time>' in page


def test_long_lists_are_counted_once_for_all_who_ask_within_a_moment(
    scene: Scene, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carina.serving.web.listing.MANY", 2)
    for _ in range(3):
        scene.study(said="soon")
    viewer = client("viewer")
    app: Any = viewer.app
    app.state.site.counted.seconds = 3600.0

    def total() -> int:
        return int(viewer.get("/api/v1/worklist").json()["total"])

    assert total() == 3
    scene.study(said="soon")
    assert total() == 3, "many, and counted a moment ago"
    assert viewer.get("/api/v1/worklist", params={"q": "nobody"}).json()["total"] == 0
    app.state.site.counted.seconds = 0.0
    assert total() == 4


def test_the_roll_out_page_asks_for_what_the_next_step_needs_and_takes_it(
    scene: Scene, client: Client
) -> None:
    viewer, admin = client("viewer"), client("admin")
    assert "take-step" not in viewer.get("/roll-out").text
    page = admin.get("/roll-out").text
    for name in ("diseased", "found", "report", "approved_by"):
        assert f'name="{name}"' in page
    assert "--evidence" not in page, "a page has forms, a command line has options"
    stated = {"diseased": "120", "found": "100", "report": "audit.html", "approved_by": "Ada"}
    refused = admin.post("/api/v1/step", json={"step": "silent", "evidence": stated})
    assert (refused.status_code, "100 of 120 found: at least 7" in refused.text) == (409, True)
    stated["found"] = "118"
    assert admin.post("/api/v1/step", json={"step": "silent", "evidence": stated}).json()["step"] == "silent"
    page = admin.get("/roll-out").text
    assert "by admin" in page
    assert 'id="step-down"' in page
    assert "14 days on the step silent" in page
