"""Many folders in, one catalogue out.

The road: the readers list films → the label map gives each a class → every film is read once, in
parallel, for its facts and its descriptor → exact copies are merged → near copies are grouped →
groups with different labels are left out → the split → the catalogue, manifest last. Each step takes
what the step before it returned, and whatever a step leaves out goes to ``dropped.csv`` with a reason.
"""

from __future__ import annotations

import datetime
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from carina.data import catalogue
from carina.data.admission import Admission
from carina.data.duplicates import group_ids, near_copies
from carina.data.labels import LabelMap
from carina.data.reading import Look, look_at_all
from carina.data.report import CONFLICT, MERGED, CompileReport
from carina.data.sources import LeftOut, Source, recognise, source_named
from carina.data.sources import SOURCES as READERS
from carina.data.splits import SIDES, SplitRow, assign
from carina.errors import LabelError, SourceError
from carina.records import FilmFacts, Progress, SourceImage
from carina.taxonomy import healthy_among, ordered

Tell = Callable[[Progress], None] | None


@dataclass(frozen=True, slots=True)
class Folder:
    """One of the folders to compile: the user's name for it, and the reader that knows its layout."""

    name: str
    path: Path
    reader: Source


@dataclass(frozen=True, slots=True)
class Listed:
    """A film as its source lists it, with its class; not yet opened."""

    image: SourceImage
    class_name: str
    folder: Folder
    origin: str  # what its patient's number is unique in
    knows_patient: bool

    @property
    def patient(self) -> str:
        """``origin:patient``; a film without a patient is one of its own, named by its path."""
        if self.image.patient:
            return f"{self.origin}:{self.image.patient}"
        inner = os.path.relpath(self.image.path.with_suffix(""), self.folder.path)
        return f"{self.folder.name}:{Path(inner).as_posix()}"


