"""Which files are one film, which films are copies of each other, and which of those disagree.

Exact copies (the same bytes) are merged into one film; near copies stay films of their own and share a
group. A group whose members carry different classes is a conflict. Knows classes, not what they mean.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.data.closer import look_closer
from carina.data.decisions import Decisions, grouped
from carina.data.duplicates import NearCopy, near_copies
from carina.data.listing import Dropped, Listed, Tell
from carina.data.reading import Look
from carina.data.report import CONFLICT, MERGED
from carina.records import FilmFacts


@dataclass(frozen=True, slots=True)
class Film:
    """A film that was read: all files with its bytes, the one that is kept first."""

    copies: tuple[Listed, ...]
    look: Look

    @property
    def kept(self) -> Listed:
        return self.copies[0]

    @property
    def facts(self) -> FilmFacts:
        return self.look.facts

    @property
    def image_id(self) -> str:
        return self.facts.sha256[:16]

    @property
    def classes(self) -> set[str]:
        return {copy.class_name for copy in self.copies}


def merge(looks: Iterable[tuple[Listed, Look]]) -> list[Film]:
    """Files with the same bytes as one film, in order of sha256.

    The record that knows most is kept: patient, then view, then age; among equals by source and path.
    """
    by_content: defaultdict[str, list[tuple[Listed, Look]]] = defaultdict(list)
    for listed, look in looks:
        by_content[look.facts.sha256].append((listed, look))
    films = []
    for _, found in sorted(by_content.items()):
        found.sort(key=lambda pair: _ignorance(pair[0]))
        films.append(Film(tuple(listed for listed, _ in found), found[0][1]))
    return films


def _ignorance(listed: Listed) -> tuple[Any, ...]:
    image = listed.image
    return (not listed.knows_patient, image.view is None, image.age is None, image.source, str(image.path))


_NO_DECISIONS = Decisions()


@dataclass(frozen=True)
class Copies:
    """All films, in order of sha256, with the group of each: the image_id of the group's first film."""

    films: Sequence[Film]
    groups: Sequence[str]
    pairs: Sequence[NearCopy] = ()  # as found; positions in ``films``
    overruled: int = 0  # pairs that a person's decisions keep apart
    added: int = 0  # pairs that only a person's decisions join

    @classmethod
    def find(
        cls,
        films: Sequence[Film],
        tell: Tell = None,
        *,
        decisions: Decisions = _NO_DECISIONS,
        workers: int | None = None,
    ) -> Copies:
        """Group the near copies among ``films``, as found and as a person decided.

        Films of pairs that are nearly sure are read once more, by ``workers`` processes, 0 for this one.
        """

        def closer(positions: Sequence[int]) -> Mapping[int, NDArray[np.uint8]]:
            paths = [films[position].kept.image.path for position in positions]
            return {positions[i]: picture for i, picture in look_closer(paths, workers=workers).items()}

        pairs = near_copies([film.look.descriptor for film in films], closer=closer, progress=tell)
        made = grouped([film.facts.sha256 for film in films], pairs, decisions)
        groups = [films[int(first)].image_id for first in made.first]
        return cls(films, groups, pairs, made.overruled, made.added)

    @cached_property
    def members(self) -> dict[str, list[Film]]:
        """The films of each group, by group."""
        found: defaultdict[str, list[Film]] = defaultdict(list)
        for film, group in zip(self.films, self.groups, strict=True):
            found[group].append(film)
        return dict(sorted(found.items()))

    @cached_property
    def group_of(self) -> dict[str, str]:
        """The group of each film, by image_id."""
        return {film.image_id: group for film, group in zip(self.films, self.groups, strict=True)}

    @cached_property
    def conflicting(self) -> frozenset[str]:
        """The groups whose files carry more than one class."""
        differ = (
            group
            for group, films in self.members.items()
            if len(set().union(*(f.classes for f in films))) > 1
        )
        return frozenset(differ)

    def crowded(self, many: int) -> dict[str, int]:
        """The groups with more than ``many`` known patients of one source, and how many patients."""
        found = {}
        for group, films in self.members.items():
            known = {(c.origin, c.patient) for film in films for c in film.copies if c.knows_patient}
            people = max(Counter(origin for origin, _ in known).values(), default=0)
            if people > many:
                found[group] = people
        return found

    def without_conflicts(self) -> list[Film]:
        """The films of groups that agree."""
        return [film for film in self.films if self.group_of[film.image_id] not in self.conflicting]

    def ties(self) -> Iterator[tuple[str, str]]:
        """Pairs of patients who are one person, because their films are copies; kept or left out alike."""
        for films in self.members.values():
            patients = sorted({copy.patient for film in films for copy in film.copies})
            yield from pairwise(patients)

    def merged(self) -> Iterator[Dropped]:
        """Every file that was merged into another."""
        for film in self.films:
            for copy in film.copies[1:]:
                yield Dropped.of(copy, MERGED, f"the same bytes as {film.kept.image.path}")

    def left_out(self) -> Iterator[Dropped]:
        """The films that stay out because their group disagrees."""
        for group in sorted(self.conflicting):
            for film in self.members[group]:
                reason = f"its copies carry different classes (group {group} in conflicts.csv)"
                yield Dropped.of(film.kept, CONFLICT, f"{reason}; --conflicts keep takes them in")

    def groups_table(self, kept: Iterable[Film]) -> list[tuple[object, ...]]:
        """The rows of groups.csv: each group of at least two files."""
        inside = {film.image_id for film in kept}
        rows: list[tuple[object, ...]] = []
        for group, films in self.members.items():
            if len(films) == 1 and len(films[0].copies) == 1:
                continue
            for film in films:
                for number, copy in enumerate(film.copies):
                    out = "conflict" if group in self.conflicting else "no"
                    state = "merged" if number else "yes" if film.image_id in inside else out
                    image = copy.image
                    what = (copy.class_name, image.source, copy.patient, film.facts.sha256)
                    rows.append((group, image.path, state, *what))
        return rows

    def conflicts_table(self) -> list[tuple[object, ...]]:
        """The rows of conflicts.csv: every file of every group that disagrees."""
        return [
            (group, c.image.path, c.class_name, c.image.label, c.image.source, c.patient, film.facts.sha256)
            for group in sorted(self.conflicting)
            for film in self.members[group]
            for c in film.copies
        ]

    def pairs_table(self) -> list[tuple[object, ...]]:
        """The rows of pairs.csv: every pair that was found, those that were overruled among them."""
        names = [film.facts.sha256 for film in self.films]
        return sorted((names[p.first], names[p.second], f"{p.score:.4f}", p.kind) for p in self.pairs)
