"""What the films of a study say together, when it is complete, when it rises."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from carina.scoring.triage import Outcome
from carina.serving import studies
from carina.serving.database import Database
from carina.serving.schema import Event, Instance, PredictionRow, Rank, Study, StudyState
from carina.serving.settings import Settings
from tests.serving.worklists import NOON, add_film, add_study

NOW = {"outcome": "flagged", "urgency": "now", "finding": "TB", "p_disease": 0.7}
SOON = {"outcome": "flagged", "urgency": "soon", "finding": "COVID-19", "p_disease": 0.9}
BROKEN = {"outcome": str(Outcome.NOT_ANALYSED), "code": "truncated"}
LATERAL = {"outcome": str(Outcome.NOT_ANALYSED), "code": "view"}
UNFLAGGED = {"outcome": str(Outcome.NOT_FLAGGED), "p_disease": 0.1}
CLEAR = {"outcome": str(Outcome.NOT_FLAGGED), "p_disease": 0.01, "suggestion": "likely clear"}


def say(session: Session, instance: Instance, facts: dict[str, Any]) -> None:
    session.add(PredictionRow(instance_id=instance.id, at=NOON, because="because of a test", **facts))
    session.flush()


def decided(database: Database, settings: Settings, *films: dict[str, Any] | None, **facts: Any) -> Study:
    """A study of films of which this was said; None: nothing yet."""
    with database.write() as session:
        study = add_study(session, films=0, **facts)
        for each in films:
            film = add_film(session, study)
            if each is not None:
                say(session, film, each)
        studies.decide(session, study, NOON, settings)
        return study


@pytest.mark.parametrize(
    ("films", "outcome", "rank"),
    [
        ((UNFLAGGED, SOON, NOW), "flagged", Rank.NOW),
        ((UNFLAGGED, SOON), "flagged", Rank.SOON),
        ((SOON, BROKEN), "flagged", Rank.SOON),
        ((UNFLAGGED, BROKEN), Outcome.NOT_ANALYSED, Rank.NOT_ANALYSED),
        ((UNFLAGGED, CLEAR), Outcome.NOT_FLAGGED, Rank.NOT_FLAGGED),
        ((CLEAR,), Outcome.NOT_FLAGGED, Rank.LIKELY_CLEAR),
        ((UNFLAGGED, LATERAL), Outcome.NOT_FLAGGED, Rank.NOT_FLAGGED),
        ((CLEAR, LATERAL), Outcome.NOT_FLAGGED, Rank.NOT_FLAGGED),
        ((LATERAL,), Outcome.NOT_ANALYSED, Rank.NOT_ANALYSED),
        ((LATERAL, BROKEN), Outcome.NOT_ANALYSED, Rank.NOT_ANALYSED),
        ((None, SOON), "flagged", Rank.SOON),
        ((None, UNFLAGGED), None, Rank.NOT_ANALYSED),
        ((None,), None, Rank.NOT_ANALYSED),
    ],
)
def test_the_film_that_speaks_loudest_decides(
    sqlite: Database, settings: Settings, films: Any, outcome: str | None, rank: Rank
) -> None:
    study = decided(sqlite, settings, *films)
    assert (study.outcome, study.rank) == (outcome, rank)
    assert (study.decided_at is None) == (outcome is None)


def test_a_film_of_another_view_is_named_beside_one_that_is_not_flagged(
    sqlite: Database, settings: Settings
) -> None:
    one = decided(sqlite, settings, CLEAR, LATERAL)
    assert one.because == "because of a test; a film of another view beside it not analysed"
    assert one.suggestion is None
    two = decided(sqlite, settings, UNFLAGGED, LATERAL, LATERAL)
    assert two.because == "because of a test; 2 films of another view beside it not analysed"
    assert decided(sqlite, settings, SOON, LATERAL).because == "because of a test"


def test_a_decision_is_that_of_one_film_whole(database: Database, settings: Settings) -> None:
    study = decided(database, settings, UNFLAGGED, SOON)
    with database.read() as session:
        kept = session.get_one(Study, study.id)
        loudest = kept.series[0].instances[1]
        assert (kept.finding, kept.p_disease, kept.weight) == ("COVID-19", 0.9, -0.9)
        assert (kept.instance_id, kept.because) == (loudest.id, "because of a test")
        assert kept.due_at == NOON + timedelta(minutes=60)
        assert session.scalars(select(Event.study_id)).all() == [study.id]


def test_the_newest_word_on_a_film_counts(database: Database, settings: Settings) -> None:
    study = decided(database, settings, SOON)
    with database.write() as session:
        kept = session.get_one(Study, study.id)
        say(session, kept.series[0].instances[0], UNFLAGGED)
        studies.decide(session, kept, NOON, settings)
    assert kept.outcome == Outcome.NOT_FLAGGED


def test_two_files_under_one_uid_need_a_reader_unless_flagged(sqlite: Database, settings: Settings) -> None:
    for said, outcome in ((UNFLAGGED, Outcome.NOT_ANALYSED), (SOON, "flagged")):
        with sqlite.write() as session:
            study = add_study(session)
            first = study.series[0].instances[0]
            other = add_film(session, study, uid=first.uid, sha256="0" * 64, conflict=True)
            say(session, first, said)
            say(session, other, said)
            studies.decide(session, study, NOON, settings)
        assert study.outcome == outcome


def test_unflagged_studies_are_drawn_for_a_second_reading_and_no_others(
    sqlite: Database, settings: Settings
) -> None:
    everyone = settings.model_copy(
        update={"waits": settings.waits.model_copy(update={"second_reading": 1.0})}
    )
    assert decided(sqlite, everyone, UNFLAGGED).second_reading
    assert not decided(sqlite, everyone, SOON).second_reading
    assert not decided(sqlite, everyone, BROKEN).second_reading
    nobody = settings.model_copy(update={"waits": settings.waits.model_copy(update={"second_reading": 0.0})})
    assert not decided(sqlite, nobody, UNFLAGGED).second_reading


class Sent(list[tuple[int, int]]):
    """What was put on its way: (study, version)."""

    def __call__(self, _session: Session, study: Study, _settings: Settings, _now: datetime) -> None:
        self.append((study.id, study.version))


def test_a_study_is_complete_when_nothing_came_for_the_quiet_time(
    database: Database, settings: Settings
) -> None:
    study = decided(database, settings, SOON)
    sent = Sent()
    with database.write() as session:
        assert studies.settle(session, NOON + timedelta(seconds=9), settings, sent) == 0
    with database.write() as session:
        assert studies.settle(session, NOON + timedelta(seconds=11), settings, sent) == 1
    with database.write() as session:
        assert studies.settle(session, NOON + timedelta(seconds=99), settings, sent) == 0
        assert session.get_one(Study, study.id).state == StudyState.COMPLETE
    assert sent == [(study.id, 1)]


def test_results_leave_when_the_last_film_has_been_looked_at(sqlite: Database, settings: Settings) -> None:
    study = decided(sqlite, settings, SOON, None)
    sent, later = Sent(), NOON + timedelta(seconds=11)
    with sqlite.write() as session:
        studies.settle(session, later, settings, sent)
    assert sent == []
    with sqlite.write() as session:
        (kept,) = studies.locked(session, [study.id])
        say(session, kept.series[0].instances[1], UNFLAGGED)
        assert studies.decide(session, kept, later, settings)
        assert studies.deliver(session, kept, later, settings, sent)
    assert sent == [(study.id, 1)]


def test_a_late_film_opens_a_study_again_and_its_results_are_sent_anew(
    sqlite: Database, settings: Settings
) -> None:
    study = decided(sqlite, settings, UNFLAGGED)
    sent, later = Sent(), NOON + timedelta(hours=3)
    with sqlite.write() as session:
        studies.settle(session, NOON + timedelta(seconds=11), settings, sent)
    with sqlite.write() as session:
        (kept,) = studies.locked(session, [study.id])
        kept.state, kept.version, kept.last_received_at = StudyState.RECEIVING, 2, later  # as intake does
        late = add_film(session, kept, at=later)
        assert not studies.decide(session, kept, later, settings)
        assert (kept.outcome, kept.rank) == (None, Rank.NOT_ANALYSED)
        assert kept.due_at == later + timedelta(minutes=120)  # it waits since it was opened again
    with sqlite.write() as session:
        (kept,) = studies.locked(session, [study.id])
        say(session, session.get_one(Instance, late.id), SOON)
        studies.decide(session, kept, later, settings)
        studies.settle(session, later + timedelta(seconds=11), settings, sent)
    assert (kept.rank, sent) == (Rank.SOON, [(study.id, 1), (study.id, 2)])


@pytest.mark.parametrize(
    ("said", "minutes", "there"),
    [(UNFLAGGED, 1440, Rank.SOON), (BROKEN, 120, Rank.SOON), (SOON, 60, Rank.SOON), (NOW, 15, Rank.NOW)],
)
def test_a_study_that_waited_too_long_rises_and_stays_risen(
    sqlite: Database, settings: Settings, said: dict[str, Any], minutes: int, there: Rank
) -> None:
    study = decided(sqlite, settings, said)
    late = NOON + timedelta(minutes=minutes, seconds=1)
    with sqlite.write() as session:
        assert studies.raise_overdue(session, late - timedelta(seconds=2), settings.waits) == 0
        assert studies.raise_overdue(session, late, settings.waits) == 1
        assert studies.raise_overdue(session, late, settings.waits) == 0
        kept = session.get_one(Study, study.id)
        assert (kept.rank, kept.weight, kept.raised_at) == (there, -1.0, late)
        studies.decide(session, kept, late, settings)
        assert (kept.rank, kept.weight) == (there, -1.0)


def test_a_study_that_was_read_never_rises(sqlite: Database, settings: Settings) -> None:
    study = decided(sqlite, settings, UNFLAGGED)
    with sqlite.write() as session:
        session.get_one(Study, study.id).read_at = NOON
    with sqlite.write() as session:
        assert studies.raise_overdue(session, NOON + timedelta(days=9), settings.waits) == 0


def test_a_study_that_nothing_looks_at_needs_a_reader_and_says_so(
    sqlite: Database, settings: Settings
) -> None:
    study = decided(sqlite, settings, None)
    with sqlite.write() as session:
        assert studies.say_stalled(session, NOON + timedelta(minutes=9), timedelta(minutes=10)) == 0
        assert studies.say_stalled(session, NOON + timedelta(minutes=11), timedelta(minutes=10)) == 1
        kept = session.get_one(Study, study.id)
    assert (kept.outcome, kept.code) == (Outcome.NOT_ANALYSED, "stalled")
    assert kept.because == "nothing has looked at it for 11 minutes; see whether a worker runs"


def test_a_person_may_ask_for_a_study_to_stand_first(sqlite: Database, settings: Settings) -> None:
    study = decided(sqlite, settings, UNFLAGGED)
    with sqlite.write() as session:
        kept = session.get_one(Study, study.id)
        kept.flagged_by = "anna"
        studies.stand(kept, settings.waits)
        assert (kept.rank, kept.outcome) == (Rank.NOW, Outcome.NOT_FLAGGED)


def test_a_clock_that_was_set_back_holds_up_no_study(database: Database, settings: Settings) -> None:
    """It came while the clock was a day ahead: it is complete, and rises; nobody knows how long it waits."""
    settings = settings.model_copy(update={"quiet_seconds": 10.0})
    ahead, sent = NOON + timedelta(days=1), Sent()
    with database.write() as session:
        study = add_study(session, at=ahead)
        study.due_at = ahead + timedelta(minutes=120)
        other = add_study(session, at=NOON)
        other.due_at = NOON + timedelta(minutes=120)
        session.flush()
        assert studies.settle(session, NOON, settings, sent) == 1
        assert studies.raise_overdue(session, NOON, settings.waits) == 1
        assert (study.state, other.state) == (StudyState.COMPLETE, StudyState.RECEIVING)
        assert study.raised_at == NOON
        assert other.raised_at is None
