"""The verbs. Each parses, calls one function of one room, and prints what came back.

Nothing heavy is imported before a verb needs it: ``carina --help`` answers at once, and scoring
never loads torch. A ``CarinaError`` becomes one line on standard error and exit code 1; anything else
is our bug and keeps its traceback.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from carina import __version__
from carina.cli import (
    bundles,
    claims,
    decisions,
    learning,
    monitoring,
    people,
    pipelines,
    review,
    serving,
    sets,
    study,
    trust,
)
from carina.cli.options import Devices, Mlflow, Nodes, Precision
from carina.errors import CarinaError, MissingExtra

NOTICE = "Research use. Not a medical device. Every film must be read by a qualified person."

app = typer.Typer(
    name="carina",
    help=f"From folders of chest radiographs to a triage worklist that can be trusted.\n\n{NOTICE}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
app.add_typer(claims.app)
app.add_typer(learning.app)
app.add_typer(trust.app)
app.add_typer(decisions.app)
app.add_typer(sets.app)
app.add_typer(review.app)
app.add_typer(study.app)
app.add_typer(bundles.app)
app.add_typer(pipelines.app)
app.add_typer(serving.app)
app.add_typer(monitoring.app)
app.add_typer(people.app)


def main() -> None:
    """Run the command line; the entry point of the ``carina`` script."""
    try:
        app()
    except CarinaError as error:
        from carina.terminal import printable

        print(f"carina: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("carina: stopped", file=sys.stderr)
        raise SystemExit(130) from None


def _version(wanted: bool) -> None:
    if wanted:
        print(f"carina {__version__}\n{NOTICE}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Version and notice.")
    ] = False,
) -> None:
    """Options before the verb."""


@app.command()
def phantoms(
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist or be empty.")],
    per_class: Annotated[int, typer.Option(min=6, help="Films of each class, over all hospitals.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed gives the same films.")] = 0,
    confounded: Annotated[
        float, typer.Option(min=0, max=1, help="How far the hospital tells the class.")
    ] = 0.0,
    unseen: Annotated[int, typer.Option(min=0, help="Films of a fourth hospital, for scoring.")] = 24,
) -> None:
    """Make synthetic films of three hospitals, in three layouts, with known disease."""
    from carina.images.phantom import write_phantoms
    from carina.terminal import bars, output

    with bars() as tell:
        folders = write_phantoms(
            out, per_class=per_class, seed=seed, confounded=confounded, unseen=unseen, progress=tell
        )
    for name, folder in folders.items():
        output().print(f"{name:<12} {folder}", markup=False)


@app.command("compile")
def compile_(
    sources: Annotated[
        list[str], typer.Argument(metavar="[NAME=]PATH…", help="Sets to join; a bare PATH is recognised.")
    ],
    out: Annotated[Path, typer.Option(help="Catalogue folder to write.")],
    labels: Annotated[
        Path | None, typer.Option(help="TOML that maps labels to classes, over the default one.")
    ] = None,
    valid: Annotated[float, typer.Option(min=0, max=0.9, help="Share of films for validation.")] = 0.15,
    test: Annotated[float, typer.Option(min=0, max=0.9, help="Share of films kept for the test.")] = 0.15,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    split: Annotated[
        str, typer.Option(help="patient: no patient on two sides; image: the report's plain random split.")
    ] = "patient",
    views: Annotated[str, typer.Option(help="frontal, or all.")] = "frontal",
    min_age: Annotated[
        float | None, typer.Option(help="Leave out patients known to be younger (years).")
    ] = None,
    conflicts: Annotated[str, typer.Option(help="Copies with two labels: leave_out, or keep.")] = "leave_out",
    single_source: Annotated[
        str,
        typer.Option(help="Classes that one source alone has, whose look tells them: keep, or leave_out."),
    ] = "keep",
    hold_out: Annotated[
        list[str] | None,
        typer.Option(help="A source that is the whole test side, unseen in training; may be repeated."),
    ] = None,
    healthy: Annotated[
        list[str] | None, typer.Option(help="A class that means nothing was found; may be repeated.")
    ] = None,
    decisions: Annotated[
        Path | None, typer.Option(help="What a person decided about copies; see `carina review`.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that read films.")] = None,
) -> None:
    """Join many folders into one catalogue: copies grouped, patients never on two sides."""
    from carina.data.compile import compile as compile_sources
    from carina.terminal import bars, notes, output, show, table

    with bars() as tell:
        report = compile_sources(
            [_source(argument) for argument in sources], out,
            labels=labels, valid=valid, test=test, seed=seed,
            split=_one_of("--split", split, ("patient", "image")),
            views=_one_of("--views", views, ("frontal", "all")),
            min_age=min_age,
            conflicts=_one_of("--conflicts", conflicts, ("leave_out", "keep")),
            single_source=_one_of("--single-source", single_source, ("keep", "leave_out")),
            hold_out=hold_out or (), healthy=healthy, decisions=decisions, workers=workers, progress=tell,
        )  # fmt: skip
    columns, rows = report.table()
    show(output(), table(columns, rows))
    if reasons := report.reasons():
        output().print()
        show(output(), table(("source", "left out or merged because", "files"), reasons))
    for warning in report.warnings:
        notes().print(f"warning: {warning}", markup=False)
    output().print(f"\n{report.summary()}", markup=False)
    if report.verdict is not None:
        output().print(f"verdict     {report.verdict.sentence}", markup=False)
    output().print(f"catalogue   {out}", markup=False)
    if report.near_groups or report.conflict_groups:
        notes().print(f"near copies side by side, for a person to decide: carina review {out}", markup=False)


@app.command()
def train(
    catalogue: Annotated[Path, typer.Argument(help="Folder that `carina compile` wrote.")],
    recipe: Annotated[Path, typer.Option(help="TOML recipe.")],
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run of the same recipe is resumed.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key; may be repeated."),
    ] = None,
    devices: Devices = 1,
    nodes: Nodes = 1,
    precision: Precision = "auto",
    mlflow: Mlflow = None,
) -> None:
    """Train a classifier by transfer learning and export it as a bundle."""
    from carina.terminal import bars, output

    try:
        from carina.training.devices import one_voice
        from carina.training.tracking import followed
        from carina.training.train import train as train_run
    except ModuleNotFoundError as error:
        raise MissingExtra("carina train", "train") from error

    with one_voice() as speaks, bars(drawn=speaks) as tell, followed(mlflow, out, tell) as hear:
        bundle = train_run(
            catalogue,
            recipe,
            out,
            overrides=tuple(set_ or ()),
            devices=devices,
            nodes=nodes,
            precision=precision,
            progress=hear,
        )
    if speaks:
        output().print(f"\nbundle      {bundle}", markup=False)


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder that `carina train` exported.")],
    catalogue: Annotated[Path, typer.Argument(help="Folder that `carina compile` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json, predictions.parquet and report.html.")],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "valid",
    run: Annotated[
        Path | None,
        typer.Option(help="Run folder, for its training curves; found by itself beside the bundle."),
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="Whose operating points are tested; the only site's by default.")
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(help="Write the bundle with these figures on its card: a new folder, or its own."),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Ask again with films framed, exposed and shrunk otherwise; nine times as long.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Say what a bundle may claim on films it was not trained on."""
    from carina.evaluation.evaluate import evaluate as evaluate_bundle
    from carina.terminal import bars, output

    with bars() as tell:
        result = evaluate_bundle(
            bundle,
            catalogue,
            split=_one_of("--split", split, ("train", "valid", "test")),
            out=out,
            run=run,
            site=site,
            card=card,
            robust=robustness,
            seed=seed,
            progress=tell,
        )
    for line in result.lines():
        output().print(line, markup=False)
    output().print(f"\nreport      {out / 'report.html'}", markup=False)


