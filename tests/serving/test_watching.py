"""The verbs of watching: what a terminal shows, and the exit code that a scheduler asks for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from carina.cli import app
from carina.errors import CarinaError
from carina.serving.database import Database
from carina.serving.results import plan
from carina.serving.schema import AuditEntry, Delivery, JobState
from carina.serving.settings import Destination, Settings
from carina.serving.upgrades import upgrade
from tests.serving.results.ward import Shelf, admit, model


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Database]:
    """A site's database where the verbs look for it, with a model, a flagged study and four missed ones."""
    data = tmp_path / "site"
    data.mkdir()
    database = Database(f"sqlite:///{data / 'carina.sqlite'}")
    upgrade(database)
    (tmp_path / "carina.toml").write_text(
        f'data = "{data}"\nsite = "ward 7"\n[roll_out]\nfalse_alarm = 0.2\n'
    )
    now = datetime.now(UTC)
    with database.write() as session:
        duty, shelf = model(session), Shelf()
        duty.first_on_duty = now - timedelta(days=3)
        admit(session, shelf, "now", duty=duty, at=now - timedelta(days=1))
        for number in range(4):
            admit(session, shelf, "usual", duty=duty, at=now - timedelta(days=1), accession=f"M{number}")
    yield database
    database.close()


def run(site: Database, *line: str) -> Result:
    config = Path(str(site.url.database)).parent.parent / "carina.toml"
    return CliRunner().invoke(app, [*line, "--config", str(config)])


def test_reports_of_missed_cases_end_in_an_alarm(site: Database, tmp_path: Path) -> None:
    assert run(site, "monitor").exit_code == 0
    table = tmp_path / "reports.csv"
    table.write_text("accession,disease\n" + "".join(f"M{number},yes\n" for number in range(4)) + "X,maybe\n")
    done = run(site, "reports", "import", str(table))
    assert done.exit_code == 0
    assert "4 new reports, 4 of them matched to a study" in done.output
    assert "left out: line 6: disease is neither yes nor no" in done.output
    with site.read() as session:
        entry = session.query(AuditEntry).one()
        assert (entry.actor, entry.action, entry.detail["new"]) == ("command line", "reports taken", 4)
    found = run(site, "monitor")
    assert found.exit_code == 3
    assert "ALARM: 4 of 4 diseased studies were not flagged; a sensitivity of 97.9%" in found.output
    assert "(NPV), everywhere: 0.0 % of 4 read twice or reported" in found.output
    assert "p_disease: too few films to tell" in found.output


def test_a_step_shows_what_it_asks_for_and_is_taken_with_it(site: Database) -> None:
    shown = run(site, "step")
    assert "the site is on the step audit" in shown.output
    assert shown.output.count("missing") == 3
    refused = run(site, "step", "silent")
    assert isinstance(refused.exception, CarinaError)
    stated = [
        f"--evidence={each}" for each in ("diseased=120", "found=118", "report=a.html", "approved_by=Ada")
    ]
    assert run(site, "step", "silent", "--by", "Ada", *stated).exit_code == 0
    assert "the site is on the step silent" in run(site, "step").output
    with site.read() as session:
        assert session.query(AuditEntry).one().actor == "Ada"


@pytest.mark.parametrize(
    "line", [["step", "sideways"], ["step", "silent", "--evidence", "x"], ["deliveries", "--state", "x"]]
)
def test_what_makes_no_sense_is_a_wrong_use(site: Database, line: list[str]) -> None:
    assert run(site, *line).exit_code == 2


def test_dead_letters_are_listed_and_sent_again(site: Database) -> None:
    there = Destination.model_validate(
        {"name": "pager", "kind": "webhook", "url": "http://x/", "secret": "s", "since": "audit"}
    )
    chosen = Settings.model_validate({"destinations": (there,)})
    with site.write() as session:
        from carina.serving.schema import Study

        for study in session.query(Study):
            plan.enqueue(session, study, chosen, datetime.now(UTC))
        first = session.query(Delivery).order_by(Delivery.id).first()
        assert first is not None
        first.state, first.error = JobState.DEAD, "pager: answers with 500"
    listed = run(site, "deliveries", "--state", "dead")
    assert "pager: answers with 500" in " ".join(listed.output.split())
    assert "pager: 1 dead, 4 waiting" in listed.output
    assert isinstance(run(site, "deliveries", "--again", "2").exception, CarinaError)
    assert "1 dead letters are on their way again" in run(site, "deliveries", "--again", "1").output
    assert "pager: 5 waiting" in run(site, "deliveries").output