@dataclass(frozen=True, slots=True)
class Film:
    """A film that was read: all files with the same bytes, the one that is kept first."""

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


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file that is not in the catalogue."""

    path: Path
    source: str
    label: str
    code: str
    reason: str


def compile(  # noqa: A001
    sources: Mapping[str, Path] | Sequence[Path],
    out: Path,
    *,
    labels: Path | None = None,
    valid: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    split: Literal["patient", "image"] = "patient",
    views: Literal["frontal", "all"] = "frontal",
    min_age: float | None = None,
    conflicts: Literal["leave_out", "keep"] = "leave_out",
    healthy: Sequence[str] | None = None,
    workers: int | None = None,
    progress: Tell = None,
) -> CompileReport:
    """Compile ``sources`` into a catalogue in the folder ``out``; an older catalogue there is replaced.

    A source's name that is a reader's (``nih``) demands that reader; under any other name, or none,
    the layout is recognised. ``min_age`` (years) leaves out children where age is known. ``healthy``
    names the classes that mean "nothing found"; without it they are told by their names.
    ``split="image"`` deals single films at random, patients and copies torn apart, as the original
    report did; for comparison only. ``workers=0`` reads in this process.

    The same folders, options and seed give the same ``catalogue.parquet``, byte for byte.

    Raises SourceError, LabelError, SplitError, CatalogueError.
    """
    began = time.monotonic()
    out = Path(out)
    catalogue.check_may_write(out)
    label_map = LabelMap.load(labels)
    folders = name_folders(sources)
    label_map.check_names(name for folder in folders for name in (folder.name, folder.reader.name))
    admission = Admission(views, min_age)
    dropped: list[Dropped] = []

    listed = _list(folders, label_map, admission, dropped, progress)
    films = _merge(_read(listed, admission, dropped, workers, progress), dropped)
    if not films:
        raise SourceError(_nothing_left(folders, dropped))
    groups = _group(films, progress)
    conflicting = {group for group, members in _members(films, groups).items() if _differ(members)}
    kept = films
    if conflicts == "leave_out":
        kept = [film for film, group in zip(films, groups, strict=True) if group not in conflicting]
        dropped.extend(_left_out_by_conflict(films, groups, conflicting))
        if not kept:
            raise SourceError(_nothing_left(folders, dropped))

    group_of = {film.image_id: group for film, group in zip(films, groups, strict=True)}
    rows = [
        SplitRow(film.image_id, film.kept.patient, group_of[film.image_id], film.kept.class_name, film.kept.image.source)
        for film in kept
    ]
    sides = assign(rows, valid=valid, test=test, seed=seed, by=split, ties=_ties(films, groups))
    classes = ordered({row.class_name for row in rows})
    well = _healthy(classes, healthy, label_map)
    report = _report(out, folders, kept, sides, dropped, classes, well, films, groups, conflicting, admission, split)

    options = {"valid": valid, "test": test, "seed": seed, "split": split, "views": views, "min_age": min_age}
    options |= {"conflicts": conflicts, "labels": str(labels) if labels else None}
    catalogue.write(
        out,
        [_row(film, group_of[film.image_id], side) for film, side in zip(kept, sides, strict=True)],
        _manifest(report, folders, options),
        _lists(films, groups, conflicting, dropped, {film.image_id for film in kept}),
    )
    return replace(report, seconds=time.monotonic() - began)


def name_folders(sources: Mapping[str, Path] | Sequence[Path]) -> list[Folder]:
    """Each folder with a name and a reader. Raises SourceError where no reader fits."""
    if isinstance(sources, Mapping):
        return [_named(name, Path(path)) for name, path in sources.items()]
    found: list[Folder] = []
    for path in map(Path, sources):
        reader = recognise(path)
        name = base = path.resolve().stem if reader.generic else reader.name
        number = 1
        while any(folder.name == name for folder in found):
            number += 1
            name = f"{base}_{number}"
        found.append(Folder(name, path, reader))
    if not found:
        raise SourceError("no folder to compile; give at least one, as PATH or NAME=PATH")
    return found


def _named(name: str, path: Path) -> Folder:
    if name not in {reader.name for reader in READERS}:
        return Folder(name, path, recognise(path))
    if not path.exists():
        raise SourceError(f"{path}: no such folder; check the path")
    reader = source_named(name)
    if not reader.recognise(path):
        raise SourceError(f"{path}: not laid out as {name} ({reader.title}); give it a name of your own to have it recognised")
    return Folder(name, path, reader)


def _list(
    folders: Sequence[Folder], label_map: LabelMap, admission: Admission, dropped: list[Dropped], tell: Tell
) -> list[Listed]:
    """What the readers find, less what label map and admission leave out unread."""
    listed: list[Listed] = []
    for number, folder in enumerate(folders):
        if tell:
            tell(Progress("sources", number, len(folders), {"source": folder.name}))
        for item in folder.reader.read(folder.path):
            if isinstance(item, LeftOut):
                dropped.append(Dropped(item.path, folder.name, "", item.code, item.reason))
                continue
            reader = item.source  # differs from the folder's reader where one folder joins two sets
            name = folder.name if reader == folder.reader.name else reader
            origin = folder.name if folder.reader.generic else reader
            image = replace(item, source=name)
            class_name = label_map.class_of(reader, image)
            if class_name is None:
                reason = f"label {image.label!r} has no class in the label map"
                dropped.append(Dropped(image.path, name, image.label, "no_class_wanted", reason))
                continue
            film = Listed(image, class_name, folder, origin, image.patient is not None)
            if why := _why_not(film, admission, None):
                dropped.append(Dropped(image.path, name, image.label, *why))
            else:
                listed.append(film)
    if tell:
        tell(Progress("sources", len(folders), len(folders)))
    return listed


def _why_not(film: Listed, admission: Admission, modality: str | None) -> tuple[str, str] | None:
    image, ages = film.image, film.folder.reader.ages
    return admission.why_not(
        view=image.view,
        age=image.age,
        child="child" in image.findings,
        oldest=ages[1] if ages else None,
        modality=modality,
    )


def _read(
    listed: Sequence[Listed], admission: Admission, dropped: list[Dropped], workers: int | None, tell: Tell
) -> Iterator[tuple[Listed, Look]]:
    """Each film that can be read and comes in, completed with what its own header says."""
    paths = [film.image.path for film in listed]
    for done, (i, answer) in enumerate(look_at_all(paths, workers=workers), 1):
        if tell:
            tell(Progress("films", done, len(paths)))
        film = listed[i]
        if isinstance(answer, Look):
            film = replace(film, image=_completed(film.image, answer.facts))
            why = _why_not(film, admission, answer.facts.modality)
        else:
            why = answer.code, answer.reason
        if why:
            dropped.append(Dropped(film.image.path, film.image.source, film.image.label, *why))
        else:
            assert isinstance(answer, Look)
            yield replace(film, knows_patient=film.image.patient is not None), answer


def _completed(image: SourceImage, facts: FilmFacts) -> SourceImage:
    return replace(
        image,
        patient=image.patient or facts.patient or None,
        study=image.study or facts.study or None,
        view=image.view or facts.view or None,
        age=facts.age if image.age is None else image.age,
        sex=image.sex or facts.sex or None,
    )


def _merge(looks: Iterable[tuple[Listed, Look]], dropped: list[Dropped]) -> list[Film]:
    """Files with the same bytes as one film, in order of sha256; the record that knows most is kept."""
    by_content: defaultdict[str, list[tuple[Listed, Look]]] = defaultdict(list)
    for film, look in looks:
        by_content[look.facts.sha256].append((film, look))
    films = []
    for sha256 in sorted(by_content):
        found = sorted(by_content[sha256], key=lambda pair: _knowledge(pair[0]))
        film = Film(tuple(listed for listed, _ in found), found[0][1])
        films.append(film)
        for copy in film.copies[1:]:
            reason = f"the same bytes as {film.kept.image.path}"
            dropped.append(Dropped(copy.image.path, copy.image.source, copy.image.label, MERGED, reason))
    return films


def _knowledge(film: Listed) -> tuple[Any, ...]:
    image = film.image
    unknown = (not film.knows_patient, image.view is None, image.age is None)
    return (*unknown, image.source, str(image.path))


def _group(films: Sequence[Film], tell: Tell) -> list[str]:
    """The near-copy group of each film: the image_id of the group's first film."""
    pairs = near_copies([film.look.descriptor for film in films], progress=tell)
    return [films[int(first)].image_id for first in group_ids(len(films), pairs)]