@app.command()
def score(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Films, folders, globs, zip archives.")],
    model: Annotated[Path, typer.Option(help="Bundle folder.")],
    out: Annotated[
        Path | None, typer.Option(help="Table to write: .csv, .jsonl or .parquet; one row a film.")
    ] = None,
    heatmaps: Annotated[Path | None, typer.Option(help="Folder for one overlay PNG a film.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads.")] = None,
    top: Annotated[int, typer.Option(min=0, help="Films to list here, most suspicious first.")] = 50,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a table that was stopped; nothing is scored twice.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check/--no-check", help="Refuse what is no film that this model was made for."),
    ] = True,
    sets: Annotated[
        bool, typer.Option("--sets", help='Add the classes that cannot be ruled out: "TB or Other Findings".')
    ] = False,
    site: Annotated[
        str | None, typer.Option(help="Whose prediction sets, and whose corrected probabilities.")
    ] = None,
    prevalence: Annotated[
        float | None,
        typer.Option(
            help="Add the corrected probability of disease where this share of people has it: 0.05."
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="local: this machine; ray: a cluster, for millions.")] = "local",
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Of a running Ray cluster; else one is started here."),
    ] = None,
) -> None:
    """Score new films. What cannot be read is listed as refused, never as normal."""
    from carina import lines
    from carina.cli.engines import named, scoring

    if resume and out is None:
        raise typer.BadParameter("there is nothing to resume without --out", param_hint="--resume")
    if site is not None and not sets and prevalence is None:
        why = (
            "a site has prediction sets (--sets) and corrected probabilities (--prevalence); a film is "
            "judged by its threshold with carina triage"
        )
        raise typer.BadParameter(why, param_hint="--site")
    score_films = scoring(_one_of("--engine", engine, ("local", "ray")), out, heatmaps, cluster, prevalence)
    from carina.terminal import bars, notes, output

    bundle: Any = model
    floors = later = None
    if sets or prevalence is not None:
        from carina.scoring.bundle import Bundle
        from carina.scoring.operating import DEFAULT_SITE, posterior, prediction_sets

        bundle, site = Bundle.open(model), site or DEFAULT_SITE
        floors = prediction_sets(bundle, site) if sets else None
        later = posterior(bundle, site, prevalence) if prevalence is not None else None
    try:
        with bars() as tell:
            summary = score_films(
                named(paths),
                bundle,
                threads=threads,
                top=top,
                resume=resume,
                check=check,
                sets=floors,
                progress=tell,
                **({} if later is None else {"posterior": later}),
            )
    except KeyboardInterrupt as stop:  # typer would end without a word
        print("; ".join(["carina: stopped", *getattr(stop, "__notes__", ())]), file=sys.stderr)
        raise typer.Exit(130) from None
    for line in lines.refusals(summary):
        notes().print(line, markup=False)
    for line in lines.results(summary, out or "--top"):
        output().print(line, markup=False)
    for line in lines.totals(summary, paths, out):
        notes().print(line, markup=False)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder of the demonstration; an earlier one there is replaced.")
    ] = Path("demo"),
    per_class: Annotated[int, typer.Option(min=12, help="Synthetic films of each class.")] = 150,
    open_report: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the report in a browser, if there is one.")
    ] = True,
) -> None:
    """Walk the whole road on synthetic films, printing each command before it runs."""
    from carina.demo import serving_lines, start_over, steps
    from carina.terminal import output

    start_over(out)
    for line in steps(out, per_class=per_class):
        output().print(f"\n$ carina {' '.join(line)}", style="bold", markup=False)
        app(list(line), standalone_mode=False)
    report = (out / "evaluation" / "report.html").resolve()
    output().print(f"\nThe report: {report}\n{NOTICE}", markup=False)
    output().print(
        "\nThe hospital side; films are sent from a second terminal, or dragged onto the page:", markup=False
    )
    for words in serving_lines(out):
        output().print(f"$ {words}", style="bold", markup=False, soft_wrap=True)
    if open_report and sys.stdout.isatty():
        typer.launch(report.as_uri())


def _source(argument: str) -> Path | tuple[str, Path]:
    """``NAME=PATH`` or a bare ``PATH``; a path that exists as it stands is a path."""
    name, mark, path = argument.partition("=")
    if not mark or Path(argument).exists() or not re.fullmatch(r"[\w.-]+", name):
        return Path(argument).expanduser()
    return name, Path(path).expanduser()


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(allowed)}", param_hint=option)
    return value
