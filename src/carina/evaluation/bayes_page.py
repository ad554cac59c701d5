"""The page of ``carina bayes``: what a row of results means for one person, and at every other prevalence."""

from __future__ import annotations

from pathlib import Path

from carina.errors import OutputError
from carina.evaluation.bayes import Estimate, Share
from carina.evaluation.blocks import Block, Chart, Paragraph, Section, Table
from carina.evaluation.claim_figures import posterior_curves
from carina.evaluation.figures import svg_data
from carina.evaluation.headline import Headline
from carina.evaluation.planner import lower_limit
from carina.evaluation.posteriors import Answer, interval
from carina.evaluation.report import render_page
from carina.evaluation.wording import DASH, at_least, chance, exactly

_CONFIDENCE = 0.95  # of a limit


def render(answer: Answer) -> str:
    """The page as one HTML text that refers to nothing outside itself."""
    (_, before), *_, (name, after) = answer.rows
    headlines = [Headline(f"Probability of disease after {name}", chance(after.value), _interval(after), "")]
    if len(answer.rows) > 2:
        between, value = answer.rows[-2]
        headlines.append(Headline(f"After {between}", chance(value.value), _interval(value), ""))
    headlines.append(Headline("Before any test", chance(before.value), _interval(before), "the prevalence"))
    return render_page(
        kicker="Carina · Bayes",
        title=f"What {answer.results} means for one person",
        lead=f"Where {answer.prevalence.of_people} are diseased",
        headlines=headlines,
        sections=[_answer(answer), _prevalences(answer), _rates(answer)],
    )


def write_chart(answer: Answer, path: Path) -> None:
    """The curves alone, as an SVG file. Raises ``OutputError``."""
    if path.suffix.lower() != ".svg":
        raise OutputError(f"{path}: a chart is written as .svg; choose this ending")
    try:
        path.write_bytes(posterior_curves(answer.curves, answer.prevalence.value))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); name another file") from error


def _answer(answer: Answer) -> Section:
    blocks: tuple[Block, ...] = (Table.of("", answer.table), *(Paragraph(line) for line in answer.lines))
    return Section("answer", "After each result", blocks)


def _prevalences(answer: Answer) -> Section:
    said = "; ".join(f"{name} {chance(each.value)}" for name, each in answer.rows[1:])
    bands = " Bands: 95 % credible intervals." if any(each.low is not None for each in answer.curves) else ""
    naive = " Dashed: multiplied as if independent." if any(each.naive for each in answer.curves) else ""
    chart = Chart(
        svg_data(posterior_curves(answer.curves, answer.prevalence.value)),
        f"Probability of disease over the prevalence; at {exactly(answer.prevalence.value)}: {said}.",
        f"The same results elsewhere. The dotted line is the prevalence of this page.{bands}{naive}",
    )
    text = "What a result means depends on how many people have the disease where the test is used."
    return Section("prevalence", "At every prevalence", (Paragraph(text), chart))


def _rates(answer: Answer) -> Section:
    """What went in: a rate is shown with its limit and the people behind it, or as stated."""
    several = len(answer.tests) > 1
    rows = [
        (f"{'test ' + str(number) + ', ' if several else ''}{what}", *_said(rate))
        for number, test in enumerate(answer.tests, 1)
        for what, rate in (("sensitivity", test.sensitivity), ("specificity", test.specificity))
    ]
    caption = f"At least: what the counts show at {exactly(_CONFIDENCE)} confidence (exact, one-sided)."
    head = ("Rate", "Value", "At least", "Behind it")
    return Section("rates", "The rates that went in", (Table.of(caption, (head, rows)),))


def _said(rate: Share) -> tuple[str, str, str]:
    if rate.hits is None or rate.total is None:
        return exactly(rate.value), DASH, "stated; no count behind it"
    limit = at_least(lower_limit(rate.hits, rate.total, _CONFIDENCE))
    return chance(rate.value), limit, f"{rate.hits:,} of {rate.total:,} people"


def _interval(estimate: Estimate) -> str:
    said = interval(estimate)
    return "" if said == "known" else said
