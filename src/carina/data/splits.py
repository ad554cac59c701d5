"""Put films on the sides train, valid and test so that nothing that belongs together is torn apart.

Films that share a patient or a near-copy group are tied; tied films form a *component* (of ties of
ties as well), and a component goes to one side as a whole. Components are dealt out largest first, each
to the side where it lowers the chi-square distance between what each (class, source), each class and
each source has on that side and what it should have.

Pure: no files, no pixels. The same films and seed give the same sides, whatever the films' order.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from carina.errors import SplitError

SIDES = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class SplitRow:
    """One film to be dealt: a unique ``key`` and what ties it to other films."""

    key: str
    patient: str
    group: str
    class_name: str
    source: str


def assign(
    rows: Sequence[SplitRow],
    *,
    valid: float,
    test: float,
    seed: int,
    by: Literal["patient", "image"] = "patient",
    ties: Iterable[tuple[str, str]] = (),
    hold_out: Collection[str] = (),
) -> list[str]:
    """The side of each row, in the rows' order.

    ``valid`` and ``test`` are shares of all films; the rest is ``train``. ``by="image"`` ignores every
    tie and deals single films at random, as the original report did. ``ties`` are further pairs of
    patients that must stay together. ``hold_out`` names sources that are the test, with whatever is tied
    to their films; the rest is dealt to train and valid, and ``test`` is not asked.

    Raises SplitError when the shares make no sense, when a class has fewer components than there
    are sides to fill, or when what is held out is unknown, or all that there is of a class.
    """
    shares = shares_of(valid, 0.0 if hold_out else test)
    if len({row.key for row in rows}) != len(rows):
        raise SplitError("films to be split must have keys of their own; the same key came twice")
    if by == "image" and not hold_out:
        return _at_random(rows, shares, seed)
    if by == "image":
        raise SplitError("a source is held out by patient; leave out --split image, or --hold-out")
    parts = components(rows, ties)
    held = [part for part in parts if any(row.source in hold_out for row in part)]
    parts = [part for part in parts if all(row.source not in hold_out for row in part)]
    _check_held_out(rows, parts, hold_out)
    check_enough(Counter(name for part in parts for name in {row.class_name for row in part}), shares)
    sides = _deal(parts, shares, seed)
    _fill_gaps(parts, sides, shares, seed)
    side_of = {row.key: side for part, side in zip(parts, sides, strict=True) for row in part}
    side_of |= {row.key: "test" for part in held for row in part}
    return [side_of[row.key] for row in rows]


def folds(rows: Sequence[SplitRow], count: int, seed: int) -> list[int]:
    """The fold, 0 to ``count`` - 1, of each row, for cross-validation; dealt by the same rules as sides.

    Nothing that belongs together is in two folds, and each fold has its share of every class and
    source, as far as components allow.
    """
    parts = components(rows)
    dealt = _deal(parts, {str(fold): 1 / count for fold in range(count)}, seed)
    fold_of = {row.key: int(fold) for part, fold in zip(parts, dealt, strict=True) for row in part}
    return [fold_of[row.key] for row in rows]


def shares_of(valid: float, test: float) -> dict[str, float]:
    """The share of each side that gets any films. Raises SplitError for shares that make no sense."""
    if not (0 <= valid <= 1 and 0 <= test <= 1 and valid + test <= 1 + 1e-9):
        raise SplitError(
            f"valid {valid:g} and test {test:g} are shares of all films; each from 0 to 1, together at most 1"
        )
    shares = {"train": max(0.0, 1 - valid - test), "valid": valid, "test": test}
    return {side: share for side, share in shares.items() if share > 1e-9}


def _order(seed: int, key: str) -> bytes:
    """A place in a random order that depends on the seed and the key alone."""
    return hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()


def _at_random(rows: Sequence[SplitRow], shares: Mapping[str, float], seed: int) -> list[str]:
    ranked = sorted(range(len(rows)), key=lambda i: _order(seed, rows[i].key))
    counts = {side: round(len(rows) * share) for side, share in shares.items() if side != "train"}
    dealt = [side for side in SIDES for _ in range(counts.get(side, 0))]
    dealt = dealt[: len(rows)] + [next(iter(shares))] * (len(rows) - len(dealt))
    sides = [""] * len(rows)
    for i, side in zip(ranked, dealt, strict=True):
        sides[i] = side
    return sides


def components(rows: Sequence[SplitRow], ties: Iterable[tuple[str, str]] = ()) -> list[list[SplitRow]]:
    """Films joined by patients and groups, by union-find; components and their films in order of key."""
    parent: dict[Hashable, Hashable] = {}

    def root(item: Hashable) -> Hashable:
        parent.setdefault(item, item)
        while parent[item] != item:
            parent[item] = item = parent[parent[item]]
        return item

    for row in rows:
        parent[root(("patient", row.patient))] = root(("group", row.group))
    for one, other in ties:
        parent[root(("patient", one))] = root(("patient", other))
    found: defaultdict[Hashable, list[SplitRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.key):
        found[root(("patient", row.patient))].append(row)
    return list(found.values())


def _check_held_out(
    rows: Sequence[SplitRow], left: Sequence[Sequence[SplitRow]], hold_out: Collection[str]
) -> None:
    """That the sources exist, and that something is left to learn each class from."""
    sources = sorted({row.source for row in rows})
    unknown = sorted(set(hold_out).difference(sources))
    if unknown:
        raise SplitError(f"--hold-out {unknown[0]}: no film is from there; there are {', '.join(sources)}")
    known = {row.class_name for part in left for row in part}
    lost = sorted({row.class_name for row in rows} - known)
    if hold_out and lost:
        raise SplitError(
            f"--hold-out {', '.join(sorted(hold_out))}: every film of {', '.join(lost)} is from there or "
            "tied to it, so nothing could learn it; give these films a class that other sources have, or "
            "leave them out, with --labels"
        )


def check_enough(people: Mapping[str, int], shares: Mapping[str, float]) -> None:
    """Raises SplitError where a class has fewer independent patients (``people``) than sides to fill."""
    few = [f"{name!r} ({n})" for name, n in sorted(people.items()) if n < len(shares)]
    if few:
        raise SplitError(
            f"too few independent patients for {' + '.join(shares)} in class {', '.join(few)}; add films of "
            "other patients, set --valid or --test to 0, or drop the class with --labels"
        )


def _margins(component: Sequence[SplitRow]) -> Counter[tuple[str, ...]]:
    """How many films the component adds to each (class, source), class, source, and to the whole."""
    counts: Counter[tuple[str, ...]] = Counter()
    for row in component:
        counts[("both", row.class_name, row.source)] += 1
        counts[("class", row.class_name)] += 1
        counts[("source", row.source)] += 1
    counts[("all",)] = len(component)
    return counts


def _deal(components: Sequence[Sequence[SplitRow]], shares: Mapping[str, float], seed: int) -> list[str]:
    margins = [_margins(component) for component in components]
    total: Counter[tuple[str, ...]] = Counter()
    for margin in margins:
        total.update(margin)
    have: Counter[tuple[str, tuple[str, ...]]] = Counter()

    def cost(side: str, margin: Mapping[tuple[str, ...], int]) -> float:
        """By how much the chi-square distance grows when the component goes to ``side``."""
        grown = 0.0
        for key, n in margin.items():
            want = shares[side] * total[key]
            before = have[side, key] - want
            grown += n * (2 * before + n) / want
        return grown

    ranked = sorted(
        range(len(components)), key=lambda i: (-len(components[i]), _order(seed, components[i][0].key))
    )
    sides = [""] * len(components)
    for i in ranked:
        sides[i] = min(shares, key=lambda side: cost(side, margins[i]))
        for key, n in margins[i].items():
            have[sides[i], key] += n
    return sides


def _fill_gaps(
    components: Sequence[Sequence[SplitRow]], sides: list[str], shares: Mapping[str, float], seed: int
) -> None:
    """Move the smallest possible component to each side that lacks a class altogether."""
    classes = [{row.class_name for row in component} for component in components]
    on: Counter[tuple[str, str]] = Counter(
        (s, name) for s, names in zip(sides, classes, strict=True) for name in names
    )
    for name in sorted({name for names in classes for name in names}):
        for side in shares:
            if on[side, name]:
                continue
            movable = [
                i
                for i, names in enumerate(classes)
                if name in names and all(on[sides[i], other] > 1 for other in names)
            ]
            if not movable:
                raise SplitError(
                    f"class {name!r} cannot be on all of {', '.join(shares)} without parting a patient; "
                    "add films of other patients, or set --valid or --test to 0"
                )
            i = min(movable, key=lambda i: (len(components[i]), _order(seed, components[i][0].key)))
            for other in classes[i]:
                on[sides[i], other] -= 1
                on[side, other] += 1
            sides[i] = side
