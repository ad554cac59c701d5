"""Many folders in, one catalogue out.

The road: the readers list films → the label map gives each a class → every film is read once, in
parallel, for its facts and its descriptor → exact copies are merged → near copies are grouped →
groups with different labels are left out → the split → the catalogue, manifest last. Whatever a step
leaves out stands in ``dropped.csv`` with its reason.
"""

from __future__ import annotations

import datetime
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from carina.data import catalogue
from carina.data.admission import Admission
from carina.data.confounding.audit import quick_audit, stored_audit, verdict_on, write_audit
from carina.data.copies import Copies, Film, merge
from carina.data.decisions import Decisions
from carina.data.labels import LabelMap
from carina.data.listing import Dropped, Folder, Listed, Sources, Tell, list_films, name_folders
from carina.data.reading import Look, look_at_all
from carina.data.report import SINGLE_SOURCE, CompileReport
from carina.data.sources.family import PUBLIC_SETS, kinship
from carina.data.sources.public import PublicSet
from carina.data.splits import SIDES, SplitRow, assign, check_enough, shares_of
from carina.errors import DataError, LabelError, SourceError
from carina.folders import check_can_write
from carina.records import Progress
from carina.taxonomy import healthy_among, ordered

_MUCH = 0.03  # share of films with conflicting labels that is worth a warning
_MANY = 5  # patients of one source in a group of copies: more than a person's two numbers explain
_REASONS = 3  # that an error lists


def compile(  # noqa: A001
    sources: Sources,
    out: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    valid: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    split: Literal["patient", "image"] = "patient",
    views: Literal["frontal", "all"] = "frontal",
    min_age: float | None = None,
    conflicts: Literal["leave_out", "keep"] = "leave_out",
    single_source: Literal["leave_out", "keep"] = "keep",
    hold_out: str | Sequence[str] = (),
    healthy: str | Sequence[str] | None = None,
    decisions: Path | None = None,
    workers: int | None = None,
    progress: Tell = None,
) -> CompileReport:
    """Compile ``sources`` into a catalogue in the folder ``out``; an older catalogue there is replaced.

    ``sources`` are folders, (name, folder) pairs, or a mapping of names to folders; one folder may stand
    alone.
    A source's name that is a reader's (``nih``) demands that reader; under any other name, or none,
    the layout is recognised. ``min_age`` (years) leaves out children where age is known. ``healthy``
    names the classes that mean "nothing found"; without it they are told by their names.
    ``split="image"`` deals single films at random, patients and copies torn apart, as the original
    report did; for comparison only. ``single_source="leave_out"`` leaves out classes that one source alone
    has: its look would tell them. ``hold_out`` names sources that are the test side, whole, and of which
    training and validation see nothing. ``decisions`` is a file that a person made with ``carina review``;
    it is kept in the catalogue, and one that is kept there already is honoured. ``workers=0`` reads in
    this process.

    The verdict of a quick audit of the catalogue (``confounding/``) is in the report and in ``audit.json``.

    The same folders, options and seed give the same ``catalogue.parquet``, byte for byte.

    Raises SourceError, LabelError, SplitError, DecisionError, CatalogueError, OutputError, and DataError for
    a word that no option knows: all that can be told before the films are read is told then.
    """
    began = time.monotonic()
    for option, word, words in (
        ("split", split, ("patient", "image")),
        ("views", views, ("frontal", "all")),
        ("conflicts", conflicts, ("leave_out", "keep")),
        ("single_source", single_source, ("leave_out", "keep")),
    ):
        if word not in words:
            raise DataError(f"{option} is {word!r}; give one of {', '.join(words)}")
    hold_out = (hold_out,) if isinstance(hold_out, str) else tuple(hold_out)
    shares = shares_of(valid, 0.0 if hold_out else test)
    healthy = (healthy,) if isinstance(healthy, str) else healthy
    out = Path(out)
    check_can_write(out)
    catalogue.check_may_write(out)
    label_map = LabelMap.load(labels)
    decided = Decisions.load(decisions) if decisions else Decisions.of_catalogue(out)
    folders = name_folders(sources)
    label_map.check_names(name for folder in folders for name in (folder.name, folder.reader.name))
    admission = Admission(views, min_age)
    dropped: list[Dropped] = []

    listed = list_films(folders, label_map, admission, dropped, progress)
    if not listed:
        raise SourceError(_nothing_left(folders, dropped))
    _healthy(ordered({film.class_name for film in listed}), healthy, label_map)
    if split == "patient" and single_source == "keep":
        check_enough(_people(listed), shares)
    looks = _read(listed, admission, dropped, workers, progress)
    copies = Copies.find(merge(looks), progress, decisions=decided, workers=workers)
    dropped.extend(copies.merged())
    films: Sequence[Film] = copies.films
    if conflicts == "leave_out":
        films = copies.without_conflicts()
        dropped.extend(copies.left_out())
    if single_source == "leave_out":
        films = _from_several_sources(films, dropped)
    if not films:
        raise SourceError(_nothing_left(folders, dropped))

    rows = [_split_row(film, copies) for film in films]
    sides = assign(rows, valid=valid, test=test, seed=seed, by=split, ties=copies.ties(), hold_out=hold_out)
    classes = ordered({row.class_name for row in rows})
    report = CompileReport(
        catalogue=out,
        classes=classes,
        healthy=_healthy(classes, healthy, label_map),
        readers={folder.name: folder.reader.name for folder in folders},
        **_counts(folders, films, sides, dropped),
        near_groups=sum(len(members) > 1 for members in copies.members.values()),
        near_films=sum(len(members) for members in copies.members.values() if len(members) > 1),
        conflict_groups=len(copies.conflicting),
        decided_apart=copies.overruled,
        decided_together=copies.added,
        seconds=0.0,
    )
    warnings = (*_warnings(report, split, min_age), *_doubts(copies, conflicts), *_relatives(copies))
    report = replace(report, warnings=warnings)
    options = {"valid": valid, "test": test, "seed": seed, "split": split, "views": views, "min_age": min_age}
    more = {
        "conflicts": conflicts,
        "labels": str(labels) if labels else None,
        "single_source": single_source,
        "hold_out": sorted(hold_out),
    }
    earlier = stored_audit(out)
    written = catalogue.write(
        out,
        [_row(film, copies, side) for film, side in zip(films, sides, strict=True)],
        _manifest(report, folders, {**options, **more}),
        {
            "dropped.csv": sorted((str(d.path), d.source, d.label, d.code, d.reason) for d in dropped),
            "conflicts.csv": copies.conflicts_table(),
            "groups.csv": copies.groups_table(films),
            "pairs.csv": copies.pairs_table(),
        },
    )
    if decided.made:
        decided.save(out / catalogue.DECISIONS)
    if earlier is not None and earlier["catalogue"] == written.fingerprint:
        write_audit(out, earlier)  # the same films again: what a full audit saw of them still holds
    else:
        write_audit(out, quick_audit(written, seed=seed).to_dict())
    return replace(report, seconds=time.monotonic() - began, verdict=verdict_on(written))


