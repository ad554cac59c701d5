"""The verbs of a study: train many recipes as one tree, and compare two runs.

They stand at the top level beside those of the road (``carina study``, not ``carina study study``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carina.cli.options import Devices, Mlflow, Nodes, Precision
from carina.errors import MissingExtra

app = typer.Typer()


@app.command()
def study(
    catalogue: Annotated[Path, typer.Argument(help="Folder that `carina compile` wrote.")],
    file: Annotated[
        Path,
        typer.Argument(metavar="STUDY", help="TOML study; `report` and `report-small` come with Carina."),
    ],
    out: Annotated[Path, typer.Option(help="Study folder; an interrupted study goes on where it stopped.")],
    split: Annotated[
        str | None, typer.Option(help="Films the rows are judged on: test where there is one, else valid.")
    ] = None,
    row: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this row; may be repeated.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a recipe key in every row, or of the N-th with row.N. before it; may be repeated.",
        ),
    ] = None,
    devices: Devices = 1,
    nodes: Nodes = 1,
    precision: Precision = "auto",
    mlflow: Mlflow = None,
) -> None:
    """Train all rows of a study, shared stages once, and set them beside what was reported."""
    from carina.terminal import bars, output, show, table

    if split not in (None, "train", "valid", "test"):
        raise typer.BadParameter(f"{split!r} is none of train, valid, test", param_hint="--split")
    try:
        from carina.training.study import study as run_study
        from carina.training.tracking import tracker
    except ModuleNotFoundError as error:
        raise MissingExtra("carina study", "all") from error
    with bars() as tell:
        result = run_study(
            catalogue,
            file,
            out,
            split=split,
            rows=tuple(row or ()),
            overrides=tuple(set_ or ()),
            devices=devices,
            nodes=nodes,
            precision=precision,
            tracker=tracker(mlflow),
            progress=tell,
        )
    if not result.rows:
        return
    output().print()
    show(output(), table(*result.table()))
    output().print()
    for line in result.lines():
        output().print(line, markup=False)
    output().print(f"\nstudy       {out / 'study.html'}", markup=False)


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="A run folder, or a folder that `carina evaluate` wrote.")],
    run_b: Annotated[Path, typer.Argument(help="The other one; differences are this one less the first.")],
    split: Annotated[
        str | None, typer.Option(help="train, valid or test; what was evaluated, else test, else valid.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Say whether one model is better than another by more than chance, on the same films."""
    from carina.evaluation.compare import compare as compare_runs
    from carina.terminal import bars, output

    if split not in (None, "train", "valid", "test"):
        raise typer.BadParameter(f"{split!r} is none of train, valid, test", param_hint="--split")
    with bars() as tell:
        found = compare_runs(run_a, run_b, split=split, seed=seed, progress=tell)
    for line in found.lines():
        output().print(line, markup=False)
