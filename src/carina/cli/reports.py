"""The option ``--report`` that several verbs share: what they print, as one page to keep or print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _place(path: Path | None) -> Path | None:
    """The path, refused before any work where no page can be written there."""
    if path is not None:
        from carina.folders import check_page

        check_page(path)
    return path


Report = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.html",
        callback=_place,
        help="Page with figures and text, whole in itself; replaced if it is there.",
    ),
]


def write_report(path: Path, page: str) -> None:
    """Write the page, and say where it is."""
    from carina.evaluation.report import write
    from carina.terminal import notes

    write(path, page)
    notes().print(f"report      {path}", markup=False)