def _read(
    listed: Sequence[Listed], admission: Admission, dropped: list[Dropped], workers: int | None, tell: Tell
) -> Iterator[tuple[Listed, Look]]:
    """Each film that can be read and comes in, completed with what its own header says."""
    paths = [film.image.path for film in listed]
    for done, (i, answer) in enumerate(look_at_all(paths, workers=workers), 1):
        if tell:
            tell(Progress("films", done, len(paths)))
        if not isinstance(answer, Look):
            dropped.append(Dropped.of(listed[i], answer.code, f"{answer.fault}; {answer.cure}"))
            continue
        film = listed[i].completed(answer.facts)
        if why := film.why_not(admission, answer.facts.modality):
            dropped.append(Dropped.of(film, *why))
        else:
            yield film, answer


def _people(listed: Sequence[Listed]) -> Counter[str]:
    """At most so many independent patients each class has: unread films may yet prove to be one person's."""
    return Counter(name for name, _ in {(film.class_name, film.patient) for film in listed})


def _from_several_sources(films: Sequence[Film], dropped: list[Dropped]) -> list[Film]:
    """The films of classes that at least two sources have; the others are added to ``dropped``."""
    sources: dict[str, set[str]] = {}
    for film in films:
        sources.setdefault(film.kept.class_name, set()).add(film.kept.image.source)
    kept = []
    for film in films:
        only = sources[film.kept.class_name]
        if len(only) > 1:
            kept.append(film)
        else:
            reason = f"{film.kept.class_name} comes from {min(only)} only, whose look would tell it"
            dropped.append(
                Dropped.of(film.kept, SINGLE_SOURCE, f"{reason}; --single-source keep takes it in")
            )
    return kept


def _split_row(film: Film, copies: Copies) -> SplitRow:
    kept = film.kept
    return SplitRow(
        film.image_id, kept.patient, copies.group_of[film.image_id], kept.class_name, kept.image.source
    )


def _healthy(classes: Sequence[str], wanted: Sequence[str] | None, label_map: LabelMap) -> tuple[str, ...]:
    if wanted is not None:
        for name in wanted:
            if name not in classes:
                raise LabelError(
                    f"healthy class {name!r}: no film is of this class; there are {', '.join(classes)}"
                )
        return tuple(wanted)
    if label_map.healthy is not None:
        return tuple(name for name in label_map.healthy if name in classes)
    return healthy_among(classes)


def _counts(
    folders: Sequence[Folder], films: Sequence[Film], sides: Sequence[str], dropped: Sequence[Dropped]
) -> dict[str, Any]:
    """The parts of a CompileReport that are sums over films and files."""
    counts: dict[str, Counter[str]] = {folder.name: Counter() for folder in folders}
    gone: dict[str, Counter[str]] = {}
    by_side: dict[str, Counter[str]] = {side: Counter() for side in SIDES}
    for film, side in zip(films, sides, strict=True):
        counts.setdefault(film.kept.image.source, Counter())[film.kept.class_name] += 1
        by_side[side][film.kept.class_name] += 1
    for item in dropped:
        counts.setdefault(item.source, Counter())
        gone.setdefault(item.source, Counter())[item.code] += 1
    return {
        "counts": {name: dict(sorted(count.items())) for name, count in counts.items()},
        "splits": {side: dict(sorted(count.items())) for side, count in by_side.items()},
        "dropped": {name: dict(sorted(gone[name].items())) for name in counts if name in gone},
        "patients": len({film.kept.patient for film in films}),
        "unknown_patients": dict(Counter(f.kept.image.source for f in films if not f.kept.knows_patient)),
        "unknown_ages": sum(film.kept.image.age is None for film in films),
    }


