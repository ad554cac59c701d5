"""What a person decided about near copies, and the groups that follow from it.

A decision is about films that were looked at together, side by side: those in one part are one exposure,
those in different parts are not. Decisions name films by content, so they outlive a move of the files and
hold in every later compile. They stand in the order in which they were made; the later word counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.data.catalogue import DECISIONS, Catalogue
from carina.data.duplicates import NearCopy
from carina.errors import DecisionError

KIND, FORMAT = "carina decisions", 1

Pair = tuple[str, str]  # sha256s in order


@dataclass(frozen=True, slots=True)
class Decision:
    """Films by sha256, in parts: one part is one exposure."""

    parts: tuple[tuple[str, ...], ...]

    @property
    def films(self) -> frozenset[str]:
        """All films it is about."""
        return frozenset(film for part in self.parts for film in part)

    def pairs(self) -> Iterator[tuple[Pair, bool]]:
        """Each pair of its films, and whether they are one exposure."""
        part_of = {film: number for number, part in enumerate(self.parts) for film in part}
        for one, other in combinations(sorted(part_of), 2):
            yield (one, other), part_of[one] == part_of[other]


@dataclass(frozen=True, slots=True)
class Decisions:
    """All decisions that were made, oldest first."""

    made: tuple[Decision, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Decisions:
        """Read a file of decisions. Raises DecisionError when it is none."""
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DecisionError(f"{path}: cannot be read ({error}); give the file the page saved") from error
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise DecisionError(f"{path}: holds no decisions; give the file that the page saved")
        if content.get("format") != FORMAT:
            raise DecisionError(f"{path}: format {content.get('format')}; this Carina reads {FORMAT}")
        groups = content.get("groups")
        if not isinstance(groups, list):
            raise DecisionError(f"{path}: its groups are no list; save the decisions from the page again")
        return cls(tuple(_decision(path, number, parts) for number, parts in enumerate(groups, 1)))

    @classmethod
    def of_catalogue(cls, folder: Path) -> Decisions:
        """Those kept in a catalogue's folder; none where there is no file."""
        path = folder / DECISIONS
        return cls.load(path) if path.exists() else cls()

    def save(self, path: Path) -> None:
        """Write them, in one step."""
        content = {
            "kind": KIND,
            "format": FORMAT,
            "groups": [list(map(list, each.parts)) for each in self.made],
        }
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        partial.replace(path)

    def followed_by(self, later: Decisions) -> Decisions:
        """These and later ones; without those of which the later ones repeat every film."""
        kept = [each for each in self.made if not any(each.films <= new.films for new in later.made)]
        return Decisions((*kept, *later.made))

    def pairs(self) -> dict[Pair, bool]:
        """For each pair of films that was decided, whether it is one exposure; newest last."""
        decided: dict[Pair, bool] = {}
        for decision in self.made:
            for pair, same in decision.pairs():
                decided.pop(pair, None)
                decided[pair] = same
        return decided


@dataclass(frozen=True, slots=True)
class Grouping:
    """For each film the first film of its group, (n,) int64; and what the decisions changed."""

    first: NDArray[np.int64]
    overruled: int  # found pairs that a person's word keeps apart
    added: int  # pairs that only a person's word joins


def grouped(films: Sequence[str], found: Iterable[NearCopy], decisions: Decisions) -> Grouping:
    """Groups of ``films`` (sha256s): what was decided first, then the found pairs, the surest first.

    A pair that would bring films together which a person told apart does not join.
    """
    place = {sha256: index for index, sha256 in enumerate(films)}
    decided = {
        (place[one], place[other]): same
        for (one, other), same in decisions.pairs().items()
        if one in place and other in place
    }
    forest = _Forest(len(films), [pair for pair, same in decided.items() if not same])
    pairs = sorted(found, key=lambda pair: (-pair.score, pair.first, pair.second))
    known = {(pair.first, pair.second) for pair in pairs}
    added = sum(
        forest.join(*pair) and tuple(sorted(pair)) not in known
        for pair, same in reversed(decided.items())
        if same
    )
    overruled = sum(not forest.join(pair.first, pair.second) for pair in pairs)
    return Grouping(forest.first(), overruled, added)


class _Forest:
    """Films joined into groups, of which some must stay apart."""

    def __init__(self, count: int, apart: Iterable[tuple[int, int]]) -> None:
        self._parent = list(range(count))
        self._apart: dict[int, set[int]] = {}  # root → roots
        for one, other in apart:
            self._apart.setdefault(one, set()).add(other)
            self._apart.setdefault(other, set()).add(one)

    def root(self, film: int) -> int:
        while self._parent[film] != film:
            self._parent[film] = self._parent[self._parent[film]]
            film = self._parent[film]
        return film

    def join(self, one: int, other: int) -> bool:
        """Bring two films together; whether they are now."""
        first, second = sorted((self.root(one), self.root(other)))
        if first == second:
            return True
        if second in self._apart.get(first, ()):
            return False
        self._parent[second] = first
        for enemy in self._apart.pop(second, set()):
            self._apart[enemy].discard(second)
            self._apart[enemy].add(first)
            self._apart.setdefault(first, set()).add(enemy)
        return True

    def first(self) -> NDArray[np.int64]:
        return np.array([self.root(film) for film in range(len(self._parent))], np.int64)


def _decision(path: Path, number: int, parts: Any) -> Decision:
    lists = isinstance(parts, list) and all(isinstance(part, list) and part for part in parts)
    films = [film for part in parts for film in part] if lists else []
    if not films or not all(_is_sha256(film) for film in films):
        raise DecisionError(f"{path}: group {number} is no list of parts with sha256s; save it again")
    if len(set(films)) != len(films):
        raise DecisionError(f"{path}: group {number} names a film twice; take it out of one part")
    return Decision(tuple(tuple(part) for part in parts))


def _is_sha256(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


def keep(folder: Path, file: Path) -> tuple[int, list[str]]:
    """Keep the decisions of ``file`` in a catalogue; how many stand there, and the command to compile again.

    Raises CatalogueError for a folder that is no catalogue, DecisionError for a file that holds none.
    """
    catalogue = Catalogue.open(folder)
    kept = Decisions.of_catalogue(catalogue.root).followed_by(Decisions.load(file))
    kept.save(catalogue.root / DECISIONS)
    return len(kept.made), _command(catalogue.manifest, catalogue.root)


def _command(manifest: Mapping[str, Any], out: Path) -> list[str]:
    """The words of the command that compiled a catalogue, to compile it again."""
    folders: dict[str, str] = {}
    for source in manifest.get("sources", ()):
        folders.setdefault(source["path"], f"{source['name']}={source['path']}")
    words = ["carina", "compile", *folders.values(), "--out", str(out)]
    for key, value in manifest.get("options", {}).items():
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                words += [f"--{key.replace('_', '-')}", str(each)]
    for name in manifest.get("healthy", ()):
        words += ["--healthy", name]
    return words
