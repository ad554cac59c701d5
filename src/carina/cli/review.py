"""The verbs in which a person has the last word: review, labels.

They stand at the top level beside those of the road.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def review(
    catalogue: Annotated[Path, typer.Argument(help="Folder that `carina compile` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="Page to write; review.html in the catalogue by default.")
    ] = None,
    apply: Annotated[
        Path | None, typer.Option(help="Decisions that the page saved: keep them for the next compile.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Cases on the page.")] = 400,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that read films.")] = None,
) -> None:
    """Show near copies side by side, for a person to confirm or split; conflicting labels first."""
    from carina.terminal import bars, output

    if apply is not None:
        import shlex

        from carina.data.decisions import keep

        kept, again = keep(catalogue, apply)
        output().print(f"{kept} cases are decided; they hold from the next compile on:", markup=False)
        output().print(f"\n{shlex.join(again)}", markup=False)
        return
    from carina.evaluation.review_page import review as review_page

    with bars() as tell:
        made = review_page(catalogue, out=out, limit=limit, workers=workers, progress=tell)
    output().print(
        f"{made.cases} cases, {made.undecided} of them undecided; {made.conflicting} with labels that "
        f"disagree; {made.shown} are on the page\n\nreview      {made.page}",
        markup=False,
    )


@app.command()
def labels(
    catalogue: Annotated[Path, typer.Argument(help="Folder that `carina compile` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for labels.html and labels.csv.")],
    model: Annotated[
        Path | None,
        typer.Option(help="Bundle whose embedding is asked; otherwise simple measures of pixels."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Films on the page; the table has all.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that read films.")] = None,
) -> None:
    """List films whose label is contradicted by a judge that never saw it, for a second look."""
    from carina.evaluation.labels import labels as judge_labels
    from carina.terminal import bars, output, show, table

    with bars() as tell:
        found = judge_labels(
            catalogue, out=out, model=model, seed=seed, limit=limit, workers=workers, progress=tell
        )
    rows = [
        (
            f.suspect.given,
            f"{f.suspect.p_given:.3f}",
            f.suspect.expected,
            f"{f.suspect.p_expected:.3f}",
            f.path,
        )
        for f in found.films[:10]
    ]
    if rows:
        show(output(), table(("label", "p", "expected", "p", "film"), rows))
        output().print()
    for line in found.lines():
        output().print(line, markup=False)
    output().print(f"\nlabels      {found.out / 'labels.html'}", markup=False)
