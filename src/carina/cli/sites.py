"""The settings and the database of a site, for the verbs that work on them while the service runs or rests.

No verb of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carina.errors import MissingExtra

if TYPE_CHECKING:
    from carina.serving.database import Database
    from carina.serving.settings import Settings

Config = Annotated[Path | None, typer.Option(help="The site's TOML file.", exists=True, dir_okay=False)]
Data = Annotated[Path | None, typer.Option(help="Folder of the service, if not ./carina-data.")]


@contextmanager
def site(
    config: Path | None, data: Path | None, *, who: str, needs: str, exists: bool = False
) -> Iterator[tuple[Settings, Database]]:
    """The settings and the database, with its tables: made where they are missing, unless it ``exists``.

    Raises ``MissingExtra``, named after ``who``, where the package ``needs`` is not installed, and
    ``DatabaseError`` where a site that should be there is not.
    """
    try:
        importlib.import_module(needs)
        from carina.serving.database import Database
        from carina.serving.settings import read_settings
        from carina.serving.upgrades import check, upgrade
    except ModuleNotFoundError as error:
        raise MissingExtra(who, "serve") from error

    settings = read_settings(config, **({} if data is None else {"data": data}))
    if not exists:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.database_url)
    try:
        (check if exists else upgrade)(database)
        yield settings, database
    finally:
        database.close()
