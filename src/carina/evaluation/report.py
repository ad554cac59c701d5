"""The page of an evaluation or an audit: one self-contained file that a doctor can read and print.

Puts headline, verdict and sections into the template; knows how they are put together, not what they
say. Everything is escaped: class and file names come from strangers.
"""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from carina.data.confounding.verdict import Grade
from carina.evaluation.belief import LABELS
from carina.evaluation.blocks import Section
from carina.evaluation.headline import Headline, headlines
from carina.evaluation.sections import SECTIONS, Evidence

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
        verdict=evidence.belief.lines(),
        warnings=evidence.warnings,
        sections=[make(evidence) for make in SECTIONS],
    )


def render_page(
    *,
    kicker: str,
    title: str,
    lead: str,
    headlines: Sequence[Headline],
    grade: Grade,
    verdict: Sequence[tuple[str, str]],
    warnings: Sequence[str],
    sections: Sequence[Section],
) -> str:
    """A page; ``verdict`` is lines of (label, text) that stand below the headline figures."""
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
        grade=grade,
        grade_label=LABELS[grade],
        verdict=verdict,
        warnings=warnings,
        sections=[section for section in sections if section.blocks],
        notice=NOTICE,
    )
