"""The page on which a person confirms or splits groups of near copies.

One self-contained file: it opens from a disk without a server, and gives the decisions as a file to save.
"""

from __future__ import annotations

import base64
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from carina.data.catalogue import REVIEW, Catalogue
from carina.data.decisions import FORMAT, KIND
from carina.data.review import Case, cases
from carina.data.thumbnails import thumbnails
from carina.errors import MissingExtra, OutputError
from carina.evaluation.wording import counted
from carina.records import Progress

Tell = Callable[[Progress], None] | None

LIMIT = 400  # cases on one page; a person looks at no more in one sitting


@dataclass(frozen=True, slots=True)
class Review:
    """Where the page is, and what stands on it."""

    page: Path
    cases: int
    shown: int
    undecided: int
    conflicting: int


def review(
    catalogue: Catalogue | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    limit: int = LIMIT,
    workers: int | None = None,
    progress: Tell = None,
) -> Review:
    """Write the page of ``catalogue`` to the file ``out``, by default into its folder.

    Raises MissingExtra without the ``report`` extra, CatalogueError and DecisionError for what cannot be
    opened, OutputError when the page cannot be written.
    """
    catalogue = catalogue if isinstance(catalogue, Catalogue) else Catalogue.open(Path(catalogue))
    page = Path(out) if out is not None else catalogue.root / REVIEW
    every = cases(catalogue)
    shown = every[:limit]
    text = render(catalogue.root, shown, len(every), _pictures(shown, workers, progress))
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, "utf-8")
    except OSError as error:
        raise OutputError(f"{page}: cannot be written ({error.strerror}); name another with --out") from error
    undecided = sum(not case.decided and len(case.sha256s) > 1 for case in every)
    return Review(page, len(every), len(shown), undecided, sum(case.conflicting for case in every))


def render(catalogue: Path, shown: list[Case], total: int, pictures: Mapping[Path, str]) -> str:
    """The page; ``pictures`` are data URIs by path."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise MissingExtra("carina review", "report") from error
    part = "all" if total == len(shown) else f"{len(shown):,} of them"
    environment = Environment(
        loader=PackageLoader("carina.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("review.html.j2").render(
        title=catalogue.name,
        apply=shlex.join(["carina", "review", str(catalogue), "--apply", "decisions.json"]),
        cases=shown,
        total=total,
        lead=f"{counted(total, 'case')}, {part} on this page",
        pictures=pictures,
        kind=KIND,
        format=FORMAT,
    )


def _pictures(shown: list[Case], workers: int | None, tell: Tell) -> dict[Path, str]:
    """A data URI for the first file of each film that can be read."""
    paths = [files[0].path for case in shown for files in case.files]
    return {
        paths[i]: "data:image/jpeg;base64," + base64.b64encode(answer).decode()
        for i, answer in (thumbnails(paths, workers=workers, progress=tell) if paths else ())
        if isinstance(answer, bytes)
    }
