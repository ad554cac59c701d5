"""The verbs of a study: train many recipes as one tree, and compare two runs.

They stand at the top level beside those of the road (``carina study``, not ``carina study study``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


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
