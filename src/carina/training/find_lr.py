"""The rate finder by itself: catalogue and recipe in, the curve and its suggestions out. Writes nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from carina.data.catalogue import Catalogue
from carina.errors import RecipeError
from carina.training.devices import deterministic, fabric, quiet
from carina.training.lr_finder import Finding
from carina.training.recipe import Recipe, load_recipe, overridden
from carina.training.selection import select
from carina.training.train import Job, Tell


def find_lr(
    catalogue: str | os.PathLike[str] | Catalogue,
    recipe: str | os.PathLike[str] | Recipe,
    *,
    stage: int = 1,
    earlier: bool = True,
    overrides: Sequence[str] = (),
    precision: str = "auto",
    progress: Tell | None = None,
) -> Finding:
    """Sweep for the rate of a stage (from 1), after the stages before it are trained.

    ``earlier`` False: on the weights the recipe starts from. What a training of the same recipe would
    find there, because it is the same code. Raises what ``train`` raises.
    """
    chosen = overridden(recipe, overrides) if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    if not 1 <= stage <= len(chosen.stage):
        raise RecipeError(
            f"{chosen.name or 'recipe'}: has {len(chosen.stage)} stages and no stage {stage}; count from 1"
        )
    films = catalogue if isinstance(catalogue, Catalogue) else Catalogue.open(Path(catalogue))
    classes, parts = select(films, chosen)
    asked = chosen.train.precision if precision == "auto" else precision
    with quiet(), deterministic():
        device = fabric(precision=asked)
        job = Job(films, chosen, classes, parts, device, None, progress or (lambda event: None))
        return job.loop().find_rate(stage - 1, earlier=earlier)