def _members(films: Sequence[Film], groups: Sequence[str]) -> dict[str, list[Film]]:
    found: defaultdict[str, list[Film]] = defaultdict(list)
    for film, group in zip(films, groups, strict=True):
        found[group].append(film)
    return found


def _differ(members: Sequence[Film]) -> bool:
    return len(set().union(*(film.classes for film in members))) > 1


def _left_out_by_conflict(films: Sequence[Film], groups: Sequence[str], conflicting: set[str]) -> Iterator[Dropped]:
    for film, group in zip(films, groups, strict=True):
        if group in conflicting:
            image = film.kept.image
            reason = f"copies of it carry different classes (group {group} in conflicts.csv); --conflicts keep takes them in"
            yield Dropped(image.path, image.source, image.label, CONFLICT, reason)


def _ties(films: Sequence[Film], groups: Sequence[str]) -> list[tuple[str, str]]:
    """Patients that must be the same person: those whose films are copies of each other, kept or not."""
    ties = []
    first: dict[str, str] = {}
    for film, group in zip(films, groups, strict=True):
        for copy in film.copies:
            ties.append((first.setdefault(group, copy.patient), copy.patient))
    return ties


def _healthy(classes: Sequence[str], wanted: Sequence[str] | None, label_map: LabelMap) -> tuple[str, ...]:
    if wanted is not None:
        for name in wanted:
            if name not in classes:
                raise LabelError(f"healthy class {name!r}: no film is of this class; there are {', '.join(classes)}")
        return tuple(wanted)
    if label_map.healthy is not None:
        return tuple(name for name in label_map.healthy if name in classes)
    return healthy_among(classes)


def _row(film: Film, group: str, side: str) -> dict[str, Any]:
    image, facts = film.kept.image, film.facts
    return {
        "image_id": film.image_id,
        "path": os.path.abspath(image.path),
        "class": film.kept.class_name,
        "findings": list(image.findings),
        "source": image.source,
        "patient": film.kept.patient,
        "group": group,
        "split": side,
        "view": image.view,
        "age": image.age,
        "sex": image.sex,
        "width": facts.width,
        "height": facts.height,
        "sha256": facts.sha256,
        "study": image.study,
        "label": image.label,
        "bits": facts.bits,
        "format": facts.format,
        "manufacturer": facts.manufacturer,
        "bytes": image.path.stat().st_size,
    }


