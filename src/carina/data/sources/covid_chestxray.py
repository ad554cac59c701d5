"""covid-chestxray-dataset of Cohen et al. (GitHub ieee8023): ``metadata.csv`` and ``images/``.

The label is the finding as written: a path in a hierarchy (``Pneumonia/Viral/COVID-19``), or a bare
word in versions before August 2020. CT slices, volumes and axial or coronal images are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from carina.data.sources.cells import age_in_years, cell, patient_id, sex_letter, view_word
from carina.data.sources.layout import FilmIndex, Row, films, find_table, needed_table, pair, rows
from carina.data.sources.source import LeftOut, Source
from carina.data.sources.way import github
from carina.records import SourceImage

_NOT_A_FILM = frozenset({"CT", "AXIAL", "CORONAL", "SAGITTAL"})


def _table(root: Path) -> Path | None:
    return find_table(root, r"metadata\.csv", ("patientid", "finding", "filename", "view"))


def recognise(root: Path) -> bool:
    return _table(root) is not None


def _is_radiograph(row: Row) -> bool:
    modality = cell(row, "modality").casefold() or "x-ray"
    return modality in {"x-ray", "xray", "cr", "dx"} and view_word(cell(row, "view")) not in _NOT_A_FILM


def read(root: Path) -> Iterator[SourceImage | LeftOut]:
    table = needed_table(root, _table(root), "metadata.csv with a column filename")
    table_rows = rows(table)
    slices = [row for row in table_rows if not _is_radiograph(row)]
    for row in slices:
        reason = f"{cell(row, 'modality') or cell(row, 'view')} image, not a plain radiograph"
        yield LeftOut(table.parent / cell(row, "filename"), "not_a_radiograph", reason)
    known = {cell(row, "filename") for row in slices}
    index = FilmIndex(path for path in films(root) if path.name not in known)
    remaining = [row for row in table_rows if cell(row, "filename") not in known]
    for found in pair(table, index, lambda row: cell(row, "filename"), remaining):
        if isinstance(found, LeftOut):
            yield found
            continue
        row, path = found
        finding = cell(row, "finding")
        yield SourceImage(
            path,
            "covid_chestxray",
            finding or "unstated",
            tuple(part.strip() for part in finding.split(",") if part.strip()),
            patient_id(cell(row, "patientid")),
            view=view_word(cell(row, "view")),
            age=age_in_years(cell(row, "age")),
            sex=sex_letter(cell(row, "sex")),
        )


SOURCE = Source(
    name="covid_chestxray",
    title="COVID-19 image data collection",
    licence="each image its own (column license)",
    citation="Cohen et al.: COVID-19 image data collection: prospective predictions are the future. 2020",
    recognise=recognise,
    read=read,
    terms="free download from GitHub",
    way=github("ieee8023/covid-chestxray-dataset"),
)
