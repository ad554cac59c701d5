"""The verbs of deciding: triage.

They stand at the top level beside those of the road (``carina triage``, not ``carina decisions triage``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
        float, typer.Option(min=0, max=0.5, help="Share of true films that may be refused.")
    ] = 0.02,
    top: Annotated[int, typer.Option(min=0, help="Rows to print here.")] = 50,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads.")] = None,
) -> None:
    """Put films in the order in which a doctor should open them, and say why each stands there."""
    from carina.scoring.abstain import Gate
    from carina.scoring.bundle import Bundle
    from carina.scoring.policy import policy, read_rules
    from carina.scoring.triage import score_text
    from carina.scoring.triage_run import triage_films
    from carina.scoring.worklist_files import check_ending, write_worklist
    from carina.terminal import bars, notes, output, printable, show, table

    for path in out or ():
        check_ending(path)
    bundle = Bundle.open(model)
    chosen = policy(
        bundle, site=site, target=target_sensitivity, rules=read_rules(rules), clear=suggest_clear,
        withdrawn=withdrawn,
    )  # fmt: skip
    with bars() as tell:
        worklist = triage_films(
            paths, bundle, chosen, gate=Gate.of(bundle, false_refusals), threads=threads, progress=tell,
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
            each.path,
            each.because if each.p_disease is None else "",
        )
        for number, each in enumerate(worklist.decisions[:top], 1)
    ]
    if rows:
        show(output(), table(("place", "decision", "suspected", "p_disease", "film", "why not"), rows))
    if len(worklist.decisions) > len(rows):
        notes().print(f"… and {len(worklist.decisions) - len(rows):,} more; see --out or --top", markup=False)
    counts = ", ".join(f"{count:,} {label}" for label, count in worklist.counts.items())
    skipped = f"; {worklist.skipped:,} files are no films and were not tried" if worklist.skipped else ""
    notes().print(f"{counts}{skipped}", markup=False)
    for path in out or ():
        write_worklist(worklist, path)
        notes().print(f"worklist    {path}", markup=False)
