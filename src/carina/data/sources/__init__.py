"""One short reader for each public set, and three for folders of your own; all yield the same record.

A new set is one new file with a ``SOURCE`` and one new line here.
"""

from __future__ import annotations

from pathlib import Path

from carina.data.sources import (
    actualmed,
    chest_xray,
    chexpert,
    covid_chestxray,
    covid_cxnet,
    dicom,
    figure1,
    folder,
    hannover,
    nih,
    radiography,
    rsna,
    table,
    tuberculosis,
)
from carina.data.sources.source import LeftOut, Source
from carina.errors import SourceError

__all__ = ["SOURCES", "LeftOut", "Source", "recognise", "source_named"]

# Order matters at the end only: the three generic readers accept what nobody above them knew.
SOURCES: tuple[Source, ...] = (
    chest_xray.SOURCE,
    figure1.SOURCE,
    actualmed.SOURCE,
    covid_chestxray.SOURCE,
    covid_cxnet.SOURCE,
    hannover.SOURCE,
    radiography.SOURCE,
    tuberculosis.BOTH,
    tuberculosis.SHENZHEN,
    tuberculosis.MONTGOMERY,
    nih.SOURCE,
    rsna.SOURCE,
    chexpert.SOURCE,
    dicom.SOURCE,
    table.SOURCE,
    folder.SOURCE,
)


def source_named(name: str) -> Source:
    """The reader of that name. Raises SourceError with the names there are."""
    for source in SOURCES:
        if source.name == name:
            return source
    names = ", ".join(source.name for source in SOURCES)
    raise SourceError(f"{name}: no reader of this name; there are {names}")


def recognise(root: Path) -> Source:
    """The first reader that knows the layout of ``root``. Raises SourceError when none does."""
    if not root.exists():
        raise SourceError(f"{root}: no such folder; check the path")
    if not root.is_dir() and not table.recognise(root):
        raise SourceError(
            f"{root}: not a folder and not a table; give a folder of films, or a CSV that lists films"
        )
    for source in SOURCES if root.is_dir() else (table.SOURCE,):
        if source.recognise(root):
            return source
    raise SourceError(
        f"{root}: no films in a layout that is known; make a folder for each class, or a labels.csv with "
        "the columns path and label"
    )
