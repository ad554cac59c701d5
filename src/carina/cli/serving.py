"""The verbs of the hospital side: serve, worklist, db, backup, restore."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carina.cli.sites import Config, Data
from carina.errors import MissingExtra

if TYPE_CHECKING:
    from carina.serving.service import Service
    from carina.serving.settings import Settings

app = typer.Typer()
db = typer.Typer(help="The database of the service.", no_args_is_help=True)
app.add_typer(db, name="db")

NOTICE = (
    "Research use. Not a medical device. Not for diagnosis. Every study must be read by a qualified person."
)


@app.command()
def serve(
    model: Annotated[Path | None, typer.Option(help="Bundle folder of the model on duty.")] = None,
    config: Config = None,
    data: Data = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Of the page; 0: any free one.")] = None,
    dicom_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Of the DICOM listener.")] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address of page and listener; other than this machine's needs TLS and more."),
    ] = None,
    role: Annotated[str, typer.Option(help="all, listener, worker or web.")] = "all",
) -> None:
    """Take films in by DICOM and by the page, score them, and show who needs a reader first."""
    import signal

    with _extra("carina serve"):
        from carina.serving import start
        from carina.serving.logs import start_logging
        from carina.serving.settings import Role

    if role not in tuple(Role):
        raise typer.BadParameter(f"{role!r} is none of {', '.join(Role)}", param_hint="--role")
    with start.uncollected():
        settings = _settings(config, data, model=model, port=port, dicom_port=dicom_port, host=host)
        start_logging()
        with _extra("carina serve"):
            service = start.service(settings, Role(role))
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: service.ask_to_stop())
        service.start()
    for line in _greeting(service, config):
        print(line, flush=True)
    service.wait()
    print("stopping: what is in work is finished, everything else is kept", file=sys.stderr)
    service.stop()


@app.command()
def worklist(
    config: Config = None,
    data: Data = None,
    search: Annotated[str | None, typer.Option(help="Part of a name, or a number's beginning.")] = None,
    read: Annotated[bool, typer.Option("--read", help="Studies that were read, the latest first.")] = False,
    top: Annotated[int, typer.Option(min=1, max=500, help="Rows.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="For programs; the times are UTC.")] = False,
) -> None:
    """The studies that nobody has read, in order of need."""
    from datetime import UTC, datetime

    with _extra("carina worklist"):
        from carina.serving.database import Database
        from carina.serving.upgrades import check
        from carina.serving.web.words import person_name
        from carina.serving.worklist import Filter, State, page, total
    from carina.terminal import notes, output, printable, show, table

    wanted = Filter(state=State.READ if read else State.OPEN, text=search)
    database = Database(_settings(config, data).database_url)
    try:
        check(database)
        with database.read() as session:
            rows, count = page(session, wanted, limit=top), total(session, wanted)
    finally:
        database.close()
    now = datetime.now(UTC)
    if as_json:
        content = {"notice": NOTICE, "at": now, "total": count, "studies": [_plain(row) for row in rows]}
        output().print(
            json.dumps(content, indent=2, ensure_ascii=False, default=str), markup=False, highlight=False,
            soft_wrap=True,
        )  # fmt: skip
        return
    lines = [
        (
            str(place),
            _said(row),
            row.finding or "",
            "" if row.p_disease is None else f"{row.p_disease:.3f}",
            _waits((now - row.received_at).total_seconds()),
            printable(person_name(row.patient_name)),
            printable(row.accession or row.patient_id or ""),
            printable(row.because or ""),
        )
        for place, row in enumerate(rows, 1)
    ]
    if lines:
        head = ("place", "decision", "suspected", "p_disease", "waits", "patient", "number", "because")
        show(output(), table(head, lines))
    notes().print(f"{count:,} studies\n{NOTICE}", markup=False)


@db.command("upgrade")
def db_upgrade(config: Config = None, data: Data = None) -> None:
    """Make the tables, or bring them up to this version."""
    with _extra("carina db"):
        from carina.serving.database import Database
        from carina.serving.upgrades import upgrade
    from carina.terminal import output

    settings = _settings(config, data)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.database_url)
    try:
        output().print(f"the database is at revision {upgrade(database)}", markup=False)
    finally:
        database.close()


@db.command("check")
def db_check(config: Config = None, data: Data = None) -> None:
    """Say whether this version can work with the database."""
    with _extra("carina db"):
        from carina.serving.database import Database
        from carina.serving.upgrades import check
    from carina.terminal import output

    database = Database(_settings(config, data).database_url)
    try:
        output().print(
            f"the database is at revision {check(database)}, as this version needs it", markup=False
        )
    finally:
        database.close()


@db.command("copy")
def db_copy(
    to: Annotated[str, typer.Argument(metavar="URL", help="postgresql+psycopg://user:password@host/name")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Copy the database to another, usually SQLite to PostgreSQL; run again, it goes on and checks."""
    with _extra("carina db"):
        from carina.serving.copying import copy
        from carina.serving.database import Database
        from carina.serving.upgrades import check, upgrade
    from carina.terminal import bars, notes, output, show, table

    source, target = Database(_settings(config, data).database_url), Database(to)
    try:
        check(source)
        upgrade(target)
        with bars() as tell:
            counts = copy(source, target, tell)
    finally:
        source.close()
        target.close()
    rows = [(name, f"{count:,}") for name, count in counts.items() if count]
    show(output(), table(("table", "rows"), rows))
    notes().print("the same number of rows on both sides; the films stay where they are", markup=False)


