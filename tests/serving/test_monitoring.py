"""Missed cases are noticed, luck is not mistaken for them, and what is unknown is said to be unknown."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from carina.serving import feedback, monitoring
from carina.serving.database import Database
from carina.serving.monitoring import Evidence, Truth, follow
from carina.serving.schema import Report, Study
from carina.serving.settings import RollOut, Settings
from tests.serving.results.ward import NOW, Shelf, admit, model


def case(flagged: bool, *, reported: bool = True, drawn: bool = False, diseased: bool = True) -> Truth:
    return Truth(0, NOW, diseased, flagged, reported, drawn, None)


def stream(rng: random.Random, cases: int, miss: float) -> list[Truth]:
    return [case(rng.random() >= miss) for _ in range(cases)]


def test_a_model_that_keeps_its_promise_alarms_no_more_often_than_was_said() -> None:
    rng, runs, alpha = random.Random(1), 1000, 0.05
    alarms = sum(follow(stream(rng, 300, 0.05), 0.95, 0.0)[1] >= 1 / alpha for _ in range(runs))
    print(f"false alarms: {alarms} of {runs} hospitals of 300 diseased studies, {alpha:.0%} allowed")
    assert alarms / runs <= alpha


def test_a_model_that_misses_three_times_as_often_is_found_out() -> None:
    rng, runs, alpha = random.Random(2), 200, 0.01
    alarms = sum(follow(stream(rng, 250, 0.15), 0.95, 0.0)[1] >= 1 / alpha for _ in range(runs))
    print(f"found out within 250 diseased studies: {alarms} of {runs}")
    assert alarms / runs > 0.9


def test_a_model_that_goes_wrong_after_a_good_year_is_found_out_too() -> None:
    rng, runs, alpha = random.Random(3), 100, 0.01
    alarms = sum(
        follow([*stream(rng, 300, 0.03), *stream(rng, 200, 0.30)], 0.95, 0.0)[1] >= 1 / alpha
        for _ in range(runs)
    )
    assert alarms / runs > 0.9


def second_readings(rng: random.Random, cases: int, miss: float, share: float) -> list[Truth]:
    """Flagged studies are all judged by a reader, unflagged ones where they are drawn."""
    made = []
    while len(made) < cases:
        flagged = rng.random() >= miss
        if flagged or rng.random() < share:
            made.append(case(flagged, reported=False, drawn=not flagged))
    return made


def test_second_readings_of_one_in_ten_are_enough_to_notice_and_do_not_cry_wolf() -> None:
    rng, alpha, share = random.Random(4), 0.05, 0.1
    calm = sum(
        follow(second_readings(rng, 300, 0.05, share), 0.95, share)[1] >= 1 / alpha for _ in range(400)
    )
    assert calm / 400 <= alpha
    wrong = sum(
        follow(second_readings(rng, 500, 0.4, share), 0.95, share)[1] >= 1 / alpha for _ in range(100)
    )
    assert wrong / 100 > 0.9
    blind = sum(follow(second_readings(rng, 500, 0.4, share), 0.95, 0.0)[1] >= 1 / alpha for _ in range(100))
    assert blind < wrong  # as if hits and misses came to light alike


def test_evidence_begins_at_one_and_is_expected_to_stay_there() -> None:
    evidence = Evidence(0.95)
    assert evidence.value == 1
    mean = 0.0
    for missed, chance in ((True, 0.05), (False, 0.95)):
        after = Evidence(0.95)
        after.see(missed)
        mean += chance * after.value
    assert mean == pytest.approx(1)


def test_healthy_studies_are_no_cases() -> None:
    assert follow([case(False, diseased=False)] * 100, 0.95, 0.02) == (1.0, 1.0)


def test_a_site_is_followed_from_readers_and_reports(
    database: Database, settings: Settings, shelf: Shelf
) -> None:
    chosen = settings.model_copy(update={"site": "ward 7", "roll_out": RollOut(false_alarm=0.05)})
    with database.write() as session:
        duty = model(session)
        studies = [admit(session, shelf, "now", duty=duty) for _ in range(5)]
        studies += [admit(session, shelf, "usual", duty=duty, accession=f"M{number}") for number in range(6)]
        studies.append(admit(session, shelf, "unread", duty=duty))
        for study in studies:
            feedback.record(session, study, "ada", "agree", NOW)
        rows = [feedback.ReportRow(True, accession=f"M{number}") for number in range(6)]
        feedback.add_reports(session, rows, NOW + timedelta(days=2))
        found = monitoring.watch(session, chosen)
    assert found.promised == pytest.approx(0.9791)
    assert (found.cases, found.missed, found.unflagged) == (11, 6, 6)
    assert found.alarm is not None
    assert "6 of 11 diseased studies were not flagged" in found.alarm
    assert found.lines()[-1].startswith("ALARM")


def test_without_a_promise_nothing_is_tested_and_that_is_said(sqlite: Database, settings: Settings) -> None:
    with sqlite.read() as session:
        found = monitoring.watch(session, settings)
    assert found.alarm is None
    assert found.lines() == [
        "No sensitivity was promised: no operating point; set roll_out.sensitivity to follow one."
    ]


def test_the_share_without_disease_counts_only_what_came_to_light_without_regard_to_it(
    database: Database, settings: Settings, shelf: Shelf
) -> None:
    with database.write() as session:
        duty = model(session)
        for number in range(40):
            place = "East" if number < 10 else "West"
            study = admit(session, shelf, "usual", duty=duty, second_reading=True, institution=place)
            feedback.record(session, study, "ada", "disagree" if number == 0 else "agree", NOW)
        happened_on = admit(session, shelf, "usual", duty=duty, institution="East")
        feedback.record(session, happened_on, "ada", "disagree", NOW)
        admit(session, shelf, "usual", duty=duty, second_reading=True)  # drawn, not read yet
        rows = {each.place: each for each in monitoring.npv(session)}
    assert (rows[None].clear, rows[None].read) == (39, 40)
    assert (rows["East"].clear, rows["East"].read) == (9, 10)
    assert rows["West"].value == 1
    assert rows[None].low == pytest.approx(0.8684, abs=5e-4)  # Clopper-Pearson, 39 of 40
    assert rows[None].high == pytest.approx(0.9994, abs=5e-4)


def test_a_report_goes_before_a_reader_and_the_newest_before_older_ones(
    database: Database, shelf: Shelf
) -> None:
    with database.write() as session:
        study = admit(session, shelf, "usual", duty=model(session))
        feedback.record(session, study, "ada", "agree", NOW)
        assert [each.diseased for each in monitoring.truths(session)] == [False]
        for disease in (False, True):
            feedback.add_reports(session, [feedback.ReportRow(disease, study_uid=study.uid)], NOW)
        assert [(each.diseased, each.reported) for each in monitoring.truths(session)] == [(True, True)]


CSV = """Accession;Disease;Finding
ACC-9;yes;TB
LATER;no;
NEVER;perhaps;
;yes;
ACC-9;yes;TB
"""


def test_reports_are_matched_now_or_when_their_study_comes_and_counted_once(
    database: Database, shelf: Shelf
) -> None:
    with database.write() as session:
        duty = model(session)
        first = admit(session, shelf, "now", duty=duty)
        done = feedback.import_reports(session, CSV.encode("utf-8-sig"), NOW)
        assert (done.new, done.matched, done.known) == (2, 1, 1)
        assert done.faults == ["line 4: disease is neither yes nor no", "line 5: names no study"]
        assert feedback.import_reports(session, CSV.encode(), NOW).new == 0
        later = admit(session, shelf, "usual", duty=duty, accession="LATER")
        assert feedback.match(session) == 1
        matched = {each.study_id: each.disease for each in session.query(Report)}
    assert matched == {first.id: True, later.id: False}


def test_an_accession_number_of_two_studies_matches_neither(database: Database, shelf: Shelf) -> None:
    with database.write() as session:
        duty = model(session)
        for _ in range(2):
            admit(session, shelf, "now", duty=duty)
        done = feedback.add_reports(session, [feedback.ReportRow(True, accession="ACC-9")], NOW)
        assert (done.new, done.matched) == (1, 0)
        assert session.query(Study).count() == 2


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (b"a,b\n1,2\n", "needs the columns disease and study_uid or accession"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"", "this one has none"),
    ],
)
def test_what_is_no_table_of_reports_is_refused(sqlite: Database, table: bytes, fault: str) -> None:
    from carina.errors import ReportError

    with sqlite.write() as session, pytest.raises(ReportError, match=fault):
        feedback.import_reports(session, table, NOW)
