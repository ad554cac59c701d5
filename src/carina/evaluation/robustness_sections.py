"""The section of the page, and the lines of a terminal, on films framed and exposed otherwise. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from carina.evaluation.blocks import Block, Paragraph, Section, Table
from carina.evaluation.bootstrap import Rate
from carina.evaluation.promises import Held
from carina.evaluation.robustness import CHANGES, Changed
from carina.evaluation.wording import DASH, area_value, exactly, interval, percent

_TITLE = "The same films, framed, exposed or shrunk otherwise"


def robustness(changed: Sequence[Changed]) -> Section:
    """Area, recall and specificity under each change; and what each operating point of the site would do."""
    if not changed:
        return Section("robustness", _TITLE)
    undone = set(CHANGES).difference(each.change for each in changed)
    text = (
        "The square that the network sees, changed one way each: what another hand at the collimator, "
        "another machine and another resize would do. A threshold is chosen on films as they are; where "
        "recall or specificity gives way here while the area holds, it will not hold where films are framed "
        "so. The figures say which changes this network has learned to look past, and nothing of a hospital."
    )
    if undone:
        text += " Not asked, as the preparation takes it away before the network sees the film: "
        text += f"{'; '.join(name for name in CHANGES if name in undone)}."
    rows = tuple(
        (
            each.change,
            DASH if each.area.value is None else f"{area_value(each.area)} ({interval(each.area)})",
            _rate(each.recall),
            _rate(each.specificity),
        )
        for each in changed
    )
    caption = "A film counts as called diseased when the most probable class is any disease."
    head = ("Films", "Area under ROC", "Recall of disease", "Specificity")
    blocks: list[Block] = [Paragraph(text), Table(caption, head, rows)]
    if changed[0].points:
        blocks.append(_points_table(changed))
    return Section("robustness", _TITLE, tuple(blocks))


def lines(changed: Sequence[Changed]) -> tuple[str, ...]:
    """What a terminal shows: where most is missed, where fewest are spared, which promises would break."""
    if not changed:
        return ()
    usual, *others = changed
    said = [
        _worst("recall of disease", usual.recall, [(each.recall, each.change) for each in others]),
        _worst("specificity", usual.specificity, [(each.specificity, each.change) for each in others]),
        *(
            f"the {exactly(point.target)} promise would be broken: {'; '.join(where)}"
            for place, point in enumerate(usual.points)
            if (where := [each.change for each in others if each.points[place].verdict == "broken"])
        ),
    ]
    known = [each for each in said if each]
    labels = ["Framed or exposed otherwise", *[""] * len(known)]
    return tuple(f"{label:<31} {each}" for label, each in zip(labels, known, strict=False))


def _worst(what: str, usual: Rate, others: Sequence[tuple[Rate, str]]) -> str:
    """The lowest of the rates and the change that it comes of; empty where nothing could be measured."""
    known = [(rate.value, change) for rate, change in others if rate.value is not None]
    if usual.value is None or not known:
        return ""
    least, change = min(known, key=lambda each: each[0])
    if least >= usual.value:
        return f"{what} nowhere below {percent(usual.value)}"
    return f"{what} {percent(least)} with {change}; as they are {percent(usual.value)}"


def _points_table(changed: Sequence[Changed]) -> Table:
    head = ["Films"]
    for point in changed[0].points:
        head += [f"{exactly(point.target)}: found", "spared"]
    rows = [[each.change, *(cell for point in each.points for cell in _cells(point))] for each in changed]
    points = [point for each in changed for point in each.points]
    caption = (
        "The operating points of the site: people found of the diseased (where each disease was promised by "
        "itself, of the one found worst), spared of the healthy. “Broken”: even the upper limit of what is "
        "found lies below the target."
    )
    if any(point.verdict == "not tested" for point in points):
        caption += " The thresholds were chosen on some of these films, which can only break a promise."
    return Table(caption, tuple(head), tuple(map(tuple, rows)))


def _cells(point: Held) -> tuple[str, str]:
    met = [each for each in point.classes.values() if each.people]
    found = met[0] if point.per_class and met else point.sensitivity
    said = f"{percent(found.value)} ({found.hits:,} of {found.people:,})"
    spared = point.specificity
    return (
        f"{said}, broken" if point.verdict == "broken" else said,
        f"{percent(spared.value)} ({spared.hits:,} of {spared.people:,})",
    )


def _rate(rate: Rate) -> str:
    return DASH if rate.value is None else f"{percent(rate.value)} ({interval(rate)})"
