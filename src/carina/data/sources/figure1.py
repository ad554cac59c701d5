"""Figure 1 COVID-19 chest X-ray set: ``metadata.csv`` and ``images/COVID-00003b.jpg``.

The table states a finding for about two films in three, and one of the others is noted to be
tuberculosis; a film without a finding carries the label ``unstated``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from carina.data.sources.cells import age_in_years, cell, sex_letter, view_word
from carina.data.sources.layout import FilmIndex, films, find_table, needed_table, pair
from carina.data.sources.names import patient_from_name
from carina.data.sources.source import LeftOut, Source
from carina.data.sources.way import github
from carina.records import SourceImage


def _table(root: Path) -> Path | None:
    return find_table(
        root,
        r"metadata\.csv",
        ("patientid", "finding", "view"),
        without=("imagename", "filename", "pcr test"),
    )


def recognise(root: Path) -> bool:
    return _table(root) is not None


def read(root: Path) -> Iterator[SourceImage | LeftOut]:
    table = needed_table(root, _table(root), "metadata.csv")
    for found in pair(table, FilmIndex(films(root)), lambda row: cell(row, "patientid")):
        if isinstance(found, LeftOut):
            yield found
            continue
        row, path = found
        finding = cell(row, "finding")
        yield SourceImage(
            path,
            "figure1",
            finding or "unstated",
            (finding,) if finding else (),
            patient_from_name(path.stem) or path.stem,
            view=view_word(cell(row, "view")),
            age=age_in_years(cell(row, "age")),
            sex=sex_letter(cell(row, "sex")),
        )


SOURCE = Source(
    name="figure1",
    title="Figure 1 COVID-19 chest X-ray dataset initiative",
    licence="for research only, as its authors state",
    citation="Chung: Figure 1 COVID-19 chest x-ray dataset initiative, 2020",
    recognise=recognise,
    read=read,
    terms="free download from GitHub",
    way=github("agchung/Figure1-COVID-chestxray-dataset"),
)
