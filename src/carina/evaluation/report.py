"""The page of an evaluation or an audit: one self-contained file that a doctor can read and print.

Puts headline, verdict and sections into the template; knows how they are put together, not what they
say. Everything is escaped: class and file names come from strangers.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from carina.data.confounding.verdict import Grade, Verdict
from carina.errors import OutputError
from carina.evaluation import claim_sections
from carina.evaluation.belief import LABELS
from carina.evaluation.blocks import Section
from carina.evaluation.headline import Headline, headlines
from carina.evaluation.sections import SECTIONS, Evidence
from carina.folders import check_page

NOTICE = (
    "Carina is not a medical device. This page is for research; it is no basis for the care of a patient."
)


def render(evidence: Evidence) -> str:
    """The page of an evaluation as one HTML text that refers to nothing outside itself."""
    return render_page(
        kicker="Carina · evaluation",
        title=evidence.title,
        lead=evidence.lead,
        headlines=headlines(evidence.metrics),
        grade=evidence.belief.verdict.grade,
        verdict=(*claim_sections.first(evidence.claims), *evidence.belief.lines()),
        warnings=evidence.warnings,
        sections=[make(evidence) for make in SECTIONS],
    )


def render_page(
    *,
    kicker: str,
    title: str,
    lead: str,
    headlines: Sequence[Headline],
    sections: Sequence[Section],
    grade: Grade | None = None,
    verdict: Sequence[tuple[str, str]] = (),
    warnings: Sequence[str] = (),
) -> str:
    """A page; ``verdict`` is lines of (label, text) that stand below the headline figures.

    ``grade`` is that of the films behind the figures, None where there are no films.
    """
    environment = Environment(
        loader=PackageLoader("carina.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        kicker=kicker,
        title=title,
        lead=lead,
        headlines=headlines,
        grade=grade or "",
        grade_label=LABELS[grade] if grade is not None else "",
        verdict=verdict,
        warnings=warnings,
        sections=[section for section in sections if section.blocks],
        notice=NOTICE,
    )


def believed(verdict: Verdict | None) -> tuple[tuple[str, str], ...]:
    """The verdict on the films as a line of the first screen; none where there are no films."""
    return () if verdict is None else (("Can this be believed?", verdict.sentence),)


def write(path: Path, page: str) -> None:
    """Write a page, whole or not at all; one that is there is replaced. Raises ``OutputError``."""
    check_page(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(page, "utf-8")
        part.replace(path)
    except OSError as error:
        fault = os.strerror(error.errno) if error.errno else str(error)
        raise OutputError(f"{path}: cannot be written: {fault}; make room or name another place") from error
    finally:
        part.unlink(missing_ok=True)
