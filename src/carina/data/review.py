"""What a person is asked about a catalogue: films that seem to be one exposure, case by case.

A case is every film that found pairs or earlier decisions connect, so that a split can be taken back. Reads
the lists beside the catalogue; opens no film.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from carina.data.catalogue import Catalogue
from carina.data.decisions import Decisions
from carina.errors import CatalogueError

PAIRS = "pairs.csv"

Link = tuple[str, str]  # sha256s


@dataclass(frozen=True, slots=True)
class File:
    """One file of a film; a film with several has exact copies."""

    path: Path
    class_name: str
    source: str
    patient: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two films of a case by position, how well their detail agrees, and ``copy`` or ``flipped``."""

    first: int
    second: int
    score: float
    kind: str


@dataclass(frozen=True, slots=True)
class Case:
    """Films to be looked at together. ``parts`` are the groups they form now, one number a film."""

    sha256s: tuple[str, ...]
    files: tuple[tuple[File, ...], ...]  # of each film
    pairs: tuple[Pair, ...]
    parts: tuple[int, ...]
    decided: bool

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes its files carry."""
        return tuple(sorted({file.class_name for files in self.files for file in files}))

    @property
    def conflicting(self) -> bool:
        """Whether films of one group, or the files of one film, carry different classes."""
        seen: defaultdict[int, set[str]] = defaultdict(set)
        for part, files in zip(self.parts, self.files, strict=True):
            seen[part] |= {file.class_name for file in files}
        return any(len(classes) > 1 for classes in seen.values())

    @property
    def doubt(self) -> float:
        """The agreement of its least certain pair; 1 where it has none."""
        return min((pair.score for pair in self.pairs), default=1.0)


def cases(catalogue: Catalogue) -> list[Case]:
    """All cases: conflicting labels first, then what nobody decided, the least certain first.

    Raises CatalogueError when the catalogue was compiled by a Carina that kept no pairs.
    """
    files, group_of = _films(catalogue)
    rows = list(_rows(catalogue.root / PAIRS))
    decided = Decisions.of_catalogue(catalogue.root)
    links = [(row["first"], row["second"]) for row in rows]
    for decision in decided.made:
        here = [film for film in sorted(decision.films) if film in files]
        links += [(here[0], film) for film in here[1:]]
    alone = [[sha256] for sha256, of in files.items() if len({file.class_name for file in of}) > 1]
    connected = _connected(links)
    together = {film for films in connected for film in films}
    connected += [films for films in alone if films[0] not in together]
    case_of = {film: number for number, films in enumerate(connected) for film in films}
    rows_of: defaultdict[int, list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        rows_of[case_of[row["first"]]].append(row)
    looked_at = set(decided.pairs())
    found = [
        _case(films, rows_of[number], files, group_of, looked_at) for number, films in enumerate(connected)
    ]
    return sorted(found, key=lambda case: (not case.conflicting, case.decided, case.doubt, case.sha256s))


def _case(
    films: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    files: Mapping[str, Sequence[File]],
    group_of: Mapping[str, str],
    looked_at: Set[Link],
) -> Case:
    place = {film: number for number, film in enumerate(films)}
    number_of = {group: number for number, group in enumerate(dict.fromkeys(group_of[f] for f in films))}
    asked = {(min(row["first"], row["second"]), max(row["first"], row["second"])) for row in rows}
    return Case(
        tuple(films),
        tuple(tuple(files[film]) for film in films),
        tuple(
            Pair(place[row["first"]], place[row["second"]], float(row["score"]), row["kind"]) for row in rows
        ),
        tuple(number_of[group_of[film]] for film in films),
        len(films) > 1 and asked <= looked_at,
    )


def _films(catalogue: Catalogue) -> tuple[dict[str, list[File]], dict[str, str]]:
    """The files of each film that stands in a list or in the catalogue, and its group; by sha256."""
    files: defaultdict[str, list[File]] = defaultdict(list)
    group_of = {}
    for row in _rows(catalogue.root / "groups.csv"):
        files[row["sha256"]].append(File(Path(row["path"]), row["class"], row["source"], row["patient"]))
        group_of[row["sha256"]] = row["group"]
    names = ("sha256", "path", "class", "source", "patient", "group")
    for sha256, path, *facts, group in zip(
        *(catalogue.films[name].to_pylist() for name in names), strict=True
    ):
        if sha256 not in files:
            files[sha256].append(File(Path(path), *facts))
        group_of[sha256] = group
    return files, group_of


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    except OSError as error:
        raise CatalogueError(f"{path}: missing; compile the catalogue again") from error


def _connected(links: Sequence[Link]) -> list[list[str]]:
    """The films of each connected part, sorted; parts in order of their first film."""
    beside: defaultdict[str, set[str]] = defaultdict(set)
    for one, other in links:
        beside[one].add(other)
        beside[other].add(one)
    seen: set[str] = set()
    found = []
    for start in sorted(beside):
        if start in seen:
            continue
        part, open_films = {start}, [start]
        while open_films:
            fresh = beside[open_films.pop()] - part
            part |= fresh
            open_films.extend(fresh)
        seen |= part
        found.append(sorted(part))
    return found
