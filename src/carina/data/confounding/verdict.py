"""The verdict: may a figure that is measured on these films be read as skill? The written rules.

The rules are explained in ``docs/audit.md``; change both together, and raise ``RULES``. Pure: areas
in, a grade and a sentence out. What cannot be told never becomes a reassuring verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from carina.data.confounding.baselines import DISEASE, Baseline

RULES = 3
DOUBTFUL, CONFOUNDED = 0.65, 0.80  # lower limit of the area of something that is not the lungs
RULED_OUT = 0.80  # sound only where every upper limit is below
FACT_DOUBTFUL = 0.80  # age, sex, view: disease may well depend on them, so they never confound alone
ENOUGH = 20  # patients of each class
_SAME = 0.05  # areas this close are told apart by which says more about the cause

SEES = {  # in the order in which they explain each other: the first that suffices is named
    "source": "the source of a film alone",
    "header": "the header of the file alone",
    "marks": "burnt-in lettering alone",
    "border": "the border of the film alone (outer 12 %)",
    "blacked_out": "the film with the lungs blacked out",
    "grain": "the sharpness of the film's margins alone",
    "view": "the view (PA or AP) alone",
    "age": "the age of the patient alone",
    "sex": "the sex of the patient alone",
    "thumbnail": "an 8 × 8 thumbnail of the film",
}
JUDGED = ("source", "header", "marks", "border", "blacked_out", "grain")
FACTS = ("view", "age", "sex")
_IN_PICTURES = ("marks", "border", "blacked_out", "grain")


class Grade(StrEnum):
    """From the gravest to the only reassuring one."""

    CONFOUNDED = "confounded"
    DOUBTFUL = "doubtful"
    UNKNOWN = "unknown"
    SOUND = "sound"


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that tells a class without the lungs. ``detail`` is the fact within a header."""

    baseline: str
    row: str  # class, or DISEASE
    value: float
    low: float
    high: float
    grade: Grade
    detail: str | None = None
    source: str | None = None  # where it holds among the films of one source only

    def words(self) -> str:
        """``the border of the film alone (outer 12 %) tells COVID-19 (AUC 0.98)``."""
        where = f"among films of {self.source}, " if self.source is not None else ""
        what = SEES[self.baseline] + (f" ({self.detail})" if self.detail else "")
        return f"{where}{what} tells {_told(self.row)} (AUC {area(self.value)})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A grade, one sentence, what speaks for it, and what could not be told."""

    grade: Grade
    sentence: str
    reasons: tuple[Reason, ...] = ()  # what explains most stands first
    untold: tuple[str, ...] = ()
    quick: bool = False  # the pictures were not looked at

    def to_dict(self) -> dict[str, Any]:
        """Plain data for manifests."""
        return {"rules": RULES, **asdict(self), "reasons": [asdict(each) for each in self.reasons]} | {
            "untold": list(self.untold)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """The inverse of ``to_dict``. Raises KeyError, TypeError or ValueError for anything else."""
        reasons = tuple(
            Reason(**{**each, "grade": Grade(each["grade"])}) for each in values.get("reasons", ())
        )
        return cls(
            Grade(values["grade"]),
            str(values["sentence"]),
            reasons,
            tuple(map(str, values.get("untold", ()))),
            bool(values.get("quick", False)),
        )


@dataclass(frozen=True, slots=True)
class Extent:
    """What the films are, counted: how much a verdict could rest on."""

    patients: Mapping[str, int]  # class → patients with their copies
    sources: Mapping[str, int]  # source → the same
    healthy: tuple[str, ...]
    single_source: Mapping[str, str]  # class → its only source, where there are several sources
    unstated: Mapping[str, float]  # age, view, sex → share of films that do not state it


def judge(baselines: Sequence[Baseline], extent: Extent, *, quick: bool = False) -> Verdict:
    """The verdict by the written rules."""
    reasons = _ranked([reason for each in baselines for reason in _reasons(each)])
    untold, open_questions = _untold(baselines, extent, quick)
    if reasons:
        grade = min((each.grade for each in reasons), key=list(Grade).index)
    else:
        grade = Grade.UNKNOWN if open_questions else Grade.SOUND
    sentence = _SENTENCES[grade](reasons, open_questions, baselines, extent)
    return Verdict(grade, sentence, tuple(reasons), tuple(untold), quick)


def area(value: float) -> str:
    """``0.98``; 0.996 is not said as 1.00."""
    return f"{min(value, 0.99) if value < 1 else value:.2f}"


def _reasons(baseline: Baseline) -> list[Reason]:
    found = []
    for row, figure in baseline.rows.items():
        if figure.value is None or figure.low is None or figure.high is None:
            continue
        grade = _grade(baseline.key, figure.low)
        if grade is not None:
            detail = _telling_part(baseline, row)
            found.append(Reason(baseline.key, row, figure.value, figure.low, figure.high, grade, detail))
    return [*found, *_within(baseline, {each.row for each in found})]


def _within(baseline: Baseline, known: set[str]) -> list[Reason]:
    """What tells a class among the films of one source and not over all films: doubtful, no more."""
    if baseline.key not in JUDGED:
        return []
    return [
        Reason(baseline.key, row, figure.value, figure.low, figure.high, Grade.DOUBTFUL, source=source)
        for source, rows in baseline.within.items()
        for row, figure in rows.items()
        if row not in known
        and figure.value is not None
        and figure.low is not None
        and figure.high is not None
        if figure.low >= CONFOUNDED
    ]


def _grade(key: str, low: float) -> Grade | None:
    if key in JUDGED and low >= DOUBTFUL:
        return Grade.CONFOUNDED if low >= CONFOUNDED else Grade.DOUBTFUL
    if key in FACTS and low >= FACT_DOUBTFUL:
        return Grade.DOUBTFUL
    return None


def _telling_part(baseline: Baseline, row: str) -> str | None:
    """The first of the facts that tells the row nearly as well as the best of them."""
    values = {name: rows[row].value or 0.0 for name, rows in baseline.parts.items() if row in rows}
    best = max(values.values(), default=0.0)
    return next((name for name, value in values.items() if value >= best - _SAME / 2), None)


def _ranked(reasons: Sequence[Reason]) -> list[Reason]:
    """Gravest grade first; then what explains the rest, if it tells as much as the strongest does."""
    order, keys = list(Grade), list(SEES)
    ranked: list[Reason] = []
    for grade in order:
        of = [each for each in reasons if each.grade is grade]
        best = max((each.value for each in of), default=0.0)
        strength = {key: max((e.value for e in of if e.baseline == key), default=0.0) for key in keys}
        of.sort(key=lambda e: (strength[e.baseline] < best - _SAME, keys.index(e.baseline), -e.value))
        ranked.extend(of)
    return ranked


def _untold(baselines: Sequence[Baseline], extent: Extent, quick: bool) -> tuple[list[str], list[str]]:
    """Everything that could not be told, and the part of it that forbids a reassuring verdict."""
    open_questions = []
    classes = [name for name, count in extent.patients.items() if count]
    if len(classes) < 2:
        open_questions.append("there is one class only" if classes else "there are no films")
    if len(extent.sources) < 2:
        open_questions.append("all films come from one source, so nothing is known of any other")
    if not extent.healthy:
        open_questions.append("no class means healthy")
    elif len(classes) > 1 and set(classes) <= set(extent.healthy):
        open_questions.append("no class means disease")
    few = [f"{name} ({count})" for name, count in extent.patients.items() if count < ENOUGH]
    if few and len(classes) > 1:
        open_questions.append(f"fewer than {ENOUGH} patients of {_listed(few)}")
    lone = [name for name, count in extent.sources.items() if count == 1]
    if lone and len(extent.sources) > 1:
        each = _listed(lone) if len(lone) < 4 else f"each of {len(lone)} sources"
        open_questions.append(f"a single patient from {each}")
    open_questions.extend(_unmeasured(baselines, extent, quick))
    facts = [
        f"{fact} is not stated for {round(100 * share)} % of the films"
        for fact, share in extent.unstated.items()
        if share > 0.5
    ]
    return [*open_questions, *facts], open_questions


def _unmeasured(baselines: Sequence[Baseline], extent: Extent, quick: bool) -> list[str]:
    """What was not looked at, and what was but left room for a strong shortcut."""
    found = ["the pictures were not looked at (carina audit does)"] if quick else []
    by_key = {each.key: each for each in baselines}
    for key in JUDGED:
        each = by_key.get(key)
        if each is None or (key == "source" and len(extent.sources) < 2):
            continue
        if each.why and each.why != "too few patients":
            found.append(f"{SEES[key]} was not measured ({each.why})")
    wide = sorted(
        {
            _told(row)
            for key in JUDGED
            if key in by_key
            for row, figure in by_key[key].rows.items()
            if figure.high is not None and figure.low is not None and figure.low < DOUBTFUL
            if figure.high >= RULED_OUT
        }
    )
    if wide:
        found.append(f"too few films to rule out that something else tells {_listed(wide)}")
    return found


def _confounded(
    reasons: Sequence[Reason], _: Sequence[str], baselines: Sequence[Baseline], extent: Extent
) -> str:
    grave = [each for each in reasons if each.grade is Grade.CONFOUNDED]
    single = _single(extent)
    others = _IN_PICTURES if grave[0].baseline not in _IN_PICTURES else ("marks",)  # letters also are border
    seen = next((each for each in grave if each.baseline in others), None)
    shows = f"; {seen.words()} as well" if seen and seen.baseline != grave[0].baseline else ""
    return (
        f"Confounded: {_said(grave)}{single}{shows}. Figures measured on these films cannot be read as skill "
        "in reading lungs."
    )


def _doubtful(
    reasons: Sequence[Reason], _: Sequence[str], baselines: Sequence[Baseline], extent: Extent
) -> str:
    return (
        f"Doubtful: {_said(reasons)}, where guessing gives 0.50{_single(extent)}. Part of any figure "
        "measured on these films may be skill at something other than lungs."
    )


def _unknown(
    _: Sequence[Reason], open_questions: Sequence[str], baselines: Sequence[Baseline], extent: Extent
) -> str:
    asked = f"Cannot be told whether figures on these films are skill: {'; '.join(open_questions)}"
    return f"{asked}{_single(extent)}."


def _sound(_: Sequence[Reason], __: Sequence[str], baselines: Sequence[Baseline], extent: Extent) -> str:
    values = [
        figure.value
        for each in baselines
        if each.key in JUDGED
        for figure in each.rows.values()
        if figure.value is not None
    ]
    return (
        "Sound, as far as this audit sees: nothing outside the lungs tells a class better than AUC "
        f"{area(max(0.5, *values))} over all films, where guessing gives 0.50."
    )


_SENTENCES = {
    Grade.CONFOUNDED: _confounded,
    Grade.DOUBTFUL: _doubtful,
    Grade.UNKNOWN: _unknown,
    Grade.SOUND: _sound,
}


def _said(reasons: Sequence[Reason]) -> str:
    """The first reason, and how many more classes the same thing tells."""
    first = reasons[0]
    more = {each.row for each in reasons if each.baseline == first.baseline} - {first.row, DISEASE}
    also = f" and {len(more)} more {'class' if len(more) == 1 else 'classes'}" if more else ""
    return first.words() + also


def _single(extent: Extent) -> str:
    """The classes that one source alone has: a fact, however few the films are."""
    alone = [f"{name} comes from {source} only" for name, source in extent.single_source.items()]
    return f"; {_listed(alone)}" if 0 < len(alone) <= 2 else f"; {_many(extent)}" if alone else ""


def _many(extent: Extent) -> str:
    count = len(extent.single_source)
    return f"{count} of {len(extent.patients)} classes come from one source each"


def _told(row: str) -> str:
    return "disease from health" if row == DISEASE else row


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
