"""The sections of the page on what may be claimed: points, a flag, likeness, probabilities. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from carina.evaluation.bayes import Share, Test, predictive_values
from carina.evaluation.blocks import Block, Chart, Paragraph, Section, Table
from carina.evaluation.calibration import Reliability
from carina.evaluation.claim_figures import posterior_curves, reliability_diagram
from carina.evaluation.curves import apart
from carina.evaluation.figures import svg_data
from carina.evaluation.metrics import disease_probability
from carina.evaluation.people import Scores
from carina.evaluation.predictions import Predictions
from carina.evaluation.promises import Claims, Found, Held
from carina.evaluation.score_figures import scores_beside
from carina.evaluation.stability import SHIFT
from carina.evaluation.wording import DASH, METHODS, at_least, chance, counted, exactly, luck, percent
from carina.scoring.operating import OperatingPoint, Watch

PREVALENCES = (0.01, 0.05, 0.10, 0.30)


def operating_points(claims: Claims | None) -> Section:
    """What was promised, and what is found here; the worst disease first; PPV and NPV by prevalence."""
    title = "What was promised, and what is found here"
    if claims is None or not claims.points:
        return Section("promises", title)
    caption = (
        f"Operating points of {claims.site!r}. A diseased person is found when every film of the disease is "
        "flagged (p_disease ≥ threshold), a healthy one spared when no film is. Shown: the lower limit of "
        "the sensitivity where the threshold was chosen. Intervals: exact, 95 %."
    )
    blocks: list[Block] = [Paragraph(line) for line in spoken(claims)]
    blocks += [points_table(caption, claims.points), classes_table(_top(claims.points))]
    return Section("promises", title, tuple(blocks))


def meaning(claims: Claims | None) -> Section:
    """What a flag and its absence mean for one person, over the prevalence; asking twice adds nothing."""
    title = "What a flag means for one person"
    if claims is None or not claims.points:
        return Section("meaning", title)
    top = _top(claims.points)
    if not top.sensitivity.people or not top.specificity.people:
        return Section("meaning", title)
    return Section("meaning", title, flag(top.target, _test(top)))


def flag(target: float, test: Test) -> tuple[Block, ...]:
    """What a flag means at one point whose rates were counted on people: text, chart, table."""
    ill, well = test.sensitivity, test.specificity
    curves = (
        apart("flagged", [test], "+"),
        apart("flagged twice, as if independent", [test], "++", naive=True),
        apart("not flagged", [test], "-"),
    )
    text = (
        f"How likely disease is after a flag, and after none, at the {exactly(target)} point; it depends "
        "on how many people are diseased where the model is used. The same film through the same model again "
        "adds nothing. Another test adds what it errs for reasons of its own: multiplied as if independent "
        "(dashed), two results overstate. carina bayes --paired counts how far two tests err together."
    )
    chart = Chart(
        svg_data(posterior_curves(curves)),
        "Probability of disease over the prevalence, flagged and not flagged; the figures are in the table.",
        f"Counted: {ill.hits:,} of {ill.total:,} diseased people found, {well.hits:,} of {well.total:,} "
        "healthy people spared. Bands: 95 % credible intervals.",
    )
    return Paragraph(text), chart, _by_prevalence(target, test)


def likeness(claims: Claims | None, predictions: Predictions) -> Section:
    """Whether these films score like those of the site, as ``carina site-check`` asks."""
    title = "Are these films like those of the site?"
    if claims is None or claims.watch is None or claims.shift is None:
        return Section("likeness", title)
    rows = predictions.scored
    scores = disease_probability(predictions.probabilities[rows], predictions.sick)
    ill = predictions.sick[predictions.labels[rows]]
    shift = claims.shift
    found = "They are not" if shift.alarm else "Nothing seen says that they are not; that is no proof"
    if shift.explained is not None:
        found = "They differ by how many are ill only; a sensitivity does not depend on that"
    whose, now, then = shift.medians
    text = (
        f"{found}. Median score{whose} {now}, at {claims.site!r} {then}; "
        f"stability index {shift.index:.2f} (from {SHIFT} on it matters); chance that the difference is luck "
        f"{luck(shift.p_value)}."
    )
    return Section(
        "likeness", title, (Paragraph(text), likeness_chart(claims.watch, scores, ill, claims.points))
    )


def likeness_chart(
    watch: Watch, scores: Scores, ill: NDArray[np.bool_] | None, points: Sequence[Held | OperatingPoint]
) -> Chart:
    """Scores of films, (N,), beside those of the site; with labels, diseased and other films apart."""
    marks = [(exactly(point.target), point.threshold) for point in points]
    return Chart(
        scores_beside(watch, scores, ill, marks),
        f"Distribution of scores: {counted(len(scores), 'film')} here, {len(watch.scores):,} remembered "
        "scores of the site.",
        "How many films lie at or below each score. Upright: the thresholds, by target.",
    )


def points_table(caption: str, points: Sequence[Held]) -> Table:
    """One row for each operating point: what was shown, and what is found here."""
    rows = tuple(
        (
            exactly(point.target),
            at_least(point.promised),
            f"{point.threshold:.4f}",
            said(point.sensitivity),
            point.verdict,
            said(point.specificity),
            percent(point.below / point.films) if point.films else DASH,
        )
        for point in points
    )
    head = ("Target", "Shown", "Threshold", "Found here", "Promise", "Spared here", "Films below")
    return Table(caption, head, rows)


def classes_table(point: Held) -> Table:
    """Each disease at one point, the worst first."""
    return Table(
        f"Each disease at the {exactly(point.target)} point. The worst stands first.",
        ("Disease", "People found"),
        tuple((name, said(found)) for name, found in point.classes.items()),
    )


def first(claims: Claims | None) -> tuple[tuple[str, str], ...]:
    """What the first screen says of the highest operating point, as (label, text)."""
    if claims is None or not claims.points:
        return ()
    top = _top(claims.points)
    text = (
        f"{said(top.sensitivity)} diseased people; shown where it was chosen: at least "
        f"{at_least(top.promised)} at {exactly(top.confidence)} confidence; {top.verdict}; "
        f"specificity {said(top.specificity)}"
    )
    return ((f"Recall at the {exactly(top.target)} point of {claims.site}", text),)


def probabilities(claims: Claims | None) -> Section:
    """Whether the probabilities mean what they say, before and after the site's correction."""
    title = "Do the probabilities mean what they say?"
    if claims is None or claims.reliability is None:
        return Section("reliability", title)
    rows = [("as the network says", *_figures(claims.reliability))]
    if claims.corrected is not None:
        method = METHODS[claims.method or "none"]
        rows.append((f"corrected for {claims.site!r} by {method}", *_figures(claims.corrected)))
    head = ("Probabilities", "Calibration error", "By chance below", "Brier score", "Log loss")
    caption = (
        "Of p_disease; the log loss is of all classes. Even perfect probabilities show some calibration "
        "error: in 95 of 100 worlds it would be below the figure beside it."
    )
    chart = Chart(
        reliability_diagram(claims.reliability, claims.corrected),
        f"Reliability diagram: calibration error {claims.reliability.ece:.3f}"
        + (f", corrected {claims.corrected.ece:.3f}" if claims.corrected is not None else ""),
        "Ten groups of equally many films. Bars: 95 % interval, resampled by person.",
    )
    return Section("reliability", title, (Table(caption, head, tuple(rows)), chart))


