"""Actualmed COVID-19 chest X-ray set: ``metadata.csv`` with ``imagename``, and ``images/``.

A blank finding is the authors' "inconclusive"; it becomes that label.
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
    return find_table(root, r"metadata\.csv", ("patientid", "finding", "imagename"))


def recognise(root: Path) -> bool:
    return _table(root) is not None


def read(root: Path) -> Iterator[SourceImage | LeftOut]:
    table = needed_table(root, _table(root), "metadata.csv with a column imagename")
    for found in pair(table, FilmIndex(films(root)), lambda row: cell(row, "imagename")):
        if isinstance(found, LeftOut):
            yield found
            continue
        row, path = found
        finding = cell(row, "finding")
        yield SourceImage(
            path,
            "actualmed",
            finding or "inconclusive",
            (finding,) if finding else (),
            patient_id(cell(row, "patientid")),
            view=view_word(cell(row, "view")),
            age=age_in_years(cell(row, "age")),
            sex=sex_letter(cell(row, "sex")),
        )


SOURCE = Source(
    name="actualmed",
    title="Actualmed COVID-19 chest X-ray dataset initiative",
    licence="for research only, as its authors state",
    citation="Chung, Wang, Wong: Actualmed COVID-19 chest X-ray dataset initiative, 2020",
    recognise=recognise,
    read=read,
    terms="free download from GitHub",
    way=github("agchung/Actualmed-COVID-chestxray-dataset"),
)
