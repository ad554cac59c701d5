"""The sections of the page on what may be claimed: operating points, probabilities. Pure."""

from __future__ import annotations

from carina.evaluation.bayes import Share, Test, predictive_values
from carina.evaluation.blocks import Block, Chart, Paragraph, Section, Table
from carina.evaluation.calibration import Reliability
from carina.evaluation.claim_figures import reliability_diagram
from carina.evaluation.promises import Claims, Found, Held
from carina.evaluation.wording import DASH, METHODS, at_least, chance, exactly, percent

PREVALENCES = (0.01, 0.05, 0.10, 0.30)


def operating_points(claims: Claims | None) -> Section:
    """What was promised, and what is found here; the worst disease first; PPV and NPV by prevalence."""
    title = "What was promised, and what is found here"
    if claims is None or not claims.points:
        return Section("promises", title)
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
        for point in claims.points
    )
    head = ("Target", "Shown", "Threshold", "Found here", "Promise", "Spared here", "Films below")
    caption = (
        f"Operating points of {claims.site!r}. A diseased person is found when every film of the disease is "
        "flagged (p_disease ≥ threshold), a healthy one spared when no film is. Shown: the lower limit of "
        "the sensitivity where the threshold was chosen. Intervals: exact, 95 %."
    )
    blocks: list[Block] = [Paragraph(line) for line in spoken(claims)]
    blocks.append(Table(caption, head, rows))
    top = max(claims.points, key=lambda point: point.target)
    blocks.append(
        Table(
            f"Each disease at the {exactly(top.target)} point. The worst stands first.",
            ("Disease", "People found"),
            tuple((name, said(found)) for name, found in top.classes.items()),
        )
    )
    if top.sensitivity.people and top.specificity.people:
        blocks.append(_by_prevalence(top))
    return Section("promises", title, tuple(blocks))


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


def _by_prevalence(point: Held) -> Table:
    ill, well = point.sensitivity, point.specificity
    test = Test(
        Share("", ill.value or 0.0, ill.hits, ill.people),
        Share("", well.value or 0.0, well.hits, well.people),
    )
    rows = []
    for prevalence in PREVALENCES:
        values = predictive_values(test, Share("", prevalence), draws=20_000)
        cells = [
            f"{chance(each.value)} ({chance(each.low or 0.0)} to {chance(each.high or 0.0)})"
            for each in (values.positive, values.negative)
        ]
        rows.append((exactly(prevalence), *cells))
    caption = (
        f"What a flag and its absence mean at the {exactly(point.target)} point, by the share of diseased "
        "people in the place of use (never that of these films). 95 % credible intervals."
    )
    return Table(
        caption, ("Prevalence", "Flagged and diseased (PPV)", "Unflagged and well (NPV)"), tuple(rows)
    )


def _figures(found: Reliability) -> tuple[str, ...]:
    return f"{found.ece:.3f}", f"{found.ece_by_chance:.3f}", f"{found.brier:.3f}", f"{found.log_loss:.3f}"
