"""The verbs of deciding: triage, site-check, migrate.

They stand at the top level beside those of the road (``carina triage``, not ``carina decisions triage``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carina.cli.reports import Report, write_report

app = typer.Typer()


@app.command()
def triage(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Films, folders, globs, zip archives.")],
    model: Annotated[Path, typer.Option(help="Bundle folder.")],
    site: Annotated[
        str | None, typer.Option(help="Whose films these are: a threshold does not travel.")
    ] = None,
    target_sensitivity: Annotated[
        float | None, typer.Option(help="Which of the site's operating points; the highest by default.")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="TOML file: how urgent each disease is; Carina's own by default.")
    ] = None,
    out: Annotated[
        list[Path] | None, typer.Option(help="Worklist to write: .csv, .json or .html; may be repeated.")
    ] = None,
    suggest_clear: Annotated[
        float | None,
        typer.Option(metavar="TARGET", help='Opt in: films below the point of TARGET are "likely clear".'),
    ] = None,
    withdrawn: Annotated[
        str | None, typer.Option(metavar="REASON", help='Make no "likely clear" at present, and say why.')
    ] = None,
    false_refusals: Annotated[
        float,
        typer.Option(min=0.01, max=0.5, help="Share of true films that may be refused, about 0.01 by look."),
    ] = 0.02,
    prevalence: Annotated[
        float | None,
        typer.Option(
            help="Add the corrected probability of disease where this share of people has it: 0.05."
        ),
    ] = None,
    monitor: Annotated[
        Path | None,
        typer.Option(help='What `site-check --out` wrote: unless it saw nothing, no "likely clear" is made.'),
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="Rows to print here.")] = 50,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads.")] = None,
) -> None:
    """Put films in the order in which a doctor should open them, and say why each stands there."""
    from carina.scoring.abstain import Gate
    from carina.scoring.bundle import Bundle
    from carina.scoring.monitor import withdrawal
    from carina.scoring.operating import DEFAULT_SITE, posterior
    from carina.scoring.policy import policy, read_rules
    from carina.scoring.triage import score_text
    from carina.scoring.triage_run import triage_films
    from carina.scoring.worklist_files import check_place, write_worklist
    from carina.terminal import bars, notes, output, printable, show, table

    for path in out or ():
        check_place(path)
    bundle = Bundle.open(model)
    if monitor is not None:
        withdrawn = withdrawn or withdrawal(monitor, bundle, site or DEFAULT_SITE)
    later = None if prevalence is None else posterior(bundle, site or DEFAULT_SITE, prevalence)
    chosen = policy(
        bundle, site=site, target=target_sensitivity, rules=read_rules(rules), clear=suggest_clear,
        withdrawn=withdrawn,
    )  # fmt: skip
    with bars() as tell:
        worklist = triage_films(
            paths, bundle, chosen, gate=Gate.of(bundle, false_refusals), threads=threads, progress=tell,
            posterior=later,
            pictures=any(path.suffix.lower() == ".html" for path in out or ()),
        )  # fmt: skip
    for warning in worklist.warnings:
        notes().print(f"warning: {printable(warning)}", markup=False)
    rows = [
        (
            number,
            each.label + (f" ({each.suggestion})" if each.suggestion else ""),
            each.finding or "",
            "" if each.p_disease is None else score_text(each.p_disease),
            *(() if later is None else ("" if each.posterior is None else score_text(each.posterior),)),
            each.path,
            each.because if each.p_disease is None else "",
        )
        for number, each in enumerate(worklist.decisions[:top], 1)
    ]
    if rows:
        added = () if later is None else ("posterior",)
        head = ("place", "decision", "suspected", "p_disease", *added, "film", "why not")
        show(output(), table(head, rows))
    if len(worklist.decisions) > len(rows):
        notes().print(f"… and {len(worklist.decisions) - len(rows):,} more; see --out or --top", markup=False)
    counts = ", ".join(f"{count:,} {label}" for label, count in worklist.counts.items())
    skipped = f"; {worklist.skipped:,} files are no films and were not tried" if worklist.skipped else ""
    notes().print(f"{counts}{skipped}", markup=False)
    for path in out or ():
        write_worklist(worklist, path)
        notes().print(f"worklist    {path}", markup=False)


@app.command("site-check")
def site_check(
    bundle: Annotated[Path, typer.Argument(help="Calibrated bundle.")],
    films: Annotated[
        list[str],
        typer.Argument(metavar="PATH…", help="Films of the place, or one catalogue: its labels count."),
    ],
    site: Annotated[str, typer.Option(help="Whose operating points are held against them.")] = "default",
    split: Annotated[str | None, typer.Option(help="Side of the catalogue; all films by default.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="JSON file for `triage --monitor`; replaced if it is there.")
    ] = None,
    report: Report = None,
) -> None:
    """Do the thresholds of a site hold on these films? Scores, refusals, and with labels the promise.

    Exit code 3 where they are broken or have shifted, 0 where nothing was seen or too few films can tell.
    """
    from carina.data.catalogue import MANIFEST, Catalogue
    from carina.evaluation.site_check import site_check as check
    from carina.scoring.monitor import check_place, write_finding
    from carina.terminal import bars, notes, output

    if out is not None:
        check_place(out)
    labelled = Path(films[0]) if len(films) == 1 and (Path(films[0]) / MANIFEST).exists() else None
    with bars() as tell:
        found = check(
            bundle, Catalogue.open(labelled) if labelled else films, site=site, split=split, progress=tell
        )
    advice = found.advice(bundle, labelled)
    for line in (*found.lines(), "", *advice):
        output().print(line, markup=False)
    if report is not None:
        from carina.evaluation import site_page

        write_report(report, site_page.render(found, advice))
    if out is not None:
        write_finding(found.finding(), out)
        notes().print(f"finding     {out}", markup=False)
    if found.verdict in ("broken", "shifted"):
        raise typer.Exit(3)


@app.command()
def migrate(
    old: Annotated[Path, typer.Argument(help="Calibrated bundle that is in use.")],
    new: Annotated[Path, typer.Argument(help="Bundle that is to replace it.")],
    catalogue: Annotated[Path, typer.Argument(help="Films of the site, new to the new model.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Bundle to write: the new model with points of its own; NEW-SITE by default."),
    ] = None,
    site: Annotated[str, typer.Option(help="Whose operating points.")] = "default",
    split: Annotated[
        str, typer.Option(help="Side of the catalogue: valid, test, or all films that are new to the model.")
    ] = "valid",
    top: Annotated[int, typer.Option(min=0, help="Films that change side to list.")] = 30,
    report: Report = None,
) -> None:
    """Show a site's operating points anew for another model; nothing is carried over silently."""
    from carina.evaluation.migrate import migrate as migrate_bundle
    from carina.terminal import bars, notes, output, show, table

    with bars() as tell:
        done = migrate_bundle(old, new, catalogue, out=out, site=site, split=split, progress=tell)
    for warning in done.warnings:
        notes().print(f"warning: {warning}", markup=False)
    show(output(), table(*done.table()))
    for line in (done.verdict.sentence, *done.lines()):
        output().print(f"\n{line}", markup=False)
    head, rows = done.changed()
    if rows[:top]:
        output().print()
        show(output(), table(head, rows[:top]))
    if len(rows) > top:
        notes().print(f"… and {len(rows) - top:,} more; see --report or --top", markup=False)
    for reason in done.refused:
        notes().print(f"\nrefused  {reason}", markup=False)
    if report is not None:
        from carina.evaluation import migration_page

        write_report(report, migration_page.render(done))
    output().print(f"\nbundle      {done.bundle.root}", markup=False)
