"""ChestX-ray14 (NIH): ``Data_Entry_2017*.csv`` with ``images*/``, or Kaggle's sample, ``sample_labels.csv``.

The official ``train_val_list.txt`` and ``test_list.txt`` are not used: the split of a catalogue is
grouped by patient on its own. Ages above 120 in the table are errors and become unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from carina.data.sources.cells import age_in_years, cell, patient_id, sex_letter, view_word
from carina.data.sources.layout import FilmIndex, films, find_table, needed_table, pair
from carina.data.sources.names import patient_from_name
from carina.data.sources.source import LeftOut, Source
from carina.data.sources.way import Kaggle
from carina.records import SourceImage


def _table(root: Path) -> Path | None:
    name = r"(data_entry_2017.*|sample_labels.*)\.csv"
    return find_table(root, name, ("image index", "finding labels", "patient id"))


def recognise(root: Path) -> bool:
    return _table(root) is not None


def read(root: Path) -> Iterator[SourceImage | LeftOut]:
    table = needed_table(root, _table(root), "Data_Entry_2017.csv or sample_labels.csv")
    for found in pair(table, FilmIndex(films(root)), lambda row: cell(row, "image index")):
        if isinstance(found, LeftOut):
            yield found
            continue
        row, path = found
        label = cell(row, "finding labels")
        findings = tuple(part.strip() for part in label.split("|") if part.strip())
        yield SourceImage(
            path,
            "nih",
            label or "unstated",
            () if label == "No Finding" else findings,
            # the table writes 13, the name 00000013; the name's form serves sets made from this one too
            patient_from_name(path.stem) or patient_id(cell(row, "patient id")),
            view=view_word(cell(row, "view position")),
            age=age_in_years(cell(row, "patient age")),
            sex=sex_letter(cell(row, "patient gender", "patient sex")),
        )


SOURCE = Source(
    name="nih",
    title="NIH ChestX-ray14",
    licence="no restrictions on use; cite the paper and name the NIH Clinical Center",
    citation="Wang et al.: ChestX-ray8: hospital-scale chest X-ray database and benchmarks. CVPR 2017",
    recognise=recognise,
    read=read,
    terms="free download from the NIH Clinical Center, or from Kaggle with an account",
    way=Kaggle("nih-chest-xrays/data"),
)
