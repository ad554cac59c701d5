"""The sections of the page on whom the model fails, which films it would refuse, and its sets. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from carina.evaluation.blocks import Block, Paragraph, Section, Table
from carina.evaluation.bootstrap import Rate
from carina.evaluation.conformal import SetsHeld
from carina.evaluation.predictions import Predictions
from carina.evaluation.subgroups import Subgroup
from carina.evaluation.wording import DASH, counted, exactly, interval, percent

_KINDS = {"age": "Age", "sex": "Sex", "view": "View", "source": "Source"}


def subgroups(groups: Sequence[Subgroup]) -> Section:
    """Recall and specificity of each group; of each kind the worst recall first."""
    title = "Whom it fails: age, sex, view, source"
    if not groups:
        return Section("groups", title)
    rows = tuple(
        (
            f"{_KINDS.get(each.kind, each.kind)}: {each.name}",
            _counted(each.recall),
            _rate(each.recall),
            _counted(each.specificity),
            _rate(each.specificity),
        )
        for each in groups
    )
    caption = (
        "A film counts as called diseased when the most probable class is any disease. Of each kind the "
        "worst recall stands first; wide intervals mean that little is known. Intervals: 95 %, resampled by "
        "patient."
    )
    head = ("Group", "Diseased films found", "Recall of disease", "Healthy films spared", "Specificity")
    return Section("groups", title, (Table(caption, head, rows),))


def abstained(predictions: Predictions) -> Section:
    """Which films a hospital would not have got a score for, by class and reason."""
    title = "Films that would be refused"
    if not predictions.abstained:
        return Section("refused", title)
    names = predictions.classes
    asked = [
        (names[label], code)
        for label, code, gone in zip(
            predictions.labels, predictions.abstained, predictions.refused, strict=True
        )
        if gone is None
    ]
    refused = [(name, code) for name, code in asked if code is not None]
    text = (
        f"{counted(len(refused), 'film')} of {len(asked):,} ({percent(len(refused) / len(asked))}) would be "
        "refused before their score counts, and shown as not analysed. They are in all figures of this page "
        "all the same, so that no refusal makes a figure look better."
    )
    blocks: list[Block] = [Paragraph(text)]
    if refused:
        rows = tuple(
            (code, *(f"{sum(each == (name, code) for each in refused):,}" for name in names), f"{count:,}")
            for code, count in Counter(code for _, code in refused).most_common()
        )
        blocks.append(Table("Films refused, by reason and true class.", ("Reason", *names, "All"), rows))
    return Section("refused", title, tuple(blocks))


def lines(predictions: Predictions) -> tuple[str, ...]:
    """What a terminal shows: how many films would be refused, and most often why."""
    if not predictions.abstained or not len(predictions.scored):
        return ()
    codes = Counter(code for code in predictions.abstained if code is not None)
    films, share = len(predictions.scored), percent(codes.total() / len(predictions.scored))
    why = f", most of them as {codes.most_common(1)[0][0]}" if codes else ""
    return (f"{'Would be refused':<31} {codes.total():,} of {counted(films, 'film')} ({share}){why}",)


def prediction_sets(sets: SetsHeld | None) -> Section:
    """How often the sets of a site hold the truth here."""
    title = "Sets of classes"
    if sets is None:
        return Section("sets", title)
    rows = tuple(
        (
            name,
            f"{each.hits:,} of {each.people:,}",
            percent(each.value),
            DASH if each.value is None else f"{100 * each.low:.1f}{DASH}{100 * each.high:.1f} %",
        )
        for name, each in sets.classes.items()
    )
    text = (
        f"Promised: for each class, the sets hold it for {exactly(sets.coverage)} of the people who have it, "
        f"on all their films. On these films a set has {sets.mean_size:.2f} classes on average, and "
        f"{percent(sets.single)} of the films get a single class."
    )
    head = ("Class", "People", "Covered", "95 % interval")
    return Section("sets", title, (Paragraph(text), Table("The worst stands first.", head, rows)))


def _rate(rate: Rate) -> str:
    return DASH if rate.value is None else f"{percent(rate.value)} ({interval(rate)})"


def _counted(rate: Rate) -> str:
    return DASH if rate.value is None else f"{rate.hits:,} of {rate.films:,}"
