"""The page of ``carina migrate``: operating points of another model, shown anew; films that change side."""

from __future__ import annotations

from carina.evaluation import calibration_page
from carina.evaluation.blocks import Block, Chart, Paragraph, Section, Table
from carina.evaluation.headline import Headline
from carina.evaluation.migrate import Migration
from carina.evaluation.report import believed, render_page
from carina.evaluation.score_figures import old_against_new
from carina.evaluation.wording import at_least, counted, exactly, percent
from carina.scoring.operating import OperatingPoint

_MOST = 200  # films listed


def render(done: Migration) -> str:
    """The page as one HTML text that refers to nothing outside itself."""
    new = _new(done)
    return render_page(
        kicker="Carina · migration",
        title=f"Another model for {done.name}",
        lead=f"Shown anew on {counted(done.films, 'film')} that are new to {done.bundle.root.name}",
        headlines=_headlines(done, new),
        grade=done.verdict.grade,
        verdict=believed(done.verdict),
        warnings=(*done.warnings, *(f"Refused: {reason}" for reason in done.refused)),
        sections=[_points(done, new), _films(done, new), _changed(done)],
    )


def _new(done: Migration) -> OperatingPoint:
    """The highest point that was shown anew; a migration without one was refused."""
    point = done.top.new
    assert point is not None
    return point


def _headlines(done: Migration, new: OperatingPoint) -> tuple[Headline, ...]:
    lost = sum(case.diseased and not case.flagged for case in done.cases)
    return (
        *calibration_page.headlines(new)[:2],
        Headline(
            "Films that change side",
            f"{len(done.cases):,}",
            "",
            f"of {done.films:,}; {lost:,} of them diseased and no longer flagged",
        ),
    )


def _points(done: Migration, new: OperatingPoint) -> Section:
    text = (
        "A threshold of the old model means nothing on the scores of the new one. Kept as it is: what it "
        "would do. Mapped: the threshold below which the same share of films lies; it carries no promise. "
        "Shown anew: what these films show for the new model, which alone is written."
    )
    rows = [
        (
            name,
            percent(recall.value),
            f"{recall.found:,} of {recall.people:,}",
            at_least(recall.limit) if recall.people else "nothing is known",
        )
        for name, recall in new.classes.items()
    ]
    head = ("Disease", "Recall", "People found", "At least")
    caption = f"Each disease by the new model at the {exactly(new.target)} point, the worst first."
    blocks: tuple[Block, ...] = (
        Paragraph(text),
        Table.of(f"Operating points of {done.name!r}.", done.table()),
        Table.of(caption, (head, rows)),
    )
    return Section("points", "Operating points, shown anew", blocks)


def _films(done: Migration, new: OperatingPoint) -> Section:
    top = done.top
    chart = Chart(
        old_against_new(
            done.old_scores, done.new_scores, done.diseased, top.old.threshold, new.threshold, top.mapped
        ),
        f"Scores of {counted(done.films, 'film')} by the old and the new model. {done.lines()[0]}",
        f"The {exactly(new.target)} point. Upper left: newly flagged. Lower right: no longer flagged.",
    )
    said = tuple(Paragraph(line) for line in done.lines())
    return Section("films", "Which films change side", (*said, chart))


def _changed(done: Migration) -> Section:
    head, rows = done.changed()
    more = f" The first {_MOST} of {len(rows):,}." if len(rows) > _MOST else ""
    title = "Films that change side, one by one"
    if not rows:
        return Section("changed", title, (Paragraph("None."),))
    caption = f"Diseased films that are no longer flagged stand first.{more}"
    return Section("changed", title, (Table.of(caption, (head, rows[:_MOST]), numeric=2),))
