"""Options that several verbs share, worded once."""

from __future__ import annotations

from typing import Annotated

import typer

Devices = Annotated[int, typer.Option(min=1, help="Devices on this machine.")]
Nodes = Annotated[int, typer.Option(min=1, help="Machines.")]
Precision = Annotated[str, typer.Option(help="auto, 32-true, bf16-mixed or 16-mixed.")]
Mlflow = Annotated[
    str | None,
    typer.Option(metavar="FOLDER|URI", help="Log to MLflow as well; a folder needs no server."),
]
