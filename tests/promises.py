"""The table of promises: what is promised (docs/promises/promises.toml), what was measured, docs/promises.md.

A harness calls :func:`keep` with its figure, which lands in ``docs/promises/NAME.json``. ``python -m
tests.promises`` renders the page anew. Knows nothing of how a figure came about.
"""

from __future__ import annotations

import json
import os
import platform
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FOLDER = DOCS / "promises.md", DOCS / "promises"
SECTIONS = ("kept", "kept_out", "never_well")


@dataclass(frozen=True, slots=True)
class Promise:
    """One row: ``load`` and ``passes`` are what was asked for."""

    section: str
    name: str
    promise: str
    load: str
    passes: str


@dataclass(frozen=True, slots=True)
class Figure:
    """What a harness measured: ``load`` is what was really run, ``met`` whether the promise held under it."""

    name: str
    measured: str
    met: bool
    load: str
    command: str
    date: str
    machine: str


def promises() -> list[Promise]:
    """All rows, in the order of the page."""
    table = tomllib.loads((FOLDER / "promises.toml").read_text("utf-8"))
    return [
        Promise(section, row["name"], row["promise"], row["load"], row["pass"])
        for section in SECTIONS
        for row in table[section]
    ]


def keep(name: str, measured: str, *, met: bool, load: str, command: str) -> Figure:
    """Write the figure of a promise beside the page, and the page anew. ``KeyError``: no such promise."""
    if name not in {each.name for each in promises()}:
        raise KeyError(name)
    figure = Figure(name, measured, met, load, command, f"{datetime.now(UTC):%Y-%m-%d}", machine())
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(asdict(figure), indent=2, ensure_ascii=False) + "\n", "utf-8")
    PAGE.write_text(render(PAGE.read_text("utf-8")), "utf-8")
    return figure


def figure(name: str) -> Figure | None:
    """What was last measured of promise ``name``."""
    path = FOLDER / f"{name}.json"
    return Figure(**json.loads(path.read_text("utf-8"))) if path.exists() else None


def machine() -> str:
    """Processor and cores; and how busy it was, because others may have worked on it."""
    load = os.getloadavg()[1]
    busy = f", load {load:.1f}" if load > 0.5 else ""
    return f"{platform.machine()}, {os.cpu_count()} cores{busy}"


def render(page: str) -> str:
    """``page`` with the tables between its markers made anew."""
    for section in SECTIONS:
        begin, end = f"<!-- {section} -->", f"<!-- /{section} -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        rows = "\n".join(_rows([each for each in promises() if each.section == section]))
        page = f"{before}{begin}\n\n{rows}\n\n{end}{after}"
    return page


def _rows(rows: list[Promise]) -> Iterator[str]:
    yield "| promise | load | pass | measured | command |"
    yield "| --- | --- | --- | --- | --- |"
    for row in rows:
        found = figure(row.name)
        if found is None:
            cells = [row.promise, row.load, row.passes, "not measured yet", ""]
        else:
            said = "**met**" if found.met else "**not met**"
            run = f"{found.load}; {found.machine}, {found.date}"
            measured = f"{said}: {found.measured} ({run})"
            cells = [row.promise, row.load, row.passes, measured, f"`{found.command}`"]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text("utf-8")), "utf-8")
