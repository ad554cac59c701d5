"""The section of the page, and the lines of a terminal, on films framed and exposed otherwise. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from carina.evaluation.blocks import Block, Paragraph, Section, Table
from carina.evaluation.bootstrap import Rate
from carina.evaluation.promises import Held
from carina.evaluation.robustness import Changed
from carina.evaluation.wording import DASH, area_value, exactly, interval, percent

_TITLE = "The same films, framed, exposed or shrunk otherwise"


def robustness(changed: Sequence[Changed]) -> Section:
    """Area, recall and specificity under each change; and what each operating point of the site would do."""
    if not changed:
        return Section("robustness", _TITLE)
    text = (
        "The square that the network sees, changed one way each: what another hand at the collimator, "
        "another machine and another resize would do. A threshold is chosen on films as they are; where "
        "recall or specificity gives way here while the area holds, it will not hold where films are framed "
        "so. The figures say which changes this network has learned to look past, and nothing of a hospital."
    )
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
    """Under which change most is missed, and under which most healthy films are called diseased."""
    label = "Worst when framed otherwise"
    said = []
    for what, rates in (
        ("recall of disease", [(each.recall, each.change) for each in changed]),
        ("specificity", [(each.specificity, each.change) for each in changed]),
    ):
        known = [(rate.value, change) for rate, change in rates if rate.value is not None]
        if known:
            least, change = min(known)
            usual = percent(known[0][0])
            said.append(f"{label:<31} {what} {percent(least)} ({change}); as they are {usual}")
            label = ""
    return tuple(said)


def _points_table(changed: Sequence[Changed]) -> Table:
    head = ["Films"]
    for point in changed[0].points:
        head += [f"{exactly(point.target)}: found", "spared"]
    rows = [[each.change, *(cell for point in each.points for cell in _cells(point))] for each in changed]
    caption = (
        "The operating points of the site: people found of the diseased, spared of the healthy. “Broken”: "
        "even the upper limit of what is found lies below the target."
    )
    return Table(caption, tuple(head), tuple(map(tuple, rows)))


def _cells(point: Held) -> tuple[str, str]:
    found = percent(point.sensitivity.value)
    return f"{found}, broken" if point.verdict == "broken" else found, percent(point.specificity.value)


def _rate(rate: Rate) -> str:
    return DASH if rate.value is None else f"{percent(rate.value)} ({interval(rate)})"
