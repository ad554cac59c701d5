"""What ``carina score`` scores with: this machine, or a cluster; and what a catalogue stands for.

No verb of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from carina.scoring.run import ScoreSummary


def scoring(
    engine: str, out: Path | None, heatmaps: Path | None, cluster: str | None, prevalence: float | None
) -> Callable[..., ScoreSummary]:
    """The function that scores, with the options that only it has."""
    if engine == "ray":
        if out is None:
            raise typer.BadParameter("a cluster writes a folder: name one with --out", param_hint="--engine")
        if heatmaps is not None:
            raise typer.BadParameter("a cluster draws none; leave it out", param_hint="--heatmaps")
        if prevalence is not None:
            raise typer.BadParameter("a cluster adds none; leave it out", param_hint="--prevalence")
        return partial(_on_cluster, out=out, address=cluster)
    if cluster is not None:
        raise typer.BadParameter("is for --engine ray", param_hint="--cluster")
    from carina.scoring.run import score_films

    return partial(score_films, out=out, heatmaps=heatmaps)


def _on_cluster(*words: Any, **options: Any) -> ScoreSummary:
    """What Ray prints of its own accord is about the work: it goes to standard error."""
    from carina.scoring.cluster import score_on_cluster

    with redirect_stdout(sys.stderr):
        return score_on_cluster(*words, **options)


def named(paths: Sequence[str]) -> list[str]:
    """The films of each catalogue in place of its folder; all else as it is."""
    films: list[str] = []
    for path in paths:
        if os.path.isfile(os.path.join(path, "catalogue.json")):  # noqa: PTH113, PTH118 - Path.is_file raises
            from carina.data.catalogue import Catalogue

            films += map(str, Catalogue.open(path).films["path"].to_pylist())
        else:
            films.append(path)
    return films
