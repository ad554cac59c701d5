"""The verbs around a training: find-lr.

They stand at the top level beside those of the road (``carina find-lr``, not ``carina learning find-lr``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from carina.errors import MissingExtra, OutputError

app = typer.Typer()
_KINDS = (".svg", ".png", ".json")


@app.command("find-lr")
def find_lr(
    catalogue: Annotated[Path, typer.Argument(help="Folder that `carina compile` wrote.")],
    recipe: Annotated[Path, typer.Option(help="TOML recipe.")],
    stage: Annotated[int, typer.Option(min=1, help="Stage whose rate is looked for, from 1.")] = 1,
    earlier: Annotated[
        bool,
        typer.Option(
            "--after-earlier/--at-once",
            help="Train the stages before it first, or sweep on the first weights.",
        ),
    ] = True,
    out: Annotated[
        Path | None, typer.Option(help="Picture of the curve (.svg, .png), or its figures (.json).")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key; may be repeated."),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, 32-true, bf16-mixed or 16-mixed.")] = "auto",
) -> None:
    """Sweep over learning rates and suggest one for a stage; nothing is trained or kept."""
    from carina.terminal import bars, curve, output, show, table

    try:
        from carina.training.find_lr import find_lr as find
        from carina.training.lr_picture import picture
    except ModuleNotFoundError as error:
        raise MissingExtra("carina find-lr", "train") from error

    if out is not None and out.suffix not in _KINDS:
        raise typer.BadParameter(f"{out}: the name ends in one of {', '.join(_KINDS)}", param_hint="--out")
    with bars() as tell:
        found = find(
            catalogue,
            recipe,
            stage=stage,
            earlier=earlier,
            overrides=tuple(set_ or ()),
            precision=precision,
            progress=tell,
        )
    output().print(curve(found.rates, found.smoothed, mark=found.lr), markup=False)
    names = (("valley", "steep", "minimum / 10", "loss rises at"), ("valley", "steep", "minimum", "rises"))
    rows = [(name, _rate(getattr(found, key))) for name, key in zip(*names, strict=True)]
    show(output(), table(("suggestion", "lr"), rows))
    output().print(f"\nstage {stage}: {found.text}", markup=False)
    if out is not None:
        content = json.dumps(found.to_dict(), indent=1).encode() if out.suffix == ".json" else b""
        try:
            out.write_bytes(content or picture(found, out.suffix[1:]))
        except OSError as error:
            raise OutputError(f"{out}: cannot be written ({error.strerror}); name another file") from error
        output().print(f"curve       {out}", markup=False)


def _rate(value: float | None) -> str:
    return "none" if value is None else f"{value:.2e}"
