"""The tables of this version: made, brought up to date, or refused in a sentence.

A newer Carina may have written the database; an older one must then leave it alone. The steps are in
``migrations/``; each runs whole or not at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from carina.errors import DatabaseError
from carina.serving.database import Database
from carina.serving.schema import Base

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0001"  # the revision of the last step, so that a start need not load Alembic to know it
MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK = 0x0CA1214A  # of PostgreSQL: two processes that start together upgrade one after the other


def upgrade(database: Database) -> str:
    """Make the tables, or bring them up to this version; answers with the revision.

    Raises ``DatabaseError`` where a newer Carina wrote it, where it is another program's, or out of reach.
    """
    with _connected(database) as connection:
        if _is_current(connection):
            return HEAD
        from alembic import command

        _refuse_strangers(connection)
        config = _config(connection)
        _check_known(connection, config)
        command.upgrade(config, "head")
        return str(_revision(connection))


def check(database: Database) -> str:
    """The revision of a database that this version can work with.

    Raises ``DatabaseError`` that names the cure where it is older, newer, empty or out of reach.
    """
    with _connected(database) as connection:
        if _is_current(connection):
            return HEAD
        from alembic.script import ScriptDirectory

        config = _config(connection)
        found, head = _check_known(connection, config), ScriptDirectory.from_config(config).get_current_head()
        if found is None:
            raise DatabaseError(f"{_name(database)}: holds no tables yet; run: carina db upgrade")
        if found != head:
            raise DatabaseError(
                f"{_name(database)}: is at revision {found}, and this version needs {head}; "
                "run: carina db upgrade"
            )
        return found


def differences(database: Database) -> list[Any]:
    """Where the tables differ from ``schema.py``, in Alembic's words; empty where they do not."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with _connected(database) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))


class _connected:  # noqa: N801 - reads as a context manager
    """A transaction on ``database``; what goes wrong with the connection is a ``DatabaseError``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._transaction: Any = None

    def __enter__(self) -> Connection:
        try:
            writer = self._database.engine.execution_options(carina_writes=True)
            self._transaction = writer.begin()
            connection: Connection = self._transaction.__enter__()
            if not self._database.is_sqlite:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        except SQLAlchemyError as error:
            raise self._fault(error) from error
        return connection

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self._transaction.__exit__(kind, error, trace)
        except SQLAlchemyError as fault:
            raise self._fault(fault) from fault
        if isinstance(error, SQLAlchemyError):
            raise self._fault(error) from error

    def _fault(self, error: SQLAlchemyError) -> DatabaseError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        line = " ".join(str(cause).split())[:200]
        return DatabaseError(
            f"{_name(self._database)}: cannot be used ({line}); check the address and the rights"
        )


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _is_current(connection: Connection) -> bool:
    """Whether exactly the last step is recorded."""
    if not inspect(connection).has_table("alembic_version"):
        return False
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all()
    return list(found) == [HEAD]


def _revision(connection: Connection) -> str | None:
    from alembic.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def _check_known(connection: Connection, config: Config) -> str | None:
    """The revision found, ``None`` before the first; raises where this version never heard of it."""
    from alembic.script import ScriptDirectory

    found = _revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise DatabaseError(
            f"the database was written by a newer Carina (revision {found}); install that version, "
            "or restore a backup that this version made"
        )
    return found


def _refuse_strangers(connection: Connection) -> None:
    """Raises where there are tables of our names that no step of ours made."""
    names = set(inspect(connection).get_table_names())
    if "alembic_version" not in names and names & set(Base.metadata.tables):
        raise DatabaseError(
            "the database holds tables that Carina did not make; give it a database of its own"
        )


def _name(database: Database) -> str:
    return database.url.render_as_string(hide_password=True)
