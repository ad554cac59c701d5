"""List the films of a catalogue whose label is contradicted: ``labels.csv`` and ``labels.html``.

The judgement is in ``disagreement.py``; here the films are turned into numbers, by a bundle's embedding or
by simple measures of their pixels, and what was found is written for a person to look at.
"""

from __future__ import annotations

import base64
import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carina.data.catalogue import Catalogue
from carina.data.confounding import lookaway
from carina.data.pixels import PixelCache
from carina.data.splits import SplitRow
from carina.data.thumbnails import thumbnails
from carina.errors import DataError, MissingExtra, OutputError
from carina.evaluation.answers import cached, embeddings
from carina.evaluation.disagreement import Disagreement, Suspect, disagreement, features_of
from carina.evaluation.selection import trained_on
from carina.evaluation.wording import counted, percent
from carina.records import Progress
from carina.scoring.bundle import Bundle
from carina.scoring.scorer import Scorer
from carina.scoring.tables import harmless

Tell = Callable[[Progress], None] | None

PAGE, TABLE = "labels.html", "labels.csv"
LIMIT = 300  # films on the page; the table has all
_CHUNK = 512
_HEAD = (
    "rank", "path", "class", "expected", "p_class", "p_expected", "quality",
    "source", "patient", "split", "seen_in_training", "sha256",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listed:
    """A film whose label is contradicted, as a person meets it."""

    suspect: Suspect
    path: Path
    sha256: str
    source: str
    patient: str
    split: str
    seen: bool | None  # whether the bundle was trained on it; None where no bundle was asked


@dataclass(frozen=True, slots=True)
class LabelReview:
    """What was found, and where it was written."""

    out: Path
    judge: str
    found: Disagreement
    refused: int
    films: tuple[Listed, ...]

    def lines(self) -> list[str]:
        """What a terminal shows."""
        found, of = counted(len(self.films), "label"), f"{self.found.asked:,}"
        share = percent(self.found.accuracy)
        said = [
            f"{found} of {of} contradicted by {self.judge}, which agrees with {share} of all, out of fold.",
            "Each is a candidate for a second look; nothing was dropped or changed.",
        ]
        if self.found.left_out:
            said.append(f"Not asked, too few patients: {', '.join(self.found.left_out)}.")
        if self.refused:
            said.append(f"{counted(self.refused, 'film')} could not be scored and were not asked.")
        if any(film.seen for film in self.films):
            said.append(
                "The bundle was trained on some of these films, labels and all: its embedding may have "
                "learnt a wrong label, and fewer are found among them."
            )
        return said


def labels(
    catalogue: Catalogue | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    model: Bundle | str | os.PathLike[str] | None = None,
    seed: int = 0,
    limit: int = LIMIT,
    workers: int | None = None,
    progress: Tell = None,
) -> LabelReview:
    """Judge every label of ``catalogue``, by the embedding of the bundle ``model`` where one is given.

    Raises CatalogueError, BundleError and CacheError for what cannot be opened or read, DataError when
    labels cannot be judged, MissingExtra without the ``report`` extra and OutputError when the results
    cannot be written.
    """
    catalogue = catalogue if isinstance(catalogue, Catalogue) else Catalogue.open(Path(catalogue))
    bundle = None if model is None else model if isinstance(model, Bundle) else Bundle.open(model)
    rows = _split_rows(catalogue)
    if bundle is None:
        judge, features, kept = "a judge of simple pixel measures", *_measured(catalogue, workers, progress)
    else:
        judge, features, kept = (
            f"a judge of the embedding of {bundle.manifest.name}",
            *_embedded(bundle, catalogue, progress),
        )
    found = disagreement(features, [rows[place] for place in kept], sorted(catalogue.healthy), seed=seed)
    listed = _listed(catalogue, kept, found, None if bundle is None else trained_on(bundle))
    result = LabelReview(Path(out), judge, found, len(catalogue) - len(kept), listed)
    _write(result, render(catalogue.root.name, result, limit, workers, progress))
    return result


def _split_rows(catalogue: Catalogue) -> list[SplitRow]:
    names = ("image_id", "patient", "group", "class", "source")
    columns = (catalogue.films[name].to_pylist() for name in names)
    return [SplitRow(*row) for row in zip(*columns, strict=True)]


def _measured(catalogue: Catalogue, workers: int | None, tell: Tell) -> tuple[NDArray[np.float32], list[int]]:
    """Simple measures of every film, from the pixels that the audit uses as well."""
    cache = PixelCache.build(catalogue, lookaway.PREPARATION, workers=workers, progress=tell)
    hashes = catalogue.films["sha256"].to_pylist()
    parts = []
    for start in range(0, len(hashes), _CHUNK):
        parts.append(features_of(cache.array(hashes[start : start + _CHUNK])))
        if tell:
            tell(Progress("measures", min(start + _CHUNK, len(hashes)), len(hashes)))
    return np.concatenate(parts), list(range(len(hashes)))


def _embedded(bundle: Bundle, catalogue: Catalogue, tell: Tell) -> tuple[NDArray[np.float32], list[int]]:
    """The embedding of every film that can be scored, and their places."""
    given = list(embeddings(Scorer(bundle), catalogue.films, cached(catalogue, bundle.preparation), tell))
    kept = [place for place, answer in enumerate(given) if answer is not None]
    if not kept:
        raise DataError(f"{catalogue.root}: none of its {len(given)} films could be scored")
    return np.array([answer[1] for answer in given if answer is not None], np.float32), kept


def _listed(
    catalogue: Catalogue, kept: Sequence[int], found: Disagreement, seen: frozenset[str] | None
) -> tuple[Listed, ...]:
    names = ("path", "sha256", "source", "patient", "split")
    columns = [catalogue.films[name].to_pylist() for name in names]
    listed = []
    for suspect in found.suspects:
        path, sha256, source, patient, split = (column[kept[suspect.film]] for column in columns)
        known = None if seen is None else sha256 in seen
        listed.append(Listed(suspect, Path(path), sha256, source, patient, split, known))
    return tuple(listed)


def render(title: str, result: LabelReview, limit: int, workers: int | None, tell: Tell) -> str:
    """The page, with the first ``limit`` films."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise MissingExtra("carina labels", "report") from error
    shown = result.films[:limit]
    paths = [film.path for film in shown]
    pictures = {
        paths[i]: "data:image/jpeg;base64," + base64.b64encode(answer).decode()
        for i, answer in (thumbnails(paths, workers=workers, progress=tell) if paths else ())
        if isinstance(answer, bytes)
    }
    environment = Environment(
        loader=PackageLoader("carina.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("labels.html.j2").render(
        title=title, films=shown, total=len(result.films), lines=result.lines(), pictures=pictures
    )


def _write(result: LabelReview, page: str) -> None:
    try:
        result.out.mkdir(parents=True, exist_ok=True)
        (result.out / PAGE).write_text(page, "utf-8")
        with (result.out / TABLE).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_HEAD)
            for rank, film in enumerate(result.films, 1):
                of = film.suspect
                figures = (f"{value:.4f}" for value in (of.p_given, of.p_expected, of.quality))
                seen = "" if film.seen is None else str(film.seen).lower()
                film_words = map(harmless, (str(film.path), of.given, of.expected))
                who = (harmless(film.source), harmless(film.patient), film.split, seen, film.sha256)
                writer.writerow((rank, *film_words, *figures, *who))
    except OSError as error:
        raise OutputError(
            f"{result.out}: cannot be written ({error.strerror}); name another folder with --out"
        ) from error
