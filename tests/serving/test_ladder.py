"""The ladder: one step at a time, each by its evidence, down at any time, all of it in the audit log."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from carina.errors import StepError
from carina.serving import auditlog, feedback, health, ladder
from carina.serving.database import Database
from carina.serving.schema import AuditEntry, Health, Step
from carina.serving.settings import Ladder, RollOut, Settings
from tests.serving.results.ward import MANIFEST, NOW, Shelf, admit, model

AUDIT = {"diseased": "120", "found": "116", "report": "audit.html", "approved_by": "Dr Okonkwo"}
SIGNED = {"approved_by": "Dr Okonkwo"}


@pytest.fixture
def site(settings: Settings) -> Settings:
    small = RollOut(silent_studies=3, prioritise_studies=3, least_npv=0.9)
    return settings.model_copy(update={"site": "ward 7", "roll_out": small})


def climb(session: Session, site: Settings, shelf: Shelf, to: Ladder, now: datetime = NOW) -> datetime:
    """Take every step up to ``to`` with what it asks for; the time it is then."""
    duty = model(session)
    ladder.take(session, site, Ladder.SILENT, "ada", AUDIT, now)
    if to in (Ladder.PRIORITISE, Ladder.RULE_OUT):
        for each in ("now", "usual", "usual", "usual"):
            admit(session, shelf, each, duty=duty, at=now + timedelta(days=1))
        now += timedelta(days=15)
        ladder.take(session, site, Ladder.PRIORITISE, "ada", SIGNED, now)
    if to == Ladder.RULE_OUT:
        for _ in range(40):
            study = admit(session, shelf, "usual", duty=duty, at=now + timedelta(days=1), second_reading=True)
            feedback.record(session, study, "ada", "agree", now)
        now += timedelta(days=29)
        ladder.take(session, site, Ladder.RULE_OUT, "ada", SIGNED, now)
    return now


def test_a_site_begins_with_the_audit(database: Database) -> None:
    with database.read() as session:
        assert ladder.current(session) == Ladder.AUDIT


@pytest.mark.parametrize("to", [Ladder.SILENT, Ladder.PRIORITISE, Ladder.RULE_OUT])
def test_each_step_is_reached_with_what_it_asks_for(
    database: Database, site: Settings, shelf: Shelf, to: Ladder
) -> None:
    with database.write() as session:
        climb(session, site, shelf, to)
        assert ladder.current(session) == to
        newest = session.query(Step).order_by(Step.id.desc()).first()
        assert newest is not None
        assert newest.evidence["stated"]["approved_by"] == "Dr Okonkwo"
        assert newest.evidence["demands"]
        assert all(each["met"] for each in newest.evidence["demands"])
        assert session.query(AuditEntry).count() == session.query(Step).count()
        assert auditlog.verify(session).holds


def test_no_step_is_left_out(sqlite: Database, site: Settings) -> None:
    with sqlite.write() as session, pytest.raises(StepError, match="comes after silent"):
        ladder.take(session, site, Ladder.PRIORITISE, "ada", SIGNED, NOW)


@pytest.mark.parametrize(
    ("stated", "missing"),
    [
        ({}, "not stated"),
        ({**AUDIT, "found": "90"}, "at least 67.6 %"),
        ({**AUDIT, "found": "130"}, "not stated"),
        ({**AUDIT, "report": " "}, "where the audit is written down"),
        ({**AUDIT, "approved_by": ""}, "who answers for it"),
    ],
)
def test_the_silent_step_asks_for_an_audit(
    sqlite: Database, site: Settings, stated: dict[str, str], missing: str
) -> None:
    with sqlite.write() as session, pytest.raises(StepError, match=missing):
        ladder.take(session, site, Ladder.SILENT, "ada", stated, NOW)


def test_prioritising_asks_for_days_and_studies_in_silence_and_for_quiet(
    sqlite: Database, site: Settings, shelf: Shelf
) -> None:
    with sqlite.write() as session:
        climb(session, site, shelf, Ladder.SILENT)
        asked = ladder.demands(session, site, Ladder.PRIORITISE, {}, NOW + timedelta(days=3))
    assert [each.met for each in asked] == [False, False, False, True, True, False]
    assert asked[0].found == "3.0 days"


def test_a_site_that_asks_for_no_days_in_silence_still_looks_at_what_was_analysed(
    sqlite: Database, site: Settings, shelf: Shelf
) -> None:
    at_once = site.model_copy(update={"roll_out": RollOut(silent_days=0, silent_studies=3)})
    with sqlite.write() as session:
        duty = model(session)
        ladder.take(session, at_once, Ladder.SILENT, "ada", AUDIT, NOW)
        for each in ("now", "usual", "usual", "usual"):
            admit(session, shelf, each, duty=duty, at=NOW + timedelta(minutes=1))
        ladder.take(session, at_once, Ladder.PRIORITISE, "ada", SIGNED, NOW + timedelta(hours=1))
        assert ladder.current(session) == Ladder.PRIORITISE


def test_a_suggestion_asks_for_an_operating_point_of_this_very_site(
    sqlite: Database, site: Settings, shelf: Shelf
) -> None:
    elsewhere = site.model_copy(update={"site": "ward 8"})
    with sqlite.write() as session:
        climb(session, site, shelf, Ladder.PRIORITISE)
        shown = [ladder.demands(session, each, Ladder.RULE_OUT, {}, NOW)[0] for each in (site, elsewhere)]
    assert [each.met for each in shown] == [True, False]
    assert shown[0].found == "at least 97.9 %, shown on 300 people"
    assert "none for 'ward 8'" in shown[1].found


def test_the_way_down_is_always_open_and_asks_only_why(
    database: Database, site: Settings, shelf: Shelf
) -> None:
    with database.write() as session:
        now = climb(session, site, shelf, Ladder.PRIORITISE)
        with pytest.raises(StepError, match="say why"):
            ladder.take(session, site, Ladder.AUDIT, "ada", {}, now)
        ladder.take(session, site, Ladder.AUDIT, "ada", {"reason": "new scanner"}, now)
        assert ladder.current(session) == Ladder.AUDIT


def watched(session: Session, site: Settings, now: datetime) -> None:
    """What housekeeping does now and then."""
    alarms = ladder.alarms(session, site, now)
    health.say(session, ladder.WATCH, not alarms, alarms[0] if alarms else "no alarm", now)
    session.flush()


def test_missed_cases_take_the_suggestion_back(sqlite: Database, site: Settings, shelf: Shelf) -> None:
    with sqlite.write() as session:
        now = climb(session, site, shelf, Ladder.RULE_OUT)
        assert ladder.deciding(session) == Ladder.PRIORITISE  # nothing has been watched yet
        watched(session, site, now)
        assert ladder.deciding(session) == Ladder.RULE_OUT
        duty = ladder.monitoring.on_duty(session)
        for number in range(6):
            study = admit(session, shelf, "usual", duty=duty, at=now, accession=f"M{number}")
            feedback.add_reports(session, [feedback.ReportRow(True, study_uid=study.uid)], now)
        watched(session, site, now)
        assert ladder.deciding(session) == Ladder.PRIORITISE
        assert ladder.current(session) == Ladder.RULE_OUT
        says = session.get_one(Health, ladder.WATCH).says
    assert "diseased studies were not flagged" in says


def test_below_its_step_nothing_is_suggested(sqlite: Database, site: Settings, shelf: Shelf) -> None:
    with sqlite.write() as session:
        climb(session, site, shelf, Ladder.PRIORITISE)
        watched(session, site, NOW)
        assert ladder.deciding(session) == Ladder.PRIORITISE
        assert MANIFEST["sections"]["operating_points"]
