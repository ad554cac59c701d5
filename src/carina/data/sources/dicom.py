"""A tree of DICOM files, labelled by a table or by class folders.

The table lies in the given folder and has a label column and either a path column (then it is read
like any other table) or one of SOPInstanceUID, SeriesInstanceUID, StudyInstanceUID, AccessionNumber
and PatientID, which are looked up in the headers. Patient, view, age and sex that the table does not
state are taken from the header when the film is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from carina.data.sources import folder
from carina.data.sources.cells import cell
from carina.data.sources.layout import Row, films, has_dicom_mark, is_dicom, rows
from carina.data.sources.source import LeftOut, Source
from carina.data.sources.table import PATH, from_row, label_tables, listed
from carina.errors import SourceError
from carina.images.patience import Patience
from carina.records import SourceImage

_KEYWORDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "AccessionNumber", "PatientID")
_COLUMNS = {
    "SOPInstanceUID": ("sopinstanceuid", "sop instance uid", "instance uid"),
    "SeriesInstanceUID": ("seriesinstanceuid", "series instance uid"),
    "StudyInstanceUID": ("studyinstanceuid", "study instance uid"),
    "AccessionNumber": ("accessionnumber", "accession number", "accession"),
    "PatientID": ("patientid", "patient id"),
}
_DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"})


def recognise(root: Path) -> bool:
    if not root.is_dir():
        return False
    first = list(islice(films(root), 50))
    return sum(map(is_dicom, first)) * 2 > len(first)


def _header(path: Path) -> dict[str, str]:
    """The identifiers of a DICOM file; empty where its header cannot be read (the film is refused later)."""
    import pydicom
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info

    try:
        # a deflated header is not opened here: a megabyte of it may inflate to two gigabytes
        if has_dicom_mark(path) and str(read_file_meta_info(path).get("TransferSyntaxUID", "")) in _DEFLATED:
            return {}
        with path.open("rb") as file:
            stream: Any = Patience(file)
            ds = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(_KEYWORDS))
        return {keyword: str(ds.get(keyword) or "").strip() for keyword in _KEYWORDS}
    except (OSError, InvalidDicomError, ValueError, AttributeError, NotImplementedError, KeyError, EOFError):
        return {}


def _by_header(root: Path, table: Path) -> Iterator[SourceImage | LeftOut]:
    table_rows = rows(table)
    present = [k for k in _KEYWORDS if any(cell(row, *_COLUMNS[k]) for row in table_rows)]
    lookup: dict[tuple[str, str], Row] = {}
    for row in table_rows:
        keyword = next((k for k in present if cell(row, *_COLUMNS[k])), None)
        if keyword is not None:
            lookup[keyword, cell(row, *_COLUMNS[keyword])] = row
    unused = set(lookup)
    for path in films(root):
        header = _header(path)
        key = next(((k, header[k]) for k in present if header and (k, header[k]) in lookup), None)
        if key is None:
            yield LeftOut(path, "no_row", f"{table.name} has no row for its {' or '.join(present)}")
        else:
            unused.discard(key)
            yield from_row(lookup[key], path, "dicom")
    for keyword, value in sorted(unused):
        yield LeftOut(
            table.parent / value, "no_film", f"{table.name} has a row for this {keyword}, and no file has it"
        )


def read(root: Path) -> Iterator[SourceImage | LeftOut]:
    if tables := label_tables(root, PATH):
        return listed(root, tables, "dicom")
    if tables := label_tables(root, tuple(name for names in _COLUMNS.values() for name in names)):
        if len(tables) > 1:
            names = ", ".join(table.name for table in tables)
            raise SourceError(
                f"{root}: several tables label the films ({names}); leave one of them in the folder"
            )
        return _by_header(root, tables[0])
    return folder.labelled(root, "dicom")


SOURCE = Source(
    name="dicom",
    title="a tree of DICOM files",
    licence="yours",
    citation="none",
    recognise=recognise,
    read=read,
    generic=True,
)