def _lists(
    films: Sequence[Film], groups: Sequence[str], conflicting: set[str], dropped: Sequence[Dropped], kept: set[str]
) -> dict[str, list[tuple[object, ...]]]:
    copies, clashes = [], []
    for group, members in sorted(_members(films, groups).items()):
        for film in members:
            for number, copy in enumerate(film.copies):
                image = copy.image
                state = "merged" if number else "yes" if film.image_id in kept else "conflict"
                if len(members) > 1 or len(film.copies) > 1:
                    row = (group, image.path, state, copy.class_name, image.source, copy.patient, film.facts.sha256)
                    copies.append(row)
                if group in conflicting:
                    clash = (group, image.path, copy.class_name, image.label, image.source, copy.patient)
                    clashes.append((*clash, film.facts.sha256))
    gone = sorted((str(d.path), d.source, d.label, d.code, d.reason) for d in dropped)
    return {"dropped.csv": [*gone], "conflicts.csv": [*clashes], "groups.csv": [*copies]}


def _manifest(report: CompileReport, folders: Sequence[Folder], options: Mapping[str, Any]) -> dict[str, Any]:
    from carina import __version__

    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "carina": __version__,
        "classes": list(report.classes),
        "healthy": list(report.healthy),
        "options": dict(options),
        "sources": [
            {
                "name": folder.name,
                "reader": folder.reader.name,
                "title": folder.reader.title,
                "path": os.path.abspath(folder.path),
                "licence": folder.reader.licence,
                "citation": folder.reader.citation,
                "ages": list(folder.reader.ages) if folder.reader.ages else None,
            }
            for folder in folders
        ],
        **report.to_dict(),
    }


def _report(
    out: Path,
    folders: Sequence[Folder],
    kept: Sequence[Film],
    sides: Sequence[str],
    dropped: Sequence[Dropped],
    classes: tuple[str, ...],
    healthy: tuple[str, ...],
    films: Sequence[Film],
    groups: Sequence[str],
    conflicting: set[str],
    admission: Admission,
    split: str,
) -> CompileReport:
    readers = {folder.name: folder.reader.name for folder in folders}
    listed = [film.kept for film in kept]
    counts = {name: Counter[str]() for name in readers}
    for film in listed:
        counts.setdefault(film.image.source, Counter())[film.class_name] += 1
    gone: dict[str, Counter[str]] = {}
    for item in dropped:
        counts.setdefault(item.source, Counter())
        gone.setdefault(item.source, Counter())[item.code] += 1
    by_side = {side: Counter(f.class_name for f, s in zip(listed, sides, strict=True) if s == side) for side in SIDES}
    unknown = Counter(film.image.source for film in listed if not film.knows_patient)
    several = [len(members) for members in _members(films, groups).values() if len(members) > 1]
    ageless = sum(film.image.age is None for film in listed)
    return CompileReport(
        catalogue=out,
        classes=classes,
        healthy=healthy,
        counts={name: dict(count) for name, count in counts.items()},
        splits={side: dict(count) for side, count in by_side.items()},
        dropped={name: dict(count) for name, count in gone.items()},
        readers=readers,
        patients=len({film.patient for film in listed}),
        unknown_patients=dict(unknown),
        unknown_ages=ageless,
        near_groups=len(several),
        near_films=sum(several),
        conflict_groups=len(conflicting),
        seconds=0.0,
        warnings=tuple(_warnings(healthy, classes, unknown, ageless, admission, split)),
    )


def _warnings(
    healthy: Sequence[str],
    classes: Sequence[str],
    unknown: Mapping[str, int],
    ageless: int,
    admission: Admission,
    split: str,
) -> Iterator[str]:
    if split == "image":
        yield (
            "split by image: films of one patient and copies of one film stand on several sides, and every "
            "figure measured on this catalogue is too good"
        )
    if not healthy:
        yield f"no class means healthy among {', '.join(classes)}; name it with --healthy"
    for source, n in unknown.items():
        yield f"{source}: {n} films name no patient; each counts as a patient of its own"
    if admission.min_age is not None and ageless:
        yield f"{ageless} films state no age and were not asked for one"


def _nothing_left(folders: Sequence[Folder], dropped: Sequence[Dropped]) -> str:
    names = ", ".join(str(folder.path) for folder in folders)
    if not dropped:
        return f"{names}: no films; check the path"
    (code, n), *_ = Counter(item.code for item in dropped).most_common(1)
    example = next(item for item in dropped if item.code == code)
    return f"{names}: no film is left; {n} were left out like {example.path.name} ({example.reason})"
