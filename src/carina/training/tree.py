"""The runs a study consists of: stages that several rows begin with are trained once.

Two rows share a beginning where everything that decides the weights is the same: data, model, training
options, seed, and the first stages. A run is needed wherever a row ends and wherever rows part; it goes on
from the end of the run before it, to the same bits as a run that was never divided. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from carina.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Node:
    """One run: its name, its recipe from the very first stage on, and the run it goes on from.

    ``rows`` are the rows that end here; empty where rows only part here.
    """

    name: str
    recipe: Recipe
    parent: str | None
    rows: tuple[str, ...]


def tree(rows: Sequence[tuple[str, Recipe]]) -> tuple[Node, ...]:
    """The runs, each after the one it goes on from; ``rows`` are (name, recipe)."""
    ends: dict[str, list[str]] = {}
    ways: dict[str, set[str]] = {}  # beginning → the beginnings that are one stage longer
    recipes: dict[str, Recipe] = {}
    for name, recipe in rows:
        keys = [identity(recipe, stages) for stages in range(1, len(recipe.stage) + 1)]
        for stages, key in enumerate(keys, start=1):
            recipes.setdefault(key, recipe.model_copy(update={"stage": recipe.stage[:stages]}))
        for short, long in pairwise(keys):
            ways.setdefault(short, set()).add(long)
        ends.setdefault(keys[-1], []).append(name)
    nodes: dict[str, Node] = {}
    for _, recipe in rows:
        parent = None
        for stages in range(1, len(recipe.stage) + 1):
            key = identity(recipe, stages)
            if key not in ends and len(ways.get(key, ())) < 2:
                continue
            if key not in nodes:
                name = _name(recipes[key], key)
                nodes[key] = Node(name, recipes[key], parent, tuple(ends.get(key, ())))
            parent = nodes[key].name
    return tuple(nodes.values())


def identity(recipe: Recipe, stages: int) -> str:
    """What decides the weights after so many stages, as 64 hex digits."""
    keys = recipe.to_dict()
    del keys["name"]
    keys["data"].pop("workers", None)
    keys["train"].pop("checkpoint_minutes", None)
    if not keys["train"]["prevalence"]:  # runs from before there was such a key are the same
        del keys["train"]["prevalence"]
    keys["stage"] = keys["stage"][:stages]
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()


def epochs(recipes: Sequence[Recipe]) -> int:
    """Epochs in all."""
    return sum(stage.epochs for recipe in recipes for stage in recipe.stage)


def own_epochs(nodes: Sequence[Node]) -> int:
    """Epochs that the tree trains, each shared stage counted once."""
    by_name = {node.name: node for node in nodes}
    before = [by_name[node.parent].recipe for node in nodes if node.parent is not None]
    return epochs([node.recipe for node in nodes]) - epochs(before)


def _name(recipe: Recipe, key: str) -> str:
    """A folder's name a person can read: ``64f4-64u2-1a2b3c4d``."""
    told = [f"{stage.size}{'f' if stage.frozen else 'u'}{stage.epochs}" for stage in recipe.stage]
    return "-".join([*told, key[:8]])
