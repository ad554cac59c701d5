"""Which films a catalogue takes in: plain frontal radiographs, and children only where wanted.

Pure: facts in, a code and a reason out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_RADIOGRAPHY = frozenset(
    {"CR", "DX", "DR", "RG", "SC", "OT", "X-RAY", "XRAY"}
)  # SC, OT: a film that was scanned
# DICOM PS3.3 C.8.1.3 (LL, RL, LLO, RLO …) and the words of public tables; decubitus films are frontal
_SIDEWAYS = re.compile(r"^(L|R|LL|RL|LLO|RLO|LAO|RAO|LPO|RPO|(LEFT |RIGHT )?LAT(ERAL)?\b.*|.*\bOBLIQUE\b.*)$")

Answer = tuple[str, str]  # code, reason


@dataclass(frozen=True, slots=True)
class Admission:
    """What is asked of a film."""

    views: Literal["frontal", "all"] = "frontal"
    min_age: float | None = None

    def why_not(
        self,
        *,
        view: str | None,
        age: float | None,
        child: bool = False,
        oldest: float | None = None,
        modality: str | None = None,
    ) -> Answer | None:
        """Why a film stays out, as a code and a sentence; None when it comes in.

        ``age`` in years. ``child`` and ``oldest`` (the greatest age in the whole set) decide where the
        film's own age is unknown. What is unknown keeps nobody out.
        """
        if modality and modality.upper() not in _RADIOGRAPHY:
            return "not_a_radiograph", f"modality {modality}: not a plain radiograph"
        if self.views == "frontal" and is_sideways(view):
            return "not_frontal", f"view {view}: not frontal; --views all takes such films in"
        if self.min_age is not None:
            if age is not None and age < self.min_age:
                return "too_young", f"age {age:g} is below {self.min_age:g}"
            if age is None and child:
                return "too_young", f"a child by its name; below {self.min_age:g}"
            if age is None and oldest is not None and oldest < self.min_age:
                return "too_young", f"its set holds ages up to {oldest:g}; below {self.min_age:g}"
        return None


def is_sideways(view: str | None) -> bool:
    """Whether a view is stated and is lateral or oblique."""
    return view is not None and bool(_SIDEWAYS.match(view.strip().upper()))
