"""What a bundle was made for, and whether a film's header says that it is something else.

Pure. What a header does not say keeps no film out; what it says and contradicts the intended use does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

from carina.errors import BundleError
from carina.records import FilmFacts
from carina.scoring.bundle import Bundle
from carina.scoring.contents import INTENDED_USE

SECTION = INTENDED_USE

# DICOM PS3.3 C.7.3.1.1.1: computed, digital and plain film radiography; SC and OT are scans of films
MODALITIES = ("CR", "DX", "DR", "RG", "SC", "OT", "X-RAY", "XRAY")
BODY_PARTS = ("CHEST", "THORAX", "LUNG", "LUNGS", "TORAX", "CHEST_TO_ABDOMEN", "PORT CHEST", "PORTABLE CHEST")
_FRONTAL = re.compile(
    r"^(PA|AP|AP SUPINE|AP ERECT|AP SEMI ERECT|FRONTAL|ANTERO-?POSTERIOR|POSTERO-?ANTERIOR)$"
)


@dataclass(frozen=True, slots=True)
class IntendedUse:
    """The films a bundle is meant for. ``ages`` are years of the patients it was taught with, if known.

    Raises ``ValueError`` for ages that are no range. A plain record: one film is scored before pydantic
    would be there.
    """

    modalities: tuple[str, ...] = MODALITIES
    body_parts: tuple[str, ...] = BODY_PARTS
    frontal_only: bool = True
    ages: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.ages is not None and not 0 <= self.ages[0] <= self.ages[1]:
            raise ValueError(f"ages {self.ages} are no range of years")

    @classmethod
    def of(cls, section: Any) -> Self:
        """From a bundle's section; raises ``ValueError``, ``TypeError`` or ``KeyError`` where it is none."""
        given = dict(section)
        for key in ("modalities", "body_parts"):
            if key in given:
                if not all(isinstance(each, str) for each in given[key]) or isinstance(given[key], str):
                    raise ValueError(f"{key} is no list of words")
                given[key] = tuple(given[key])
        if not isinstance(given.get("frontal_only", True), bool):
            raise ValueError("frontal_only is neither true nor false")
        if given.get("ages") is not None:
            youngest, oldest = given["ages"]
            given["ages"] = float(youngest), float(oldest)
        return cls(**given)

    def why_not(self, facts: FilmFacts) -> tuple[str, str] | None:
        """Code and reason where the header contradicts the intended use, else None."""
        modality, part, view = (_word(each) for each in (facts.modality, facts.body_part, facts.view))
        if modality and modality not in self.modalities:
            return "modality", f"its header says modality {modality}; this model reads plain radiographs"
        if part and part not in self.body_parts and "CHEST" not in part.replace("_", " ").split():
            return "body_part", f"its header says body part {part}; this model reads the chest"
        if self.frontal_only and view and not _FRONTAL.match(view):
            return "view", f"its header says view {view}; this model reads frontal films"
        if facts.age is not None and self.ages is not None and not self.ages[0] <= facts.age <= self.ages[1]:
            return "age", (
                f"its header says an age of {facts.age:.0f} years; this model was taught with "
                f"{self.ages[0]:.0f} to {self.ages[1]:.0f}"
            )
        return None


def intended_use(bundle: Bundle) -> IntendedUse:
    """What a bundle says it is for; frontal chest radiographs where it says nothing.

    Raises :class:`~carina.errors.BundleError` for a section that cannot be read.
    """
    try:
        return IntendedUse.of(bundle.sections.get(SECTION, {}))
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{bundle.root}: {SECTION}: {error}; export it again") from error


def _word(text: str | None) -> str:
    return " ".join(text.upper().split()) if text else ""
