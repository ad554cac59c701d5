"""RSNA pneumonia detection challenge 2018: ``stage_2_*.csv`` and ``stage_2_train_images/*.dcm``.

``stage_2_train_labels.csv`` has a row for each box; a film is read once. The three-way label is in
``stage_2_detailed_class_info.csv``; without that table a film is ``Lung Opacity`` or ``Target 0``.
The films are from ChestX-ray14. The test images of the challenge have no label and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from carina.data.sources.cells import cell
from carina.data.sources.layout import FilmIndex, Row, films, find_table, needed_table, pair, rows
from carina.data.sources.source import LeftOut, Source
from carina.data.sources.way import ByHand
from carina.records import SourceImage


def _boxes(root: Path) -> Path | None:
    return find_table(root, r"stage_[12]_train_labels.*\.csv", ("patientid", "target"))


def _classes(root: Path) -> Path | None:
    return find_table(root, r"stage_[12]_detailed_class_info.*\.csv", ("patientid", "class"))


def recognise(root: Path) -> bool:
    return _boxes(root) is not None or _classes(root) is not None


def _label(row: Row) -> str:
    return cell(row, "class") or ("Lung Opacity" if cell(row, "target") == "1" else "Target 0")


def read(root: Path) -> Iterator[SourceImage | LeftOut]:
    table = needed_table(root, _classes(root) or _boxes(root), "stage_2_detailed_class_info.csv")
    one_each = {
        cell(row, "patientid"): row for row in sorted(rows(table), key=lambda row: cell(row, "target"))
    }
    for found in pair(
        table, FilmIndex(films(root)), lambda row: cell(row, "patientid"), list(one_each.values())
    ):
        if isinstance(found, LeftOut):
            yield found
            continue
        row, path = found
        label = _label(row)
        findings = ("Lung Opacity",) if label == "Lung Opacity" else ()
        yield SourceImage(path, "rsna", label, findings, cell(row, "patientid"))


SOURCE = Source(
    name="rsna",
    title="RSNA pneumonia detection challenge",
    licence="RSNA; registration on Kaggle, non-commercial",
    citation="Shih et al.: Augmenting the NIH chest radiograph dataset with expert annotations of possible "
    "pneumonia. Radiology: Artificial Intelligence 2019",
    recognise=recognise,
    read=read,
    terms="register at Kaggle and accept the rules",
    way=ByHand(
        "https://www.kaggle.com/c/rsna-pneumonia-detection-challenge", "register at Kaggle, accept the rules"
    ),
)
