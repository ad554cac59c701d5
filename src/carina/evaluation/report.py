"""The page of an evaluation: one self-contained file that a doctor can read and a printer can print.

Puts the headline and the sections into the template; knows how they are put together, not what they
say. Everything is escaped: class and file names come from strangers.
"""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from carina.evaluation.headline import headlines
from carina.evaluation.sections import SECTIONS, Evidence

NOTICE = (
    "Carina is not a medical device. This page is for research; it is no basis for the care of a patient."
)


def render(evidence: Evidence) -> str:
    """The page as one HTML text that refers to nothing outside itself."""
    environment = Environment(
        loader=PackageLoader("carina.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [section for make in SECTIONS if (section := make(evidence)).blocks]
    return environment.get_template("report.html.j2").render(
        evidence=evidence, headlines=headlines(evidence.metrics), sections=sections, notice=NOTICE
    )
