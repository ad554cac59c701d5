"""The page of ``carina site-check``: do the thresholds of a site hold on these films?"""

from __future__ import annotations

from collections.abc import Sequence

from carina.evaluation.blocks import Block, Paragraph, Section
from carina.evaluation.claim_sections import classes_table, likeness_chart, points_table
from carina.evaluation.headline import Headline
from carina.evaluation.planner import lower_limit
from carina.evaluation.promises import Held
from carina.evaluation.report import believed, render_page
from carina.evaluation.site_check import SiteCheck
from carina.evaluation.stability import SHIFT
from carina.evaluation.wording import DASH, at_least, counted, exactly, percent


def render(found: SiteCheck, advice: Sequence[str]) -> str:
    """The page as one HTML text that refers to nothing outside itself; ``advice`` is what to do here."""
    first, *rest = (line.replace("  << ALARM", " (alarm)") for line in found.lines())
    alarm = found.verdict in ("broken", "shifted")
    return render_page(
        kicker="Carina · site check",
        title=f"Do the thresholds of {found.name} hold here?",
        lead=counted(found.refusals.films, "film"),
        headlines=(_recall(found), *_symptoms(found)),
        grade=None if found.believed is None else found.believed.grade,
        verdict=believed(found.believed) if alarm else (("Site check", first), *believed(found.believed)),
        warnings=(*((first,) if alarm else ()), *_useless(found)),
        sections=[_promises(found), _scores(found, rest), _advice(advice)],
    )


def _useless(found: SiteCheck) -> list[str]:
    """Points that are kept by flagging almost everybody."""
    return [
        f"The {exactly(each.target)} point is no better than drawing lots here: it spares "
        f"{each.specificity.hits:,} of {each.specificity.people:,} healthy people."
        for each in found.held
        if each.useless and each.specificity.people
    ]


def _recall(found: SiteCheck) -> Headline:
    """Recall at the highest point, with its limit and the people behind it; or what was shown at the site."""
    if not found.held:
        point = max(found.site.points, key=lambda each: each.target)
        shown = point.sensitivity
        return Headline(
            f"Recall of disease at the {exactly(point.target)} point",
            "not known",
            "",
            f"these films have no labels; shown at {found.name} by {shown.found:,} of {shown.people:,} "
            "diseased people",
            f"there at least {at_least(shown.limit)} at {exactly(point.confidence)} confidence",
        )
    top = max(found.held, key=lambda each: each.target)
    label = f"Recall of disease at the {exactly(top.target)} point"
    here = top.sensitivity
    if not here.people:
        return Headline(label, DASH, "", "no diseased person is among these films")
    return Headline(
        label,
        percent(here.value),
        _ends(top),
        f"{here.hits:,} of {here.people:,} diseased people found, {here.people - here.hits:,} missed: "
        f"{top.verdict}",
        f"at least {at_least(lower_limit(here.hits, here.people, top.confidence))} at "
        f"{exactly(top.confidence)} confidence",
    )


def _symptoms(found: SiteCheck) -> tuple[Headline, ...]:
    seen = found.refusals
    refused = Headline(
        "Films refused",
        percent(seen.refused / max(1, seen.films)),
        "",
        f"{seen.refused:,} of {seen.films:,}; at {found.name} {seen.refused_then:,} of {seen.films_then:,}",
    )
    if found.shift is None:
        return (refused,)
    behind = f"of the scores; from {SHIFT} on it matters"
    return Headline("Stability index", f"{found.shift.index:.2f}", "", behind), refused


def _promises(found: SiteCheck) -> Section:
    title = "What was promised, and what is found here"
    if not found.held:
        return Section("promises", title)
    caption = (
        "A diseased person is found when every film of the disease is flagged, a healthy one spared when no "
        f"film is. Shown: the lower limit of the sensitivity at {found.name}. Intervals: exact, 95 %."
    )
    top = max(found.held, key=lambda each: each.target)
    return Section("promises", title, (points_table(caption, found.held), classes_table(top)))


def _scores(found: SiteCheck, lines: Sequence[str]) -> Section:
    blocks: list[Block] = [Paragraph(line) for line in lines]
    if found.scores is not None and len(found.scores) and found.site.watch is not None:
        blocks.append(likeness_chart(found.site.watch, found.scores, found.diseased, found.site.points))
    return Section("scores", "What was seen", tuple(blocks))


def _advice(advice: Sequence[str]) -> Section:
    return Section("advice", "To calibrate here", tuple(Paragraph(line) for line in advice))


def _ends(point: Held) -> str:
    low, high = point.sensitivity.low or 0.0, point.sensitivity.high or 1.0
    return f"{100 * low:.1f} to {100 * high:.1f} %"
