"""Which films of a catalogue a run learns from and is checked on: classes, a subset, a distractor, copies.

Chosen by content: a film's place in the lottery is a function of the seed and its sha256, so neither the
order of the catalogue nor its other films change who is drawn, and 200 films a class are among the 600.
Knows nothing of pixels or torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from carina.data.catalogue import Catalogue
from carina.errors import DataError, RecipeError
from carina.training import dice
from carina.training.options import Copies, Distractor
from carina.training.recipe import Recipe

SIDES = ("train", "valid")


@dataclass(frozen=True, slots=True)
class Part:
    """The films of one side. ``copies`` is 0 for a film itself and k for its k-th changed copy. All (n,)."""

    sha256s: tuple[str, ...]
    labels: NDArray[np.int64]  # into the run's classes
    sources: tuple[str, ...]
    copies: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sha256s)

    @property
    def ids(self) -> NDArray[np.uint64]:
        """What the films are known by to everything random; a copy has a number of its own."""
        films = np.array([id_of(sha256) for sha256 in self.sha256s], np.uint64)
        return dice.copy_of(films, self.copies)

    def films(self) -> Part:
        """Without the copies."""
        return self.only(np.flatnonzero(self.copies == 0))

    def only(self, rows: NDArray[np.int64]) -> Part:
        """The films at these places, in this order; a place may be named twice."""
        return Part(
            tuple(self.sha256s[row] for row in rows),
            self.labels[rows],
            tuple(self.sources[row] for row in rows),
            self.copies[rows],
        )


def id_of(sha256: str) -> int:
    """The number of a film: the first 64 bits of its content hash."""
    return int(sha256[:16], 16)


def select(catalogue: Catalogue, recipe: Recipe) -> tuple[tuple[str, ...], dict[str, Part]]:
    """The run's classes, and the films of ``train`` and ``valid``.

    Raises RecipeError for a class that is not there, and DataError for one that has too few films.
    """
    data, seed = recipe.data, recipe.train.seed
    classes = _classes(catalogue, data.classes)
    if recipe.train.prevalence:
        _check_all_named(catalogue, recipe.train.prevalence, classes)
    parts = {side: _part(catalogue, side, classes) for side in SIDES}
    if data.distractor is not None:
        _check_known(catalogue, "distractor", data.distractor.from_, classes)
        parts = _distracted(catalogue, parts, classes, data.distractor, seed)
        classes = (*classes, data.distractor.name)
    if data.per_class is not None:
        named = catalogue.classes if data.classes is None else data.classes
        parts["train"] = _balanced(catalogue, parts["train"], tuple(named), data.per_class, seed)
    if data.augment is not None:
        _check_known(catalogue, "augment", [data.augment.class_], classes)
        parts["train"] = _copied(parts["train"], classes.index(data.augment.class_), data.augment, seed)
    return classes, parts


def _classes(catalogue: Catalogue, wanted: Sequence[str] | None) -> tuple[str, ...]:
    classes = tuple(wanted or catalogue.classes)
    _check_known(catalogue, "classes", classes, catalogue.classes)
    return classes


def _check_known(catalogue: Catalogue, key: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        of = "is not in" if unknown[0] not in catalogue.classes else "is left out of this run's classes from"
        raise RecipeError(
            f"[data]: {key}: {unknown[0]!r} {of} the catalogue {catalogue.root}; it has {', '.join(known)}"
        )


def _check_all_named(catalogue: Catalogue, prevalence: Mapping[str, float], classes: Sequence[str]) -> None:
    """Raise RecipeError unless the prevalence has a number for each of the classes, and for no other."""
    unknown = [name for name in prevalence if name not in classes]
    lacking = [name for name in classes if name not in prevalence]
    if unknown or lacking:
        faults = [f"no number for {', '.join(lacking)}"] if lacking else []
        faults += [f"{', '.join(map(repr, unknown))} not among the classes of this run"] if unknown else []
        raise RecipeError(
            f"[train]: prevalence: {' and '.join(faults)}; give the films of each of {', '.join(classes)} "
            'where the network will work, or none (--set "train.prevalence={}"); the classes are those of '
            f"{catalogue.root}"
        )


def _part(catalogue: Catalogue, side: str, classes: Sequence[str]) -> Part:
    """A side's films of these classes. Raises DataError when a class has none."""
    table = catalogue.table(side)
    names = table.column("class").to_pylist()
    place = {name: index for index, name in enumerate(classes)}
    kept = [row for row, name in enumerate(names) if name in place]
    labels = np.array([place[names[row]] for row in kept], np.int64)
    empty = [name for name in classes if place[name] not in labels]
    if empty:
        raise DataError(
            f"{catalogue.root}: no {side} film of {', '.join(empty)}; compile with more films or another "
            "--seed, or leave the class out (data.classes in the recipe)"
        )
    sha256s, sources = table.column("sha256").to_pylist(), table.column("source").to_pylist()
    return Part(
        tuple(sha256s[row] for row in kept),
        labels,
        tuple(sources[row] for row in kept),
        np.zeros(len(kept), np.int64),
    )


