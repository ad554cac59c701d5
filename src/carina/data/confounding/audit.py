"""The audit of a catalogue: tables, baselines and the verdict, in a quick form and in full.

    quick   the source and the headers alone: seconds, no picture is opened
    full    what is left of the pictures without the lungs as well, from a pixel cache

Both are written to ``audit.json`` beside the catalogue, so that training and evaluation can quote the
verdict. It names the content it judges: an audit of other films is never quoted.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from carina.data.catalogue import AUDIT, Catalogue
from carina.data.confounding import lookaway
from carina.data.confounding.association import CrossTable, age_bands, cross_table, single_source_classes
from carina.data.confounding.baselines import Baseline, Subjects, by_frequency, by_trees
from carina.data.confounding.headers import headers
from carina.data.confounding.marks import burnt_in_marks
from carina.data.confounding.verdict import RULES, Extent, Verdict, judge
from carina.data.splits import SplitRow
from carina.errors import MissingExtra, OutputError
from carina.records import Progress

KIND, FORMAT = "carina audit", 1
Tell = Callable[[Progress], None] | None
_QUICK_STEPS, _STEPS = 5, 10


class Cached(Protocol):
    """What is asked of a pixel cache."""

    def array(self, sha256s: Sequence[str], /) -> NDArray[np.uint8]:
        """The films' pixels, (n, S, S) uint8."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found out about a catalogue."""

    catalogue: str  # its fingerprint
    classes: tuple[str, ...]
    healthy: tuple[str, ...]
    films: int
    patients: int  # joined with near copies
    most_frequent: float  # share of the most frequent class: the accuracy of who always says it
    tables: tuple[CrossTable, ...]
    single_source: Mapping[str, str]
    baselines: tuple[Baseline, ...]
    verdict: Verdict
    created: str

    def baseline(self, key: str) -> Baseline | None:
        """One of the baselines, None where it was not asked."""
        return next((each for each in self.baselines if each.key == key), None)

    def to_dict(self) -> dict[str, Any]:
        """What ``audit.json`` says."""
        from carina import __version__

        head = {"kind": KIND, "format": FORMAT, "rules": RULES, "carina": __version__}
        return {**head, **asdict(self), "verdict": self.verdict.to_dict()}


def quick_audit(catalogue: Catalogue, *, seed: int = 0) -> Audit:
    """Tables, the source alone and the headers alone."""
    return _audited(catalogue, None, seed)


def full_audit(
    catalogue: Catalogue, cache: Cached, *, seed: int = 0, thorough: bool = True, progress: Tell = None
) -> Audit:
    """Everything; ``cache`` holds the films prepared as ``lookaway.PREPARATION``.

    ``thorough=False`` leaves out the sources never seen, on which the verdict does not rest. Raises
    MissingExtra without scikit-learn and scipy.
    """
    return _audited(catalogue, cache, seed, thorough, progress)


def audit_films(
    catalogue: Catalogue, *, seed: int = 0, workers: int | None = None, progress: Tell = None
) -> Audit:
    """The full audit, its pixel cache completed first. Raises CacheError as ``PixelCache.build``."""
    from carina.data.pixels import PixelCache

    cache = PixelCache.build(catalogue, lookaway.PREPARATION, workers=workers, progress=progress)
    return full_audit(catalogue, cache, seed=seed, progress=progress)


def picture_baselines(
    catalogue: Catalogue, cache: Cached, *, seed: int = 0, thorough: bool = True
) -> tuple[Baseline, ...]:
    """What the pictures of ``cache`` give away, whatever their preparation: before a remedy, and after.

    ``cache`` holds squares of ``lookaway.PREPARATION.size``. Raises MissingExtra as ``full_audit``.
    """
    return tuple(_by_pictures(catalogue, _subjects(catalogue, seed), cache, thorough))


def verdict_on(catalogue: Catalogue) -> Verdict:
    """The verdict that ``audit.json`` holds on these very films, else that of a quick audit."""
    return stored_verdict(catalogue) or quick_audit(catalogue).verdict


def stored_verdict(catalogue: Catalogue) -> Verdict | None:
    """The verdict in ``audit.json``; None where there is none by these rules on these films."""
    found = stored_audit(catalogue.root)
    if found is None or found["catalogue"] != catalogue.fingerprint:
        return None
    return Verdict.from_dict(found["verdict"])


