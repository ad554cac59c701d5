"""The verbs of what the data is worth: audit, sources.

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


@app.command()
def sources(
    name: Annotated[str | None, typer.Argument(help="One of the sets, for all that is known of it.")] = None,
) -> None:
    """List the public sets that are known: licence, terms, and which are made of each other."""
    from carina.data.sources.family import PUBLIC_SETS, public_set
    from carina.terminal import output, show, table

    if name is None:
        rows = [
            (each.name, "yes" if each.readable else "", ", ".join(each.made_of), each.licence, each.terms)
            for each in PUBLIC_SETS.values()
        ]
        show(output(), table(("set", "reader", "made of", "licence", "how to get it"), rows))
        return
    known = public_set(name)
    ages = f"{known.ages[0]:g} to {known.ages[1]:g} years" if known.ages else "not stated for the whole set"
    facts = (
        ("title", known.title),
        ("licence", known.licence),
        ("how to get it", known.terms),
        ("cite", known.citation),
        ("ages", ages),
        ("scanner", known.scanner or "not stated"),
        ("made of films of", ", ".join(known.made_of) or "no other set"),
        ("read by Carina", "yes" if known.readable else "no; as a folder for each class, or a table"),
    )
    for label, text in facts:
        output().print(f"{label:<17} {text}", markup=False)
