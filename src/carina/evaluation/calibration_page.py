"""The page of ``carina calibrate``: which sensitivity was shown at which threshold, by how many people."""

from __future__ import annotations

from carina.evaluation.bayes import Share
from carina.evaluation.blocks import Block, Paragraph, Section, Table
from carina.evaluation.calibrate import Calibration, counted_rates
from carina.evaluation.claim_sections import flag
from carina.evaluation.headline import Headline
from carina.evaluation.report import believed, render_page
from carina.evaluation.wording import at_least, counted, exactly, listed, percent
from carina.scoring.operating import OperatingPoint


def render(done: Calibration, prevalence: Share | None = None) -> str:
    """The page as one HTML text that refers to nothing outside itself."""
    top = max(done.site.points, key=lambda point: point.target)
    films = counted(done.site.films, "film")
    return render_page(
        kicker="Carina · calibration",
        title=f"Operating points for {done.name}",
        lead=f"Shown on {films} of {listed(done.site.sources)}, split “{done.site.split}”",
        headlines=headlines(top),
        grade=done.verdict.grade,
        verdict=believed(done.verdict),
        warnings=(*done.warnings, *(f"Refused: {reason}" for reason in done.refused)),
        sections=[_points(done, prevalence), _diseases(done), _flag(top), _probabilities(done)],
    )


def headlines(point: OperatingPoint) -> tuple[Headline, ...]:
    """Recall with its limit and the people behind it, then its price."""
    found, spared = point.sensitivity, point.specificity
    return (
        Headline(
            f"Recall of disease at the {exactly(point.target)} point",
            percent(found.value),
            "",
            f"{found.found:,} of {found.people:,} diseased people found, "
            f"{found.people - found.found:,} missed",
            f"at least {at_least(found.limit)} at {exactly(point.confidence)} confidence",
        ),
        Headline(
            "Specificity",
            percent(spared.value),
            f"{100 * spared.low:.1f} to {100 * spared.high:.1f} %",
            f"{spared.spared:,} of {spared.people:,} healthy people spared",
        ),
        Headline(
            "Films below the threshold", percent(point.share_below), "", f"of {point.films:,} films here"
        ),
    )


def _points(done: Calibration, prevalence: Share | None) -> Section:
    text = (
        "A film is flagged when p_disease is at or above the threshold: the highest one whose lower "
        "confidence limit of sensitivity stays at the target, with the search paid for. A person counts "
        "once, by the worst film. A threshold belongs to this model and to this site."
    )
    blocks: list[Block] = [Paragraph(text), Table.of("", done.table())]
    if prevalence is not None:
        caption = f"Where {prevalence.of_people} are diseased. 95 % credible intervals."
        blocks.append(Table.of(caption, done.at_prevalence(prevalence)))
    return Section("points", "Which sensitivity was shown", tuple(blocks))


def _diseases(done: Calibration) -> Section:
    tables = tuple(
        Table.of(f"At the {exactly(point.target)} point.", done.classes(point)) for point in done.site.points
    )
    text = "Each disease by itself, the worst first: a high recall of all may hide a low one of one."
    return Section("diseases", "Each disease", (Paragraph(text), *tables))


def _flag(point: OperatingPoint) -> Section:
    test = counted_rates(point)
    return Section(
        "meaning", "What a flag means for one person", () if test is None else flag(point.target, test)
    )


def _probabilities(done: Calibration) -> Section:
    said = tuple(Paragraph(line) for line in done.probabilities())
    return Section("probabilities", "Do the probabilities mean what they say?", said)
