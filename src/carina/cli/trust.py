"""The verbs of what the data is worth: audit.

They stand at the top level beside those of the road (``carina audit``, not ``carina trust audit``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def audit(
    catalogue: Annotated[Path, typer.Argument(help="Folder that `carina compile` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for audit.json and audit.html.")],
    model: Annotated[
        Path | None, typer.Option(help="Bundle whose figures are set beside those of the baselines.")
    ] = None,
    split: Annotated[str, typer.Option(help="Films that the bundle is asked about.")] = "test",
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe whose remedies are measured, before and after; those of --model by default."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; may be repeated."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that read films.")] = None,
) -> None:
    """Say whether figures on these films can be believed: can the label be told without the lungs?"""
    from carina.evaluation.audit import audit as audit_catalogue
    from carina.terminal import bars, output, show, table

    preparation = None
    if recipe is not None or set_:
        from carina.training.recipe import load_recipe

        preparation = load_recipe(recipe or "quick", tuple(set_ or ())).data.preparation(224)
    with bars() as tell:
        result = audit_catalogue(
            catalogue, out=out, model=model, split=split,
            preparation=preparation, workers=workers, progress=tell,
        )  # fmt: skip
    show(output(), table(*result.table()))
    output().print()
    for line in result.lines():
        output().print(line, markup=False)
    output().print(f"\naudit       {out / 'audit.html'}", markup=False)
