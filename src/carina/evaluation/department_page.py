"""The page of ``carina simulate``: what an ordered list gives, what it takes, and from whom."""

from __future__ import annotations

from carina.data.confounding.verdict import Verdict
from carina.evaluation import waiting
from carina.evaluation.blocks import Chart, Paragraph, Section, Table
from carina.evaluation.department import Counts, Department
from carina.evaluation.department_figures import a_day, waits_by_policy
from carina.evaluation.headline import Headline
from carina.evaluation.planner import lower_limit
from carina.evaluation.report import believed, render_page
from carina.evaluation.simulate import ANY, Figure, Policy, Simulation, row
from carina.evaluation.wording import DASH, at_least, exactly, percent

_CONFIDENCE = 0.95  # of the limit of a recall


def render(simulation: Simulation, verdict: Verdict | None) -> str:
    """The page as one HTML text that refers to nothing outside itself.

    ``verdict`` is that on the films the rates were measured on; None where the file assumes them.
    """
    here = simulation.department
    return render_page(
        kicker="Carina · simulation",
        title=f"An ordered list in {here.name}",
        lead=waiting.load(simulation),
        headlines=_headlines(simulation),
        grade=None if verdict is None else verdict.grade,
        verdict=believed(verdict),
        sections=[_policies(simulation), _waits(simulation), _inputs(simulation)],
    )


def _headlines(simulation: Simulation) -> tuple[Headline, ...]:
    plain = Policy(by_urgency=False)
    chosen = simulation.recommended or Policy(by_urgency=True)
    before, after = simulation.outcomes[plain], simulation.outcomes[chosen]
    mean = [row(each, ANY, missed=False).mean for each in (before, after)]
    longest = [row(each, ANY, missed=True).longest for each in (before, after)]
    worst = min(simulation.department.finding, key=lambda each: each.sensitivity)
    return (
        _waited("Flagged disease waits, mean", mean, chosen),
        _waited("Longest wait of missed disease", longest, chosen),
        Headline(
            f"Recall of {worst.name}",
            percent(worst.sensitivity),
            "",
            _behind(worst.measured),
            _limit(worst.measured),
        ),
    )


def _waited(label: str, figures: list[Figure], policy: Policy) -> Headline:
    before, after = figures
    if before.interval is None or after.interval is None:
        return Headline(label, DASH, "", "none was met")
    value, low, high = after.interval
    said = f"instead of {before.interval[0]:.0f} min; {policy.name}"
    return Headline(label, f"{value:.0f} min", f"{max(0.0, low):.0f} to {high:.0f} min", said)


def _policies(simulation: Simulation) -> Section:
    head, rows = waiting.caps(simulation)
    chart = Chart(
        waits_by_policy(simulation),
        "Waits in minutes by policy. "
        + "; ".join(" ".join(f"{h} {c}" for h, c in zip(head, each, strict=True)) for each in rows),
        "Points: mean of the repetitions; bars: 95 % interval. Filled: what is advised. Every policy meets "
        "the same films and the same reading times.",
    )
    said = tuple(Paragraph(line) for line in waiting.lines(simulation))
    return Section(
        "order", "What an order gives, and what it takes", (*said, chart, Table.of("Minutes.", (head, rows)))
    )


def _waits(simulation: Simulation) -> Section:
    text = (
        "Diseased people whom the model missed stand in rows of their own, because they pay for the gain. An "
        "overdue film is read before all but those that are urgent now: that is a place in the list, and no "
        "maximum."
    )
    tables = tuple(
        Table.of(
            f"{policy.name.capitalize()}: minutes until a reader opens the film.",
            waiting.table(simulation, policy),
        )
        for policy in waiting.shown(simulation)
    )
    return Section("waits", "Who waits how long", (Paragraph(text), *tables))


def _inputs(simulation: Simulation) -> Section:
    here = simulation.department
    chart = Chart(
        a_day(here),
        "Films that arrive by hour: " + ", ".join(f"{each:g}" for each in here.arrivals_per_hour),
        f"Bars: films that arrive, on average. Line: what the readers on duty can read; "
        f"{here.reading.mean_minutes:g} minutes a film on average.",
    )
    rows: list[tuple[str, ...]] = [
        (
            each.name,
            each.urgency,
            exactly(each.share),
            percent(each.sensitivity),
            _limit(each.measured) or DASH,
            _behind(each.measured),
        )
        for each in here.finding
    ]
    spared = here.model.specificity, here.model.measured
    rows.append(
        (
            "no finding",
            DASH,
            exactly(_rest(here)),
            percent(spared[0]),
            _limit(spared[1]) or DASH,
            _behind(spared[1]),
        )
    )
    head = ("Finding", "Urgency", "Share of films", "Recall; specificity", "Shown", "Behind it")
    caption = "Recall of each finding; for films without one the specificity."
    said = tuple(Paragraph(line) for line in waiting.rates(simulation))
    return Section("inputs", "What went in", (chart, Table.of(caption, (head, rows), numeric=2), *said))


def _rest(here: Department) -> float:
    return round(1 - sum(each.share for each in here.finding), 10)


def _limit(counts: Counts) -> str:
    if counts is None:
        return ""
    return f"at least {at_least(lower_limit(*counts, _CONFIDENCE))} at {exactly(_CONFIDENCE)} confidence"


def _behind(counts: Counts) -> str:
    return "assumed by the file" if counts is None else f"{counts[0]:,} of {counts[1]:,} people"