def _distracted(
    catalogue: Catalogue,
    parts: Mapping[str, Part],
    classes: Sequence[str],
    distractor: Distractor,
    seed: int,
) -> dict[str, Part]:
    """With films of some classes moved to a class of their own, on each side in proportion.

    Moved, not copied: no film has two labels, and none stands on both sides.
    """
    if distractor.name in catalogue.classes:
        raise RecipeError(
            f"[data]: distractor: {distractor.name!r} is a class of the catalogue; give it another name"
        )
    drawn_from = [classes.index(name) for name in distractor.from_]
    rows = {side: _drawn(part, drawn_from, seed) for side, part in parts.items()}
    there = {side: len(found) for side, found in rows.items()}
    valid = max(1, round(distractor.count * there["valid"] / sum(there.values())))
    wanted = {"train": distractor.count - valid, "valid": valid}
    moved = {}
    for side, part in parts.items():
        labels = part.labels.copy()
        labels[rows[side][: wanted[side]]] = len(classes)
        emptied = [name for name in distractor.from_ if classes.index(name) not in labels]
        if emptied or wanted[side] > there[side]:
            raise DataError(
                f"[data]: distractor: count = {distractor.count} leaves no {side} film of "
                f"{(emptied or distractor.from_)[0]} ({there[side]} of {', '.join(distractor.from_)} are "
                "there); lower the count"
            )
        moved[side] = replace(part, labels=labels)
    return moved


def _balanced(catalogue: Catalogue, part: Part, classes: Sequence[str], per_class: int, seed: int) -> Part:
    """So many films of each class (the distractor's are left as they are), in the order they had."""
    chosen = np.flatnonzero(part.labels >= len(classes))
    for label, name in enumerate(classes):
        rows = _drawn(part, [label], seed)
        if len(rows) < per_class:
            raise DataError(
                f"[data]: per_class = {per_class}: {catalogue.root} has {len(rows)} training films of {name};"
                f" take at most {len(rows)}, or leave the class out (data.classes)"
            )
        chosen = np.concatenate([chosen, rows[:per_class]])
    return part.only(np.sort(chosen))


def _copied(part: Part, label: int, wanted: Copies, seed: int) -> Part:
    """With the copies of every so many-th film of a class behind the films."""
    chosen = np.sort(_drawn(part, [label], seed)[:: wanted.every])
    number = np.tile(np.arange(1, wanted.copies + 1), len(chosen))
    whole = part.only(np.concatenate([np.arange(len(part)), np.repeat(chosen, wanted.copies)]))
    return replace(whole, copies=np.concatenate([part.copies, number]))


def _drawn(part: Part, labels: Sequence[int], seed: int) -> NDArray[np.int64]:
    """The places of the films of some classes, in the order in which they are drawn."""
    rows = np.flatnonzero(np.isin(part.labels, labels))
    return rows[np.argsort(dice.lottery(seed, part.ids[rows]), kind="stable")]
