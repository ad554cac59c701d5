"""The page of ``carina plan``: how many diseased people a claim needs, or what so many can show."""

from __future__ import annotations

from carina.evaluation.blocks import Block, Chart, Paragraph, Section, Table
from carina.evaluation.claim_figures import limits_by_positives
from carina.evaluation.figures import svg_data
from carina.evaluation.headline import Headline
from carina.evaluation.planner import allowed_misses, best_claim, needed
from carina.evaluation.planning import POSITIVE, Plan
from carina.evaluation.report import render_page
from carina.evaluation.wording import at_least, exactly, percent


def render(plan: Plan) -> str:
    """The page as one HTML text that refers to nothing outside itself."""
    return render_page(
        kicker="Carina · plan",
        title=plan.title,
        lead=POSITIVE,
        headlines=_needed(plan) if plan.positives is None else _shown(plan, plan.positives),
        sections=[_table(plan), _chart(plan)],
    )


def _needed(plan: Plan) -> list[Headline]:
    fewest, most = plan.requirements[0], plan.requirements[-1]
    headlines = [
        Headline(
            "Positives needed",
            f"{fewest.positives:,}",
            "",
            f"diseased people, {_missed(fewest.misses)}",
            f"then shown: at least {at_least(fewest.limit, plan.sensitivity)}",
        )
    ]
    if most is not fewest:
        headlines.append(
            Headline(f"With {most.misses:,} missed", f"{most.positives:,}", "", "positives needed")
        )
    if most.chance is not None and plan.expected is not None:
        behind = f"that such a study passes, at a true sensitivity of {exactly(plan.expected)}"
        headlines.append(Headline(f"Chance with {most.misses:,} missed", percent(most.chance), "", behind))
    if most.to_examine is not None and plan.prevalence is not None:
        behind = f"for these {most.positives:,}, on average, where {exactly(plan.prevalence)} are diseased"
        headlines.append(Headline("People to examine", f"{most.to_examine:,}", "", behind))
    return headlines


def _shown(plan: Plan, positives: int) -> list[Headline]:
    best = at_least(best_claim(positives, plan.confidence))
    allowed = allowed_misses(positives, plan.sensitivity, plan.confidence)
    carried = "none: too few people" if allowed is None else f"{allowed:,}"
    enough = needed(plan.sensitivity, plan.confidence)
    return [
        Headline("Sensitivity shown, at least", best, "", f"by {positives:,} of {positives:,} found"),
        Headline(
            f"Misses that still show {exactly(plan.sensitivity)}", carried, "", f"of {positives:,} positives"
        ),
        Headline(
            f"Needed for {exactly(plan.sensitivity)}", f"{enough:,}", "", "positives, none of them missed"
        ),
    ]


def _table(plan: Plan) -> Section:
    blocks: tuple[Block, ...] = (
        Table.of("", plan.table),
        *(Paragraph(line) for line in plan.lines if line != POSITIVE),
    )
    return Section("plan", "By misses", blocks)


def _chart(plan: Plan) -> Section:
    known = [missed for missed in plan.misses if plan.positives is None or missed <= plan.positives]
    drawn = limits_by_positives(known, plan.sensitivity, plan.confidence, plan.positives)
    said = "; ".join(
        f"{missed} missed: {needed(plan.sensitivity, plan.confidence, missed):,} positives"
        for missed in known
    )
    caption = (
        f"Exact binomial (Clopper and Pearson 1934), one-sided, at {exactly(plan.confidence)} confidence. "
        f"Rings: where {exactly(plan.sensitivity)} is shown."
    )
    chart = Chart(
        svg_data(drawn), f"Lower limit of the sensitivity over the number of positives. {said}.", caption
    )
    text = "A study that allows a few misses needs more people, and is far more likely to pass."
    return Section("limits", "What so many people show", (Paragraph(text), chart))


def _missed(misses: int) -> str:
    return f"{misses:,} of them missed" if misses else "none of them missed"
