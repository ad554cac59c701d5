"""What tests of the hospital side share: both databases, a tiny bundle, the settings of a site, films."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from carina.serving.database import Database
from carina.serving.schema import Base
from carina.serving.settings import Settings
from tests.bundles import tiny_bundle
from tests.serving.postgres import Cluster
from tests.serving.results.ward import Shelf

_numbers = itertools.count()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three classes (``Normal`` is the healthy one) for films of 64 pixels."""
    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server for this run, with the tables in the database ``ready``."""
    running = Cluster()
    try:
        running.execute("CREATE DATABASE ready")
        engine = create_engine(running.url("ready"))
        Base.metadata.create_all(engine)
        engine.dispose()
        yield running
    finally:
        running.close()


@pytest.fixture
def postgresql(cluster: Cluster) -> Iterator[Database]:
    """A fresh PostgreSQL database with all tables."""
    name = f"test{next(_numbers)}"
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE ready")
    database = Database(cluster.url(name))
    yield database
    database.close()
    cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """A fresh SQLite database with all tables."""
    database = Database(f"sqlite:///{tmp_path / 'carina.sqlite'}")
    Base.metadata.create_all(database.engine)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """A fresh database with all tables: every test that asks for it runs on both kinds."""
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def settings(tmp_path: Path, bundle: Path) -> Settings:
    """A site on this machine: any free port, the tiny bundle, no watermark."""
    return Settings.model_validate(
        {
            "data": tmp_path / "data",
            "model": bundle,
            "free_bytes": 0,
            "dicom": {"port": 0},
            "web": {"port": 0},
        }
    )


@pytest.fixture
def shelf() -> Shelf:
    """Stored films in memory, for what needs no archive."""
    return Shelf()
