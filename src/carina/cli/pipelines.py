"""The verbs of other people's pipelines: module.

They stand at the top level beside those of the road (``carina module``, not ``carina pipelines module``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def module(
    model: Annotated[Path, typer.Option(envvar="CARINA_MODEL", help="Bundle folder.")],
    films: Annotated[Path, typer.Option(envvar="MERCURE_IN_DIR", help="Folder with the films of one task.")],
    out: Annotated[Path, typer.Option(envvar="MERCURE_OUT_DIR", help="Folder for result.json.")],
) -> None:
    """Be a processing step of the mercure DICOM orchestrator: films in, result.json out."""
    from carina.scoring.module import run_module
    from carina.terminal import output

    result = run_module(model, films, out)
    output().print(result["__mercure_notification"]["text"], markup=False)
