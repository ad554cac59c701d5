"""COVID-19 image repository of Hannover Medical School: ``data.csv`` and ``png/``.

Every patient has COVID-19; most films are from intensive care.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from carina.data.sources.cells import age_in_years, cell, patient_id, sex_letter, view_word
from carina.data.sources.layout import FilmIndex, films, find_table, needed_table, pair
from carina.data.sources.source import LeftOut, Source
from carina.data.sources.way import github
from carina.records import SourceImage


def _table(root: Path) -> Path | None:
    return find_table(root, r"data\.csv", ("patient id", "image id", "projection"))


def recognise(root: Path) -> bool:
    return _table(root) is not None


def read(root: Path) -> Iterator[SourceImage | LeftOut]:
    table = needed_table(root, _table(root), "data.csv")
    for found in pair(table, FilmIndex(films(root)), lambda row: cell(row, "image id")):
        if isinstance(found, LeftOut):
            yield found
            continue
        row, path = found
        yield SourceImage(
            path,
            "hannover",
            "COVID-19",
            ("COVID-19",),
            patient_id(cell(row, "patient id")),
            view=view_word(cell(row, "projection")),
            age=age_in_years(cell(row, "age")),
            sex=sex_letter(cell(row, "sex")),
        )


SOURCE = Source(
    name="hannover",
    title="COVID-19 image repository, Hannover Medical School",
    licence="CC BY 3.0",
    citation="Winther et al.: COVID-19 image repository. 2020, doi 10.6084/m9.figshare.12275009",
    recognise=recognise,
    read=read,
    terms="free download from figshare or GitHub",
    way=github("ml-workgroup/covid-19-image-repository"),
)
