"""How values are written for people: names, dates, waits, shares. The templates' filters.

Pure. What a header says is passed on as text; escaping is the templates' work.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from carina.scoring.triage import score_text
from carina.serving.schema import Rank, Study
from carina.serving.worklist import Row

RANK_WORDS: dict[int, str] = {
    Rank.NOW: "now",
    Rank.SOON: "soon",
    Rank.NOT_ANALYSED: "not analysed",
    Rank.NOT_FLAGGED: "not flagged",
    Rank.LIKELY_CLEAR: "not flagged",
}
RANK_MARKS: dict[int, str] = {  # a shape for each, so that colour never stands alone
    Rank.NOW: "▲▲",
    Rank.SOON: "▲",
    Rank.NOT_ANALYSED: "?",
    Rank.NOT_FLAGGED: "–",
    Rank.LIKELY_CLEAR: "–",
}
_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})")


def person_name(value: str | None) -> str:
    """A DICOM person name (PN, PS3.5 6.2.1.2) for reading: ``Yamada, Tarou · 山田 太郎``.

    The alphabetic group as "family, given middle"; the ideographic one, where there is one, after it.
    """
    if not value or not value.strip("^= "):
        return "no name"
    groups = [_components(group) for group in value.split("=")]
    shown = []
    for place, parts in enumerate(groups[:2]):
        family, rest = parts[0], " ".join(filter(None, parts[1:3]))
        if place == 0:
            shown.append(", ".join(filter(None, (family, rest))))
        else:
            shown.append(" ".join(filter(None, (family, rest))))
    return " · ".join(filter(None, shown)) or "no name"


def _components(group: str) -> list[str]:
    return [part.strip() for part in group.split("^")]


def date(value: str | None) -> str:
    """A DICOM date (DA) as ISO 8601; anything else as it is."""
    match = _DATE.fullmatch(value.strip()) if value else None
    return "-".join(match.groups()) if match else (value or "")


def time(value: datetime | str | None) -> Markup:
    """``2026-11-23 08:15`` UTC, marked so that a browser writes it in its own zone. Text in ISO 8601 too."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return escape(value)
    if value is None:
        return Markup()
    moment = (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
    stamp = '<time datetime="{}">{}</time>'
    return Markup(stamp).format(f"{moment:%Y-%m-%dT%H:%M:%SZ}", f"{moment:%Y-%m-%d %H:%M}")  # nosec B704


def wait(seconds: float | None) -> str:
    """A wait at arm's length: ``45 s``, ``12 min``, ``3 h 05``, ``2 d 4 h``."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d}"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def share(value: float | None, digits: int = 0) -> str:
    """``37 %``; nothing for None."""
    return "" if value is None else f"{100 * value:.{digits}f} %"


def score(value: float | None) -> str:
    """Three digits, never rounded into certainty."""
    return "" if value is None else score_text(value)


def size(value: int) -> str:
    """``8.4 MB``."""
    return f"{value / 1e6:.1f} MB" if value >= 100_000 else f"{value / 1e3:.0f} kB"


def state(study: Study | Row) -> str:
    """What has become of a study, in a word or two."""
    if study.read_at is not None:
        return f"read by {study.read_by or 'somebody'}"
    if study.outcome is None:
        return "arriving" if study.state == "receiving" else "waiting for analysis"
    return "analysed" if study.p_disease is not None else "needs a reader"


def years(study: Study | Row) -> str:
    """``67 y, F`` of age and sex, as far as they are known."""
    age = "" if study.age is None else f"{study.age:.0f} y" if study.age >= 2 else f"{12 * study.age:.0f} mo"
    return ", ".join(filter(None, (age, study.sex)))


def detail(value: Any) -> str:
    """What stands beside an entry of the audit log, in words: ``films 3, studies 1; 2``."""
    if isinstance(value, dict):
        told = ((str(key).replace("_", " "), detail(each)) for key, each in value.items() if each is not None)
        return ", ".join(f"{key} {each}" for key, each in told)
    if isinstance(value, list | tuple):
        return "; ".join(map(detail, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def plain(value: Any) -> Any:
    """A value for JSON: times in ISO 8601, everything else as it is."""
    return value.isoformat() if isinstance(value, datetime) else value


STEPS = {  # of the roll-out, and what happens on each
    "audit": "The model is held against films that were read here. Its results go nowhere.",
    "silent": "What comes in is scored, and what it would have done is measured. Its results go nowhere.",
    "prioritise": "Studies are ordered by it, and results go out.",
    "rule-out suggestion": "Some unflagged studies are marked “likely clear”. An alarm takes that back.",
}
STATED = {  # evidence by its name: what a form calls it, and whether it is a number
    "diseased": ("People with disease in the audit", True),
    "found": ("How many of them it found", True),
    "report": ("Where the audit is written down", False),
    "approved_by": ("Who answers for it", False),
    "reason": ("Why", False),
}