def spoken(claims: Claims) -> tuple[str, ...]:
    """What must be read before the table: broken promises first."""
    lines = []
    broken = [exactly(point.target) for point in claims.points if point.verdict == "broken"]
    if broken:
        lines.append(
            f"The promise of {', '.join(broken)} is broken on these films: even the upper limit of what is "
            f"found lies below it. They are not like those of {claims.site!r}; calibrate on films from here."
        )
    if claims.same_films:
        lines.append("The thresholds were chosen on these very films, so they cannot test the promise.")
    return tuple(lines)


def lines(claims: Claims) -> tuple[str, ...]:
    """What a terminal shows: one line for each operating point."""
    return tuple(
        f"{f'Target {exactly(point.target)} ({claims.site})':<31} shown {at_least(point.promised)}; here "
        f"{said(point.sensitivity)}: {point.verdict}; specificity {said(point.specificity)}"
        for point in claims.points
    )


def said(found: Found) -> str:
    """``95.0 % (91.2–97.6 %), 190 of 200``."""
    if found.value is None or found.low is None or found.high is None:
        return DASH
    interval = f"{100 * found.low:.1f}{DASH}{100 * found.high:.1f} %"
    return f"{percent(found.value)} ({interval}), {found.hits:,} of {found.people:,}"


def _top(points: Sequence[Held]) -> Held:
    return max(points, key=lambda point: point.target)


def _test(point: Held) -> Test:
    ill, well = point.sensitivity, point.specificity
    return Test(
        Share("", ill.value or 0.0, ill.hits, ill.people),
        Share("", well.value or 0.0, well.hits, well.people),
    )


def _by_prevalence(target: float, test: Test) -> Table:
    rows = []
    for prevalence in PREVALENCES:
        values = predictive_values(test, Share("", prevalence))
        cells = [
            f"{chance(each.value)} ({chance(each.low or 0.0)} to {chance(each.high or 0.0)})"
            for each in (values.positive, values.negative)
        ]
        rows.append((exactly(prevalence), *cells))
    caption = (
        f"What a flag and its absence mean at the {exactly(target)} point, by the share of diseased "
        "people in the place of use (never that of these films). 95 % credible intervals."
    )
    return Table(
        caption, ("Prevalence", "Flagged and diseased (PPV)", "Unflagged and well (NPV)"), tuple(rows)
    )


def _figures(found: Reliability) -> tuple[str, ...]:
    return f"{found.ece:.3f}", f"{found.ece_by_chance:.3f}", f"{found.brier:.3f}", f"{found.log_loss:.3f}"
