"""What the loop says of itself, in words and in the figures of an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carina.training.checkpoint import Position
from carina.training.recipe import Recipe, Stage
from carina.training.stopping import THERE, best_epoch, watched
from carina.training.validation import Figures


def about_stage(recipe: Recipe, stage: Stage, at: Position, views: int, batches: int) -> str:
    """The line before a stage. ``stage`` is the recipe's at the rate it learns at."""
    first, last = stage.rates
    rate = f"{last:.3g}" if first == last else f"{first:.3g} … {last:.3g}"
    body = "frozen" if stage.frozen else "unfrozen"
    if stage.freeze_to:
        body = f"the first {stage.freeze_to} layer groups frozen"
    text = f"stage {at.stage + 1} of {len(recipe.stage)}: {stage.size} px, {body}, "
    text += f"{stage.epochs} epoch{'s' * (stage.epochs > 1)}, lr {rate}"
    for found in at.found:
        text += f" (found: {found['text']})" if found["stage"] == at.stage else ""
    if views:
        of = (
            "each film"
            if recipe.train.augment.is_off
            else f"{views} augmented view{'s' * (views > 1)} of each film"
        )
        text += f"; the body sees {of} once"
    if at.epoch or at.batch:
        text += f"; resumed in epoch {at.epoch}, batch {at.batch} of {batches}"
    return text


def about_stop(recipe: Recipe, records: Sequence[Mapping[str, Any]]) -> str:
    """The line where early stopping ends a stage."""
    metric = recipe.train.metric
    best = best_epoch(records, metric)
    name, value = watched(records[best], metric)
    return (
        f"stopped: {name} has not improved for {recipe.train.patience} epochs; going on with epoch "
        f"{best}, where it was {value:.4f}"
    )


def record(stage: Stage, at: Position, result: Figures, classes: Sequence[str]) -> dict[str, Any]:
    """One line of the history, but for the training's own loss and times."""
    return {
        "epoch": at.epoch,
        "stage": at.stage,
        "size": stage.size,
        "frozen": stage.frozen,
        "step": at.step,
        "lr": stage.rates[1],
        "valid_loss": result.loss,
        "accuracy": result.accuracy,
        "error_rate": 1 - result.accuracy,
        "recall_disease": result.recall_disease,
        "specificity": result.specificity,
        "auc_disease": result.auc_disease,
        "balanced_accuracy": result.balanced_accuracy,
        "worst_recall": result.worst_recall,
        "recall": dict(zip(classes, result.recall, strict=True)),
    } | _at_prevalence(result)


def _at_prevalence(result: Figures) -> dict[str, float]:
    """Loss and accuracy where classes occur as the recipe says; nothing where it does not say."""
    if result.there is None:
        return {}
    loss, accuracy = result.there
    return {f"valid_loss{THERE}": loss, f"accuracy{THERE}": accuracy}
