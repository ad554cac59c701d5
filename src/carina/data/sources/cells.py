"""What the cells of public tables mean: ages, sexes, views, blanks.

Pure text in, facts out; ``None`` where the cell does not say.
"""

from __future__ import annotations

import re

from carina.data.sources.layout import Row

_BLANK = frozenset({"", "nan", "na", "n/a", "none", "null", "unknown", "?", "-"})
_AGE = re.compile(r"(?<![\d.,])(?<!^-)(?<!\s-)(\d+(?:[.,]\d+)?)\s*(y|m|w|d)?", re.IGNORECASE)
_DATE = re.compile(r"\d+[./-]\d+[./-]\d+")
_PER_YEAR = {"y": 1.0, "m": 12.0, "w": 52.1775, "d": 365.25}


def cell(row: Row, *names: str) -> str:
    """The first of the named columns that says something; ``""`` when none does."""
    for name in names:
        value = row.get(name, "").strip()
        if value.casefold() not in _BLANK:
            return value
    return ""


def age_in_years(text: str) -> float | None:
    """``060Y`` → 60, ``9M`` → 0.75, ``45yrs`` → 45, ``50+`` and ``early 50s`` → 50 (the bound they state).

    None where there is no number, where it is no human age (ChestX-ray14 holds 414), and where it is a
    negative number (a code for "not known") or a date.
    """
    match = _AGE.search(text.strip())
    if match is None or _DATE.search(text):
        return None
    years = float(match[1].replace(",", ".")) / _PER_YEAR[(match[2] or "y").lower()]
    return round(years, 4) if 0 <= years <= 120 else None


def sex_letter(text: str) -> str | None:
    """``M``, ``F`` or None."""
    word = text.strip().casefold()
    if word in {"m", "male", "man", "boy"}:
        return "M"
    if word in {"f", "female", "w", "woman", "girl"}:
        return "F"
    return None


def view_word(text: str) -> str | None:
    """A view in upper case, ``L`` and ``lat`` spelled out as ``LATERAL``; None where nothing is said."""
    word = re.sub(r"[\s_-]+", " ", text).strip().upper()
    if word.casefold() in _BLANK:
        return None
    return "LATERAL" if word in {"L", "LAT", "LATERAL"} else word


def patient_id(text: str) -> str | None:
    """A patient's number as text; ``12.0`` (a number that passed through a spreadsheet) → ``12``."""
    value = re.sub(r"^(\d+)\.0+$", r"\1", text.strip())
    return None if value.casefold() in _BLANK else value
