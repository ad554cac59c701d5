"""What a recipe demands of devices, films and classes, asked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carina.errors import RecipeError, RunError
from carina.training.recipe import Recipe
from carina.training.schedule import Plan


def check_shares(recipe: Recipe, plan: Plan, splits: Mapping[int, Any], devices: int) -> None:
    """Raises RunError where a device would go without films."""
    smallest = min(
        len(splits[stage.size].train) // batches
        for stage, batches in zip(recipe.stage, plan.batches, strict=True)
    )
    if devices > 1 and smallest < 2 * devices:
        raise RunError(f"batches of {smallest} films are too small for {devices} devices; raise data.batch")


def check_metric(recipe: Recipe, classes: Sequence[str], healthy: Sequence[int]) -> None:
    """Raises RecipeError where early stopping would look at a figure that no film gives."""
    train = recipe.train
    if not train.patience or train.metric not in ("auc_disease", "recall_disease"):
        return
    if not 0 < len(healthy) < len(classes):  # without a healthy class every film called a disease is right
        raise RecipeError(
            f"[train]: metric: {train.metric} needs healthy and diseased classes, and all of "
            f"{', '.join(classes)} are one or the other; take accuracy"
        )


def check_groups(recipe: Recipe, groups: int) -> None:
    """Raises RecipeError where a stage would keep more of the body's layer groups than there are."""
    for number, stage in enumerate(recipe.stage, start=1):
        if stage.freeze_to >= groups:
            raise RecipeError(
                f"stage {number}: freeze_to is {stage.freeze_to}, and the body has {groups} layer groups; "
                "give fewer, or frozen = true to keep all of them"
            )
