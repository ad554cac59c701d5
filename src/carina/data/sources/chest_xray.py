"""Kermany et al. 2018: children of one to five years, Guangzhou, in Kaggle's and Mendeley's layouts.

``chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}``, any part of it, or a bare pair of those two folders.
The kind of pneumonia stands in the file name only. The official parts share one count of persons
(the train part skips the numbers that the test part has), so a person's number needs no part in front
of it. Bacterial and viral films are counted separately by their authors, and ``person23_bacteria``
need not be the child of ``person23_virus``; they are kept together all the same, because a patient
split twice costs more than two patients kept together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from carina.data.sources.layout import films, films_in, folders, subfolders
from carina.data.sources.names import patient_from_name
from carina.data.sources.source import LeftOut, Source
from carina.data.sources.way import Kaggle
from carina.records import SourceImage

_CUSTOM = re.compile(
    r"^(person\d+_(bacteria|virus)_\d+|(NORMAL2-)?IM-\d+-\d+|(BACTERIA|VIRUS|NORMAL)-\d+-\d+)", re.IGNORECASE
)


def _pair(folder: Path) -> dict[str, Path]:
    """The class folders of ``folder`` when they are NORMAL and PNEUMONIA and nothing else, else empty."""
    children = {child.name.upper(): child for child in subfolders(folder)}
    return children if set(children) == {"NORMAL", "PNEUMONIA"} else {}


def _is_custom(folder: Path) -> bool:
    names = sorted(path.name for path in islice(films_in(folder), 50))
    return bool(names) and sum(bool(_CUSTOM.match(name)) for name in names) * 2 > len(names)


def recognise(root: Path) -> bool:
    return any(all(map(_is_custom, pair.values())) for folder in folders(root, 4) if (pair := _pair(folder)))


def read(root: Path) -> Iterator[SourceImage | LeftOut]:
    for path in films(root):
        folder = path.parent.name.upper()
        kind = re.search(r"bacteria|virus", path.name, re.IGNORECASE)
        if folder not in {"NORMAL", "PNEUMONIA"}:
            yield LeftOut(path, "no_class", "it stands outside the folders NORMAL and PNEUMONIA")
            continue
        label = folder if folder == "NORMAL" or kind is None else kind[0].lower()
        findings = () if folder == "NORMAL" else ("Pneumonia",)
        yield SourceImage(path, "chest_xray", label, findings, patient_from_name(path.stem))


SOURCE = Source(
    name="chest_xray",
    title="Chest X-ray images (pneumonia) of children, Guangzhou",
    licence="CC BY 4.0",
    citation="Kermany, Zhang, Goldbaum: Labeled OCT and chest X-ray images. Mendeley Data rscbjbr9sj, 2018",
    recognise=recognise,
    read=read,
    terms="free download from Mendeley Data, or from Kaggle with an account",
    ages=(1, 5),
    way=Kaggle("paultimothymooney/chest-xray-pneumonia"),
)
