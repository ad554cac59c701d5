"""The tables that the steps make are those of the schema, on both databases; what is newer is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from carina.errors import DatabaseError
from carina.serving.database import Database
from carina.serving.schema import Base
from carina.serving.upgrades import HEAD, MIGRATIONS, check, differences, upgrade
from tests.serving.postgres import Cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'empty.sqlite'}")
        yield database
        database.close()
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    cluster.execute("CREATE DATABASE empty")
    database = Database(cluster.url("empty"))
    yield database
    database.close()
    cluster.execute("DROP DATABASE empty WITH (FORCE)")


def set_revision(database: Database, revision: str) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def test_the_steps_make_the_tables_of_the_schema(empty: Database) -> None:
    revision = upgrade(empty)
    assert differences(empty) == []
    assert set(inspect(empty.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    assert check(empty) == revision


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(empty: Database) -> None:
    assert upgrade(empty) == upgrade(empty)


def test_the_revision_that_a_start_compares_with_is_that_of_the_last_step() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_a_database_without_tables_is_told_with_the_cure(empty: Database) -> None:
    with pytest.raises(DatabaseError, match="no tables yet; run: carina db upgrade"):
        check(empty)


def test_a_database_of_a_newer_version_is_left_alone(empty: Database) -> None:
    upgrade(empty)
    set_revision(empty, "9999")
    for work in (upgrade, check):
        with pytest.raises(DatabaseError, match=r"written by a newer Carina \(revision 9999\)"):
            work(empty)
    with empty.read() as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


def test_tables_that_no_step_made_are_left_alone(empty: Database) -> None:
    Base.metadata.create_all(empty.engine)
    with pytest.raises(DatabaseError, match="tables that Carina did not make"):
        upgrade(empty)


def test_a_database_out_of_reach_is_told_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    database = Database(f"postgresql+psycopg://carina:secret@/carina?host={tmp_path}")
    with pytest.raises(DatabaseError, match="cannot be used") as caught:
        upgrade(database)
    assert "secret" not in str(caught.value)
    database.close()


def test_the_steps_are_part_of_what_is_installed() -> None:
    from carina.serving.upgrades import MIGRATIONS

    assert (MIGRATIONS / "env.py").is_file()
    assert list((MIGRATIONS / "versions").glob("r0001_*.py"))
