"""The verbs of what may be claimed: plan, calibrate, bayes, simulate.

They stand at the top level beside those of the road (``carina plan``, not ``carina claims plan``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carina.cli.reports import Report, write_report
from carina.errors import ClaimError

app = typer.Typer()


@app.command()
def plan(
    sensitivity: Annotated[float, typer.Option(help="The sensitivity to be shown.")] = 0.99,
    confidence: Annotated[float, typer.Option(help="One-sided confidence of the claim.")] = 0.95,
    misses: Annotated[str, typer.Option(help="Misses to allow for, with commas between.")] = "0,1,2,5",
    positives: Annotated[
        int | None, typer.Option(help="Turn it round: what can so many positives show?")
    ] = None,
    expected: Annotated[
        float | None, typer.Option(help="The sensitivity you believe in: how likely does a study pass?")
    ] = None,
    prevalence: Annotated[
        float | None, typer.Option(help="Share of diseased people: how many must be examined?")
    ] = None,
    report: Report = None,
) -> None:
    """How many diseased patients a claim needs, or what so many can show (exact binomial)."""
    from carina.evaluation import planning
    from carina.terminal import output, show, table

    asked = planning.plan(
        sensitivity, confidence, _whole_numbers(misses),
        positives=positives, expected=expected, prevalence=prevalence,
    )  # fmt: skip
    output().print(f"{asked.title}:\n", markup=False)
    show(output(), table(*asked.table))
    for line in asked.lines:
        output().print(f"\n{line}", markup=False)
    if report is not None:
        from carina.evaluation import plan_page

        write_report(report, plan_page.render(asked))


@app.command()
def calibrate(
    bundle: Annotated[Path, typer.Argument(help="Folder that `carina train` exported.")],
    catalogue: Annotated[Path, typer.Argument(help="Folder that `carina compile` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Bundle to write: the same model with its operating points; BUNDLE-SITE by default."
        ),
    ] = None,
    target_sensitivity: Annotated[
        list[float] | None, typer.Option(help="To be shown, such as 0.95 (the default); may be repeated.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="One-sided confidence of each promise.")] = 0.95,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Keep the target for every disease by itself.")
    ] = False,
    site: Annotated[
        str, typer.Option(help="Whose films these are: a threshold does not travel.")
    ] = "default",
    split: Annotated[
        str, typer.Option(help="Side of the catalogue: valid, test, or all films that are new to the model.")
    ] = "valid",
    prevalence: Annotated[
        str | None, typer.Option(help="Share of diseased people where it will be used: 0.05, or 12/240.")
    ] = None,
    coverage: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="Of prediction sets: how often they hold the truth.")
    ] = 0.9,
    report: Report = None,
) -> None:
    """Choose thresholds whose sensitivity is shown, on films that are new to the model."""
    from carina.evaluation.bayes import share
    from carina.evaluation.calibrate import calibrate as calibrate_bundle
    from carina.evaluation.wording import exactly
    from carina.terminal import bars, notes, output, show, table

    local = share(prevalence, "the prevalence") if prevalence is not None else None
    with bars() as tell:
        done = calibrate_bundle(
            bundle, catalogue,
            targets=target_sensitivity or [0.95], confidence=confidence, per_class=per_class,
            site=site, split=split, out=out, coverage=coverage, progress=tell,
        )  # fmt: skip
    for warning in done.warnings:
        notes().print(f"warning: {warning}", markup=False)
    output().print(
        f"Operating points for {done.name!r}, at {exactly(confidence)} confidence; a film is flagged when "
        "p_disease ≥ threshold.\n",
        markup=False,
    )
    show(output(), table(*done.table()))
    output().print(f"\n{done.verdict.sentence}", markup=False)
    for point in done.site.points:
        output().print(
            f"\nEach disease at the {exactly(point.target)} point, the worst first:\n", markup=False
        )
        show(output(), table(*done.classes(point)))
    if local is not None:
        output().print(f"\nWhere {local.of_people} are diseased:\n", markup=False)
        show(output(), table(*done.at_prevalence(local)))
    for line in done.probabilities():
        output().print(f"\n{line}", markup=False)
    for reason in done.refused:
        notes().print(f"\nrefused  {reason}", markup=False)
    if report is not None:
        from carina.evaluation import calibration_page

        write_report(report, calibration_page.render(done, local))
    output().print(f"\nbundle      {done.bundle.root}", markup=False)


@app.command()
def bayes(
    prevalence: Annotated[
        str, typer.Option(help="Where the tests are used: 0.05, or counts such as 12/240.")
    ],
    tests: Annotated[str, typer.Option(help="The results in a row: +, --, +-+ …")],
    sensitivity: Annotated[
        list[str] | None, typer.Option(help="0.95, or counts: 95/100. Once for all tests, or one each.")
    ] = None,
    specificity: Annotated[list[str] | None, typer.Option(help="As the sensitivity.")] = None,
    paired: Annotated[
        Path | None, typer.Option(help="CSV of people who had both tests: columns truth, first, second.")
    ] = None,
    dependence: Annotated[
        float | None, typer.Option(help="How far two tests err together: 0 not at all, 1 as far as can be.")
    ] = None,
    covariance: Annotated[
        str | None, typer.Option(metavar="ILL,WELL", help="Conditional covariances, where they are known.")
    ] = None,
    same_film: Annotated[
        bool, typer.Option("--same-film", help="The results are of one film by one model.")
    ] = False,
    chart: Annotated[Path | None, typer.Option(help="SVG file: the probability at every prevalence.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draws behind credible intervals.")] = 0,
    report: Report = None,
) -> None:
    """What a row of test results means for one patient, with the dependence between tests."""
    from carina.evaluation.posteriors import answer
    from carina.terminal import output, show, table

    said = answer(
        prevalence, tests, sensitivity or (), specificity or (), paired=paired, dependence=dependence,
        covariance=covariance, same_film=same_film, seed=seed,
    )  # fmt: skip
    show(output(), table(*said.table))
    for line in said.lines:
        output().print(f"\n{line}", markup=False)
    if chart is not None or report is not None:
        from carina.evaluation import bayes_page

        if chart is not None:
            bayes_page.write_chart(said, chart)
        if report is not None:
            write_report(report, bayes_page.render(said))


@app.command()
def simulate(
    config: Annotated[Path, typer.Option(help="TOML file of the department; docs/examples has one.")],
    model: Annotated[
        Path | None, typer.Option(help="Calibrated bundle: its measured recalls and specificity are taken.")
    ] = None,
    site: Annotated[str, typer.Option(help="Whose operating points.")] = "default",
    target_sensitivity: Annotated[float | None, typer.Option(help="Which of them; the highest.")] = None,
    report: Report = None,
) -> None:
    """Simulate your department: who waits how long, with and without an ordered list."""
    from carina.evaluation import waiting
    from carina.evaluation.department import read_department
    from carina.evaluation.simulate import simulate as simulate_department
    from carina.terminal import bars, output, show, table

    point, verdict = None, None
    if model is not None:
        from carina.evaluation.belief import of_site
        from carina.scoring.bundle import Bundle
        from carina.scoring.operating import operating_point

        bundle = Bundle.open(model)
        point = operating_point(bundle, site, target_sensitivity)
        verdict = of_site(bundle, site)
    department = read_department(config, point)
    with bars() as tell:
        done = simulate_department(department, progress=tell)
    for line in (waiting.about(done), *waiting.rates(done)):
        output().print(line, markup=False)
    if verdict is not None:
        output().print(f"Can this be believed? {verdict.sentence}", markup=False)
    for policy in waiting.shown(done):
        output().print(f"\n{policy.name}\n", style="bold", markup=False)
        show(output(), table(*waiting.table(done, policy)))
    output().print("\nall that was tried\n", style="bold", markup=False)
    show(output(), table(*waiting.caps(done)))
    for line in waiting.lines(done):
        output().print(f"\n{line}", markup=False)
    if report is not None:
        from carina.evaluation import department_page

        write_report(report, department_page.render(done, verdict))


def _whole_numbers(text: str) -> list[int]:
    try:
        numbers = [int(word) for word in text.split(",") if word.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        raise ClaimError(f"{text!r}: misses are whole numbers with commas between, such as 0,1,2,5")
    return numbers
