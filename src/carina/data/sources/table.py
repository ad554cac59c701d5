"""A CSV, TSV or Parquet file that lists films and their labels.

The table lies in the given folder (or is the path given). Columns are found by name, whatever their
case and separators; see ``PATH``, ``LABEL`` and the others below. Paths are relative to the table;
a bare file name is looked for anywhere below its folder. ``train.csv``, ``valid.csv`` and ``test.csv``
side by side are read as one. Several findings in the label's cell may be separated by ``|``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from carina.data.sources.cells import age_in_years, cell, patient_id, sex_letter, view_word
from carina.data.sources.layout import TABLE_SUFFIXES, FilmIndex, Row, columns, films, rows
from carina.data.sources.names import patient_from_name
from carina.data.sources.source import LeftOut, Source
from carina.errors import SourceError
from carina.records import SourceImage

PATH = (
    *("path", "image path", "img path", "filepath", "file path", "filename", "file name", "file", "film"),
    *(
        "image",
        "image name",
        "imagename",
        "image file",
        "image index",
        "image id",
        "img",
        "dicom",
        "png",
        "jpg",
    ),
)
LABEL = (
    *("label", "labels", "class", "class name", "finding", "findings", "finding label", "finding labels"),
    *("diagnosis", "target", "category", "disease"),
)
FINDINGS = ("findings", "finding labels", "finding")
PATIENT = ("patient", "patient id", "patientid", "subject", "subject id", "pid", "person", "case id")
STUDY = (
    "study",
    "study id",
    "studyid",
    "study instance uid",
    "studyinstanceuid",
    "accession number",
    "accession",
)
VIEW = ("view", "view position", "viewposition", "projection", "frontal lateral")
AGE = ("age", "patient age", "patientage", "age years")
SEX = ("sex", "gender", "patient sex", "patientsex", "patient gender")

_PARTS = frozenset({"train", "training", "valid", "validation", "val", "test"})
_USUAL = ("labels", "metadata", "data", "index", "images", "films", "annotations")


def label_tables(root: Path, keys: tuple[str, ...] = PATH) -> list[Path]:
    """The tables in ``root`` that have one of the columns ``keys`` and a label.

    Raises SourceError when several fit and nothing says which one is meant.
    """
    if root.is_file():
        return [root]
    fitting = []
    for table in sorted(root.iterdir()):
        if table.is_file() and table.suffix.lower() in TABLE_SUFFIXES:
            found = columns(table)
            if any(key in found for key in keys) and any(key in found for key in LABEL):
                fitting.append(table)
    if len(fitting) < 2 or all(table.stem.casefold() in _PARTS for table in fitting):
        return fitting
    usual = [table for name in _USUAL for table in fitting if table.stem.casefold() == name]
    if usual:
        return usual[:1]
    names = ", ".join(table.name for table in fitting)
    raise SourceError(
        f"{root}: several tables list films and labels ({names}); give the path of the one meant"
    )


def recognise(root: Path) -> bool:
    if root.is_file():
        return root.suffix.lower() in TABLE_SUFFIXES
    return bool(label_tables(root))


def from_row(row: Row, path: Path, source: str) -> SourceImage:
    """The film that a row describes."""
    label = cell(row, *LABEL)
    findings = cell(row, *FINDINGS) or label
    return SourceImage(
        path,
        source,
        label or "unstated",
        tuple(part.strip() for part in findings.split("|") if part.strip()),
        patient_id(cell(row, *PATIENT)) or patient_from_name(path.stem),
        cell(row, *STUDY) or None,
        view_word(cell(row, *VIEW)),
        age_in_years(cell(row, *AGE)),
        sex_letter(cell(row, *SEX)),
    )


def listed(root: Path, tables: list[Path], source: str) -> Iterator[SourceImage | LeftOut]:
    """The films that ``tables`` list, then what is left over on either side.

    A film with several rows (one for each box, say) is read once; where its rows differ in the label,
    it is left out, because nothing says which one is right. Raises SourceError where no film at all is there.
    """
    base = root.parent if root.is_file() else root
    present = films(base)
    index = FilmIndex(present)
    found: dict[Path, list[Row]] = {}
    missing: list[str] = []
    for table in tables:
        for row in rows(table):
            written = cell(row, *PATH).replace("\\", "/")
            path = _locate(table.parent, written, index)
            if path is None:
                missing.append(written)
                reason = f"{table.name} has a row for it, and the file is not there"
                yield LeftOut(table.parent / written, "no_film", reason)
            else:
                found.setdefault(path, []).append(row)
    if missing and not found:
        raise SourceError(
            f"{base}: none of the {len(missing)} files that {tables[0].name} lists is there (the first: "
            f"{missing[0]}); correct the paths in the table, or give the folder where they begin"
        )
    for path, its_rows in found.items():
        labels = sorted({cell(row, *LABEL) for row in its_rows})
        if len(labels) > 1:
            yield LeftOut(path, "contradiction", f"its rows give it several labels: {', '.join(labels)}")
        else:
            yield from_row(its_rows[0], path, source)
    listed_files = {path.resolve() for path in found}
    for path in present:
        if path.resolve() not in listed_files:
            yield LeftOut(path, "no_row", f"{' and '.join(table.name for table in tables)} has no row for it")


def _locate(folder: Path, written: str, index: FilmIndex) -> Path | None:
    """The file that a cell means: the path as written, the end of a path from another machine, or a name.

    A name is looked for in all folders only where the cell states no folder: ``p1/IM1.dcm`` must not
    become ``p2/IM1.dcm``.
    """
    parts = [part for part in written.split("/") if part]
    for start in range(-1 if written.startswith("/") else 0, len(parts)):
        path = Path(written) if start < 0 else folder.joinpath(*parts[start:])
        if path.is_file():
            return path
    return index.only(written) if len(parts) == 1 else None


def read(root: Path) -> Iterator[SourceImage | LeftOut]:
    tables = label_tables(root)
    if not tables:
        raise SourceError(f"{root}: no table with a path and a label column; name them 'path' and 'label'")
    return listed(root, tables, "table")


SOURCE = Source(
    name="table",
    title="a table of films and labels",
    licence="yours",
    citation="none",
    recognise=recognise,
    read=read,
    generic=True,
)
