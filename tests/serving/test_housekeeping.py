"""Housekeeping, copies and backups: what is kept, what is let go, and that nothing is lost on the way."""

from __future__ import annotations

import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from carina.errors import DatabaseError, OutputError, ServiceError
from carina.serving import upgrades
from carina.serving.archive import Archive
from carina.serving.backups import LIST, backup, restore
from carina.serving.copying import copy
from carina.serving.database import Database
from carina.serving.housekeeping import Housekeeping
from carina.serving.intake import Intake
from carina.serving.schema import Base, Event, Instance, PredictionRow, Study, StudyState
from carina.serving.settings import Settings
from tests.serving.instances import instance
from tests.serving.worklists import NOON, add_study


class House:
    """A site with films that were received, and a housekeeper whose clock is set by hand."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database, self.now = settings, database, datetime.now(UTC)
        self.archive = Archive(settings.archive, settings)
        self.intake = Intake(database, self.archive, settings)
        self.sent: list[int] = []
        self.keeper = Housekeeping(
            settings,
            database,
            self.archive,
            lambda _s, study, *_: self.sent.append(study.id),
            lambda: self.now,
        )

    def receive(self, number: int) -> Instance:
        with self.archive.receive() as incoming:
            incoming.write(instance(number, study=number))
            receipt = self.intake.take(incoming.finish(), origin="dicom", sender="CT", address=None)
        with self.database.read() as session:
            return session.get_one(Instance, receipt.instance_id)


@pytest.fixture
def house(settings: Settings, database: Database) -> House:
    return House(settings.model_copy(update={"keep_days": 30.0}), database)


def test_pixels_of_read_studies_are_let_go_in_time_and_nothing_else(house: House) -> None:
    old, young, unread = (house.receive(number) for number in (1, 2, 3))
    with house.database.write() as session:
        for film, days in ((old, 31), (young, 29)):
            study = session.get_one(Study, film.study_id)
            study.read_at, study.state = house.now - timedelta(days=days), StudyState.COMPLETE
        session.add(
            PredictionRow(
                instance_id=old.id,
                at=house.now,
                outcome="x",
                because="y",
                p_disease=0.5,
                thumbnail=b"1",
                cam=b"2",
            )
        )
    assert house.keeper.let_go() == 1
    assert house.keeper.let_go() == 0
    there = [(house.settings.archive / film.path).exists() for film in (old, young, unread)]
    assert there == [False, True, True]
    with house.database.read() as session:
        row = session.scalars(select(PredictionRow)).one()
        assert (row.thumbnail, row.cam, row.p_disease) == (None, None, 0.5)
        assert session.get_one(Instance, old.id).path == ""
    assert house.intake.adopt() == 0  # and a start does not bring it back


def test_overdue_studies_rise_and_quiet_ones_are_complete(house: House) -> None:
    film = house.receive(1)
    house.now += timedelta(minutes=11)
    house.keeper.step()
    with house.database.read() as session:
        study = session.get_one(Study, film.study_id)
        assert (study.state, study.code) == (StudyState.COMPLETE, "stalled")
    house.now += timedelta(minutes=120)
    assert house.keeper.raise_overdue() == 1
    with house.database.read() as session:
        assert session.get_one(Study, film.study_id).raised_at == house.now


def test_old_events_are_dropped(house: House) -> None:
    house.receive(1)
    house.now += timedelta(days=3)
    house.keeper.tidy()
    with house.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Event)) == 0


def everything(database: Database) -> dict[str, list[tuple[object, ...]]]:
    with database.read() as session:
        return {
            table.name: [
                tuple(row) for row in session.execute(select(table).order_by(*table.primary_key.columns))
            ]
            for table in Base.metadata.sorted_tables
        }


def test_sqlite_is_copied_to_postgresql_and_an_interrupted_copy_goes_on(
    sqlite: Database, postgresql: Database
) -> None:
    with sqlite.write() as session:
        for number in range(30):
            add_study(session, patient_name="Люкceмбypг^山田", at=NOON + timedelta(seconds=number))
    first = copy(sqlite, postgresql)
    with postgresql.write() as session:  # as if half of it had never come, and one row had been left half-way
        session.get_one(Study, 3).patient_name = None
        for film in session.scalars(select(Instance).where(Instance.id > 20)):
            session.execute(
                Base.metadata.tables["jobs"]
                .delete()
                .where(Base.metadata.tables["jobs"].c.instance_id == film.id)
            )
            session.delete(film)
    assert copy(sqlite, postgresql) == first
    assert first["studies"] == first["jobs"] == 30
    assert everything(postgresql) == everything(sqlite)
    with postgresql.write() as session:
        assert add_study(session).id == 31  # the counters go on


def test_a_database_of_another_site_is_not_written_over(sqlite: Database, tmp_path: Path) -> None:
    other = Database(f"sqlite:///{tmp_path / 'other.sqlite'}")
    Base.metadata.create_all(other.engine)
    with other.write() as session:
        for _ in range(3):
            add_study(session)
    with sqlite.write() as session:
        add_study(session)
    with pytest.raises(DatabaseError, match="copy into an empty one"):
        copy(sqlite, other)
    other.close()


@pytest.fixture
def site(settings: Settings) -> House:
    """A site on SQLite whose tables were made by the migrations."""
    settings.data.mkdir(parents=True)
    database = Database(settings.database_url)
    upgrades.upgrade(database)
    return House(settings, database)


def test_a_backup_under_load_holds_every_film_it_names_and_comes_back_whole(
    site: House, tmp_path: Path
) -> None:
    for number in range(1, 21):
        site.receive(number)
    stop, count = threading.Event(), [20]

    def load() -> None:
        while not stop.is_set():
            count[0] += 1
            site.receive(count[0])

    thread = threading.Thread(target=load)
    thread.start()
    try:
        facts = backup(site.settings, tmp_path / "saved")
    finally:
        stop.set()
        thread.join()
    assert 20 <= facts["films"] <= count[0]
    assert (facts["gone"], facts["rows"]["instances"]) == (0, facts["films"])
    restore(tmp_path / "saved", tmp_path / "again")
    database = Database(f"sqlite:///{tmp_path / 'again' / 'carina.sqlite'}")
    upgrades.check(database)
    with database.read() as session:
        films = list(session.scalars(select(Instance.path)))
    assert len(films) == facts["films"]
    for path in films:
        same = (
            (tmp_path / "again" / "archive" / path).read_bytes(),
            (site.settings.archive / path).read_bytes(),
        )
        assert same[0] == same[1]
    database.close()
    site.database.close()


def test_a_damaged_backup_is_refused_and_nothing_is_left(site: House, tmp_path: Path) -> None:
    film = site.receive(1)
    backup(site.settings, tmp_path / "saved")
    with pytest.raises(OutputError, match="holds something"):
        backup(site.settings, tmp_path / "saved")
    with pytest.raises(ServiceError, match="holds something"):
        restore(tmp_path / "saved", site.settings.data)
    shutil.copytree(tmp_path / "saved", tmp_path / "bent")
    stored = tmp_path / "bent" / "archive" / film.path
    stored.write_bytes(stored.read_bytes()[:-1])
    (tmp_path / "half").mkdir()
    for bad, says in (("bent", "0 of 1 films"), ("half", f"no {LIST}")):
        with pytest.raises(ServiceError, match=says):
            restore(tmp_path / bad, tmp_path / "again")
        assert not (tmp_path / "again").exists()
    site.database.close()