@app.command()
def backup(
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Save the database and every film that it names, while the service runs."""
    with _extra("carina backup"):
        from carina.serving.backups import backup as save
    from carina.terminal import bars, output

    with bars() as tell:
        facts = save(_settings(config, data), out, tell)
    lost = f"; {facts['gone']:,} were not in the archive" if facts["gone"] else ""
    output().print(
        f"{facts['rows']['studies']:,} studies, {facts['films']:,} films{lost}: {out}", markup=False
    )


@app.command()
def restore(
    saved: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder that `carina backup` wrote.")],
    data: Annotated[Path, typer.Option(help="Folder of the service; must be empty or new.")],
) -> None:
    """Put a backup back, every byte checked."""
    with _extra("carina restore"):
        from carina.serving.backups import restore as put_back
    from carina.terminal import bars, output

    with bars() as tell:
        facts = put_back(saved, data, tell)
    output().print(f"{facts['rows']['studies']:,} studies, {facts['films']:,} films: {data}", markup=False)


def _settings(config: Path | None, data: Path | None, **given: Any) -> Settings:
    """The settings; what the command line says stands over the file. A fault in them is one line."""
    from pydantic import ValidationError

    from carina.errors import ServiceError

    with _extra("carina serve"):
        from carina.serving.settings import read_settings
    try:
        settings = read_settings(config)
        changes: dict[str, Any] = {}
        if data is not None:
            changes["data"] = data
        if given.get("model") is not None:
            changes["model"] = given["model"]
        host = {"host": given["host"]} if given.get("host") is not None else {}
        web = {**host, **({"port": given["port"]} if given.get("port") is not None else {})}
        dicom = {**host, **({"port": given["dicom_port"]} if given.get("dicom_port") is not None else {})}
        if web:
            changes["web"] = settings.web.model_copy(update=web)
        if dicom:
            changes["dicom"] = settings.dicom.model_copy(update=dicom)
        return settings.model_copy(update=changes)
    except ValidationError as fault:
        from carina.scoring.manifest import first_fault

        raise ServiceError(f"{config or 'the environment'}: {first_fault(fault)}; correct it") from fault
    except (ValueError, OSError) as fault:  # no TOML
        raise ServiceError(f"{config}: cannot be read ({fault}); correct it") from fault


def _greeting(service: Service, config: Path | None) -> Iterator[str]:
    """What a person needs who has just started it; ``config`` is the file of its settings."""
    from shlex import quote

    from carina import programs
    from carina.serving.service import nobody_signs_in

    settings = service.settings
    if service.web_port:
        scheme = "https" if settings.web.tls else "http"
        yield f"page       {scheme}://{_shown(settings.web.host)}:{service.web_port}/"
    if service.dicom_port:
        host, title = settings.dicom.host, settings.dicom.ae_title
        yield f"DICOM      {host}:{service.dicom_port}, called AE title {title}"
        tls = "" if settings.dicom.tls is None else "+tls KEY CERTIFICATE +cf CA "
        sends = f"{programs.dcmtk('storescu')} {tls}-aec {quote(title)} +sd +r"
        yield f"send films {sends} {host} {service.dicom_port} FOLDER"
    if service.web_port and settings.web.sign_in and nobody_signs_in(service):
        yield "first of all, in another terminal, make a user who may sign in:"
        where = f"--data {quote(str(settings.data))}" if config is None else f"--config {quote(str(config))}"
        yield f"           {programs.carina()} user add NAME --role admin {where}"
    yield f"\n{NOTICE}"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _said(row: Any) -> str:
    if row.outcome is None:
        return "not analysed yet"
    said = f"{row.outcome}: {row.urgency}" if row.urgency else str(row.outcome)
    return f"{said} (waits too long)" if row.raised_at is not None and row.read_at is None else said


def _waits(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"


def _plain(row: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(row)


@contextmanager
def _extra(what: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("carina"):
            raise
        raise MissingExtra(what, "serve") from error