def _warnings(report: CompileReport, split: str, min_age: float | None) -> Iterator[str]:
    if split == "image":
        yield (
            "split by image: films of one patient and copies of one film stand on several sides, and every "
            "figure measured on this catalogue is too good"
        )
    if not report.healthy:
        yield f"no class means healthy among {', '.join(report.classes)}; name it with --healthy"
    for source, n in report.unknown_patients.items():
        yield f"{source}: {n} films name no patient; each counts as a patient of its own"
    if min_age is not None and report.unknown_ages:
        yield f"{report.unknown_ages} films state no age and came in unasked"


def _doubts(copies: Copies, conflicts: str) -> Iterator[str]:
    """Signs that labels, or the grouping of copies itself, deserve a look."""
    torn = sum(len(copies.members[group]) for group in copies.conflicting)
    if torn > _MUCH * len(copies.films):
        became = "are left out" if conflicts == "leave_out" else "came in"
        yield (
            f"{torn} of {len(copies.films)} films ({torn / len(copies.films):.0%}) {became} although their "
            "copies carry another label; conflicts.csv lists them: correct the labels, or give them one class"
        )
    if crowded := copies.crowded(_MANY):
        group, people = max(crowded.items(), key=lambda item: item[1])
        yield (
            f"groups of copies that join more than {_MANY} patients: {len(crowded)}; the largest, {group}, "
            f"joins {people}, and all their films stand on one side; look at them (groups.csv): blank films, "
            "or one film under many names?"
        )


def _relatives(copies: Copies) -> Iterator[str]:
    """Sets that hold each other's films, and how many groups of copies join them."""
    known = {
        c.image.source: c.image.source if c.image.source in PUBLIC_SETS else c.folder.reader.name
        for film in copies.films
        for c in film.copies
    }
    joined = Counter(
        pair
        for films in copies.members.values()
        for pair in combinations(sorted({known[c.image.source] for film in films for c in film.copies}), 2)
    )
    for one, other, words in kinship(known.values()):
        count = joined[min(one, other), max(one, other)]
        found = "1 group of copies joins" if count == 1 else f"{count} groups of copies join"
        yield f"{words}; {found} the two, and a copy that was not found may stand on two sides"


def _row(film: Film, copies: Copies, side: str) -> dict[str, Any]:
    image, facts = film.kept.image, film.facts
    return {
        "image_id": film.image_id,
        "path": str(image.path),
        "class": film.kept.class_name,
        "findings": list(image.findings),
        "source": image.source,
        "patient": film.kept.patient,
        "group": copies.group_of[film.image_id],
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


def _manifest(report: CompileReport, folders: Sequence[Folder], options: Mapping[str, Any]) -> dict[str, Any]:
    from carina import __version__

    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "carina": __version__,
        "classes": list(report.classes),
        "healthy": list(report.healthy),
        "options": dict(options),
        "sources": list(_sources(report, folders)),
        **report.to_dict(),
    }


def _sources(report: CompileReport, folders: Sequence[Folder]) -> Iterator[dict[str, Any]]:
    """What is known of each folder's set, and of the sets that one folder joins."""
    for folder in folders:
        known = PUBLIC_SETS.get(folder.reader.name) or PublicSet.of(folder.reader, ())
        yield _origin(folder.name, known, folder)
        for name in known.made_of:
            if name in report.counts and name not in {each.name for each in folders}:
                yield _origin(name, PUBLIC_SETS[name], folder)


def _origin(name: str, known: PublicSet, folder: Folder) -> dict[str, Any]:
    return {
        "name": name,
        "reader": folder.reader.name,
        "title": known.title,
        "path": str(folder.path),
        "licence": known.licence,
        "citation": known.citation,
        "terms": known.terms,
        "ages": list(known.ages) if known.ages else None,
        "scanner": known.scanner,
        "made_of": list(known.made_of),
    }


def _nothing_left(folders: Sequence[Folder], dropped: Sequence[Dropped]) -> str:
    names = ", ".join(str(folder.path) for folder in folders)
    if not dropped:
        return f"{names}: no films; check the path"
    counts = Counter(item.code for item in dropped).most_common()
    counts.sort(key=lambda pair: pair[0] != "no_film")  # files that a list misses explain most, however few
    said: list[str] = []
    for code, n in counts[:_REASONS]:
        example = next(item for item in dropped if item.code == code)
        said.append(f"{n} {'' if said else 'were left out '}like {example.path.name} ({example.reason})")
    return f"{names}: no film is left; {', '.join(said)}"