def stored_audit(folder: Path) -> dict[str, Any] | None:
    """What ``audit.json`` in ``folder`` says; None where there is none by these rules."""
    try:
        found: dict[str, Any] = json.loads((folder / AUDIT).read_text("utf-8"))
        if (found["kind"], found["format"], found["rules"]) != (KIND, FORMAT, RULES):
            return None
        Verdict.from_dict(found["verdict"])
        return found if isinstance(found["catalogue"], str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it is made anew


def write_audit(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write ``audit.json`` into ``folder`` in one piece. Raises OutputError."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    partial = folder / f".{AUDIT}.{secrets.token_hex(6)}.partial"
    try:
        with partial.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return partial.replace(folder / AUDIT)
    except OSError as error:
        raise OutputError(
            f"{folder}: {AUDIT} cannot be written ({error.strerror}); free space or name another folder"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _audited(
    catalogue: Catalogue, cache: Cached | None, seed: int, thorough: bool = False, tell: Tell = None
) -> Audit:
    subjects = _subjects(catalogue, seed)
    tables = _tables(catalogue)
    single = single_source_classes(tables[0])
    found = []
    for done, each in enumerate(_baselines(catalogue, subjects, cache, thorough), 1):
        found.append(each)
        if tell:
            tell(Progress("audit", done, _QUICK_STEPS if cache is None else _STEPS))
    extent = _extent(subjects, tables, single)
    return Audit(
        catalogue=catalogue.fingerprint,
        classes=catalogue.classes,
        healthy=tuple(name for name in catalogue.classes if name in catalogue.healthy),
        films=len(subjects),
        patients=len(np.unique(subjects.groups)),
        most_frequent=float(np.bincount(subjects.labels).max() / len(subjects)) if len(subjects) else 0.0,
        tables=tuple(tables),
        single_source=single,
        baselines=tuple(found),
        verdict=judge(found, extent, quick=cache is None),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _subjects(catalogue: Catalogue, seed: int) -> Subjects:
    films = catalogue.table()
    names = ("image_id", "patient", "group", "class", "source")
    rows = [SplitRow(*row) for row in zip(*(films[name].to_pylist() for name in names), strict=True)]
    return Subjects.of(rows, catalogue.classes, sorted(catalogue.healthy), seed=seed)


def _tables(catalogue: Catalogue) -> list[CrossTable]:
    return [
        cross_table(fact, values, catalogue.films["class"].to_pylist(), catalogue.classes)
        for fact, values in _facts(catalogue).items()
    ]


def _facts(catalogue: Catalogue) -> dict[str, Sequence[str | None]]:
    films = catalogue.films
    sources = films["source"].to_pylist()
    spans = {
        each["name"]: tuple(each["ages"])
        for each in catalogue.manifest.get("sources", ())
        if each.get("ages")
    }
    return {
        "source": sources,
        "age": age_bands(films["age"].to_pylist(), sources, spans),
        "view": films["view"].to_pylist(),
        "sex": films["sex"].to_pylist(),
    }


def _baselines(
    catalogue: Catalogue, subjects: Subjects, cache: Cached | None, thorough: bool
) -> Iterator[Baseline]:
    facts = _facts(catalogue)
    yield by_frequency("source", facts.pop("source"), subjects)
    yield _by_headers(catalogue, subjects, needed=cache is not None, thorough=thorough)
    if cache is not None:
        yield from _by_pictures(catalogue, subjects, cache, thorough)
    for fact, values in facts.items():
        yield by_frequency(fact, values, subjects)


def _by_pictures(
    catalogue: Catalogue, subjects: Subjects, cache: Cached, thorough: bool
) -> Iterator[Baseline]:
    films = cache.array(catalogue.films["sha256"].to_pylist())
    small = lookaway.reduced(films, lookaway.SIDE)
    sights: dict[str, Callable[[], lookaway.Features]] = {
        "marks": lambda: burnt_in_marks(films),
        "border": lambda: lookaway.border_only(small),
        "blacked_out": lambda: lookaway.blacked_out(small),
        "grain": lambda: lookaway.grain(films),
        "thumbnail": lambda: lookaway.thumbnail(small),
    }
    for key, features in sights.items():
        yield by_trees(key, features(), subjects, thorough=thorough)


def _by_headers(catalogue: Catalogue, subjects: Subjects, *, needed: bool, thorough: bool) -> Baseline:
    known = headers(catalogue.films)
    try:
        return by_trees("header", known.columns, subjects, names=known.names, thorough=thorough)
    except MissingExtra as error:
        if needed:
            raise
        return Baseline("header", why=str(error))


def _extent(subjects: Subjects, tables: Sequence[CrossTable], single: Mapping[str, str]) -> Extent:
    sources = {
        str(name): len(np.unique(subjects.groups[subjects.sources == name]))
        for name in np.unique(subjects.sources)
    }
    return Extent(
        patients={name: subjects.patients(label) for label, name in enumerate(subjects.classes)},
        sources=sources,
        healthy=tuple(name for name in subjects.classes if name in subjects.healthy),
        single_source=dict(single),
        unstated={table.fact: table.unstated / max(1, len(subjects)) for table in tables[1:]},
    )
