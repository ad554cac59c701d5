"""COVID-19 Radiography Database (Kaggle): ``COVID``, ``Lung_Opacity``, ``Normal``, ``Viral Pneumonia``.

Each with ``images/`` and ``masks/`` (masks are ignored), or, in versions before 2021, with the films
directly inside. Its ``*.metadata.xlsx`` hold names and origins, no patients, and are not needed. The
films were taken from other public sets (Kermany, RSNA, the COVID collections): near copies show it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from carina.data.sources.layout import films, folders, subfolders
from carina.data.sources.source import LeftOut, Source
from carina.data.sources.way import Kaggle
from carina.records import SourceImage

_LABELS = {"covid": "COVID", "covid 19": "COVID", "covid19": "COVID"} | {
    name.casefold(): name for name in ("Lung Opacity", "Normal", "Viral Pneumonia")
}


def _label(folder: str) -> str | None:
    return _LABELS.get(re.sub(r"[-_ ]+", " ", folder.casefold()))


def _root(root: Path) -> Path | None:
    for folder in folders(root, 2):
        labels = {_label(child.name) for child in subfolders(folder)}
        if {"COVID", "Normal", "Viral Pneumonia"} <= labels and None not in labels:  # else: a user's classes
            return folder
    return None


def recognise(root: Path) -> bool:
    return _root(root) is not None


def read(root: Path) -> Iterator[SourceImage | LeftOut]:
    top = _root(root) or root
    for path in films(top):
        parts = path.relative_to(top).parts
        label = _label(parts[0])
        if label is None or len(parts) == 1:
            yield LeftOut(path, "no_class", "it stands outside the class folders")
        else:
            yield SourceImage(path, "radiography", label)


SOURCE = Source(
    name="radiography",
    title="COVID-19 radiography database",
    licence="each image that of its origin",
    citation="Chowdhury et al. IEEE Access 2020; Rahman et al. Computers in Biology and Medicine 2021",
    recognise=recognise,
    read=read,
    terms="from Kaggle, with an account",
    way=Kaggle("tawsifurrahman/covid19-radiography-database"),
)
