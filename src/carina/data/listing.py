"""What the folders to compile hold: each film with its class, before anything is opened.

Readers list films, the label map gives each a class, and admission turns away what the lists
themselves say is no frontal film. Whatever stays behind is a ``Dropped`` with its reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

from carina.data.admission import Admission
from carina.data.labels import LabelMap
from carina.data.sources import SOURCES, LeftOut, Source, recognise, source_named
from carina.errors import SourceError
from carina.records import FilmFacts, Progress, SourceImage

Tell = Callable[[Progress], None] | None
AnyPath = str | os.PathLike[str]
Sources = AnyPath | Mapping[str, AnyPath] | Sequence[AnyPath | tuple[str, AnyPath]]


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

    @property
    def knows_patient(self) -> bool:
        return bool(self.image.patient)

    @property
    def patient(self) -> str:
        """``origin:patient``; a film without a patient is one of its own, named by its path."""
        if self.image.patient:
            return f"{self.origin}:{self.image.patient}"
        inner = os.path.relpath(self.image.path.with_suffix(""), self.folder.path)
        return f"{self.folder.name}:{Path(inner).as_posix()}"

    def why_not(self, admission: Admission, modality: str | None = None) -> tuple[str, str] | None:
        """Why the film stays out, as a code and a sentence; None when it comes in."""
        ages = self.folder.reader.ages
        return admission.why_not(
            view=self.image.view,
            age=self.image.age,
            child="child" in self.image.findings,
            oldest=ages[1] if ages else None,
            modality=modality,
        )

    def completed(self, facts: FilmFacts) -> Listed:
        """This film, with what the list does not say taken from the file's own header."""
        image = self.image
        image = replace(
            image,
            patient=image.patient or facts.patient or None,
            study=image.study or facts.study or None,
            view=image.view or facts.view or None,
            age=facts.age if image.age is None else image.age,
            sex=image.sex or facts.sex or None,
        )
        return replace(self, image=image)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file that is not in the catalogue, and why; ``code`` groups reasons for counting."""

    path: Path
    source: str
    label: str
    code: str
    reason: str

    @classmethod
    def of(cls, film: Listed, code: str, reason: str) -> Dropped:
        return cls(film.image.path, film.image.source, film.image.label, code, reason)


def name_folders(sources: Sources) -> list[Folder]:
    """Each folder with a name and a reader. Raises SourceError where no reader fits or a name comes twice."""
    found: list[Folder] = []
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    for source in sources.items() if isinstance(sources, Mapping) else sources:
        taken = {folder.name for folder in found}
        if isinstance(source, tuple):
            path = _absolute(source[1])
            with _readable(path):
                folder = _named(source[0], path)
            if folder.name in taken:
                raise SourceError(
                    f"{folder.name}: two sources of this name; give one of them another: NAME=PATH"
                )
        else:
            path = _absolute(source)
            with _readable(path):
                reader = recognise(path)
            folder = Folder(_free_name(path, reader, taken), path, reader)
        found.append(folder)
    if not found:
        raise SourceError("no folder to compile; give at least one, as PATH or NAME=PATH")
    return found


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever the system refuses to show of ``path`` is a SourceError."""
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read ({error.strerror}: {error.filename}); give access, or name another"
        ) from error


def _absolute(path: AnyPath) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (links keep the name the user gave)


def _free_name(path: Path, reader: Source, taken: set[str]) -> str:
    """The set's name, else the folder's, else that with a number."""
    own = path.stem if path.is_file() else path.name
    wanted = own if reader.generic else reader.name
    numbered = (f"{own}_{number}" for number in count(2))
    return next(name for name in (*(wanted, own), *islice(numbered, len(taken) + 1)) if name not in taken)


def _named(name: str, path: Path) -> Folder:
    if name not in {reader.name for reader in SOURCES}:
        return Folder(name, path, recognise(path))
    if not path.exists():
        raise SourceError(f"{path}: no such folder; check the path")
    reader = source_named(name)
    if not reader.recognise(path):
        raise SourceError(
            f"{path}: not laid out as {name} ({reader.title}); give it another name to have it recognised"
        )
    return Folder(name, path, reader)


def _listed(folder: Folder) -> Iterator[SourceImage | LeftOut]:
    with _readable(folder.path):
        yield from folder.reader.read(folder.path)


def list_films(
    folders: Sequence[Folder], label_map: LabelMap, admission: Admission, dropped: list[Dropped], tell: Tell
) -> list[Listed]:
    """What the readers find, less what label map and admission leave out unread."""
    listed: list[Listed] = []
    for number, folder in enumerate(folders):
        if tell:
            tell(Progress("sources", number, len(folders), {"source": folder.name}))
        for item in _listed(folder):
            if isinstance(item, LeftOut):
                dropped.append(Dropped(item.path, folder.name, "", item.code, item.reason))
                continue
            reader = item.source  # differs from the folder's reader where one folder joins two sets
            name = folder.name if reader == folder.reader.name else reader
            origin = folder.name if folder.reader.generic else reader
            image = replace(item, source=name, path=_absolute(item.path))
            class_name = label_map.class_of(reader, image)
            if class_name is None:
                reason = f"label {image.label!r} has no class in the label map"
                dropped.append(Dropped(image.path, name, image.label, "no_class_wanted", reason))
                continue
            film = Listed(image, class_name, folder, origin)
            if why := film.why_not(admission):
                dropped.append(Dropped.of(film, *why))
            else:
                listed.append(film)
    if tell:
        tell(Progress("sources", len(folders), len(folders)))
    return listed
