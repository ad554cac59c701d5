"""A folder for each class, as torchvision's ImageFolder reads it; the reader for films of your own.

``ROOT/CLASS/film.png``, at any depth below the class; ``ROOT/{train,valid,val,test}/CLASS/film.png``,
whose parts are read as one (Carina splits by patient itself). The label is the class folder's name.
The patient comes from a folder below the class or from the file's name, by the customs in ``names.py``;
where neither states one, each film is a patient of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from carina.data.sources.layout import films, films_in, subfolders
from carina.data.sources.names import patient_from_name
from carina.data.sources.source import LeftOut, Source
from carina.records import SourceImage

_PARTS = frozenset(
    {"train", "training", "trn", "valid", "validation", "val", "dev", "test", "testing", "tst"}
)
_PLAIN = frozenset(
    {"images", "image", "img", "imgs", "films", "png", "jpg", "jpeg", "dicom", "dcm", "frontal"}
)


def recognise(root: Path) -> bool:
    return any(path.parent != root for path in films(root))


def _class_folders(root: Path) -> list[Path]:
    """Every class folder; wrapped folders (``data/data/CLASS``) are opened, and so are split parts."""
    children = subfolders(root)
    if children and all(child.name.casefold() in _PARTS for child in children):
        return [folder for child in children for folder in _class_folders(child)]
    only = children[0] if len(children) == 1 and not _has_films(root) else None
    if only is not None and not _has_films(only):
        below = subfolders(only)
        if any(child.name.casefold() not in _PLAIN for child in below):
            return _class_folders(only)
    return children


def _has_films(folder: Path) -> bool:
    return any(True for _ in films_in(folder))


def labelled(root: Path, source: str) -> Iterator[SourceImage | LeftOut]:
    """The films below ``root`` with their class folder's name as the label."""
    tops = sorted(_class_folders(root), key=lambda folder: -len(folder.parts))
    for path in films(root):
        top = next((top for top in tops if path.is_relative_to(top)), None)
        if top is None:
            yield LeftOut(
                path, "no_class", "it stands in no class folder; put it into a folder named as its class"
            )
            continue
        inner = path.relative_to(top).parts[:-1]
        stated = (patient_from_name(name) for name in (*inner, path.stem))
        yield SourceImage(path, source, top.name, patient=next(filter(None, stated), None))


def read(root: Path) -> Iterator[SourceImage | LeftOut]:
    return labelled(root, "folder")


SOURCE = Source(
    name="folder",
    title="a folder for each class",
    licence="yours",
    citation="none",
    recognise=recognise,
    read=read,
    generic=True,
)
