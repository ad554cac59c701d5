"""The verbs of bundles: quantize.

They stand at the top level beside those of the road (``carina quantize``, not ``carina bundles quantize``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def quantize(
    bundle: Annotated[Path, typer.Argument(help="Folder that `carina train` exported; it stays as it is.")],
    calibrate: Annotated[Path, typer.Option(help="Catalogue with films that are new to the model.")],
    out: Annotated[Path, typer.Option(help="Bundle to write.")],
    site: Annotated[
        str | None, typer.Option(help="Whose operating points count; the only site's by default.")
    ] = None,
    split: Annotated[str, typer.Option(help="Side of the catalogue: valid or test.")] = "valid",
    form: Annotated[
        str, typer.Option(help="int8; or by OpenVINO (its extra): openvino-int8, openvino-bfloat16.")
    ] = "int8",
) -> None:
    """Make a network of 8-bit whole numbers or bfloat16: faster, and checked before it is written."""
    from typing import cast

    from carina.evaluation.quantize import Form
    from carina.evaluation.quantize import quantize as quantize_bundle
    from carina.terminal import bars, notes, output, show, table

    with bars() as tell:
        done = quantize_bundle(
            bundle, calibrate, out=out, site=site, split=split, form=cast("Form", form), progress=tell
        )
    for warning in done.warnings:
        notes().print(f"warning: {warning}", markup=False)
    show(output(), table(*done.table()))
    for line in done.lines():
        output().print(line, markup=False)
    output().print(f"\nbundle      {done.bundle.root}", markup=False)
