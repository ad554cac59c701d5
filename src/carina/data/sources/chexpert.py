"""CheXpert (Stanford): ``train.csv``, ``valid.csv`` and ``train/patient00001/study1/view1_frontal.jpg``.

Fourteen columns of 1 (stated), 0 (denied), −1 (uncertain), blank (not mentioned). The policy here:
only what is stated counts. The label is ``No Finding`` where that is stated, else all stated findings
joined by ``|``, else ``uncertain`` where something is, else ``unstated``. An uncertain finding stands
in ``findings`` with a question mark (``Pneumonia?``) and never decides the class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from carina.data.sources.cells import age_in_years, cell, sex_letter, view_word
from carina.data.sources.layout import Row, films, find_table, needed_table, rows
from carina.data.sources.source import LeftOut, Source
from carina.data.sources.way import ByHand
from carina.records import SourceImage

_FINDINGS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
_PATH = re.compile(r"(patient\d+)/(study\d+)/[^/]+$")
_COLUMNS = ("path", "no finding", "frontal lateral")


def _tables(root: Path) -> list[Path]:
    found = (find_table(root, rf"{name}\.csv", _COLUMNS) for name in ("train", "valid", "test"))
    return [table for table in found if table is not None]


def recognise(root: Path) -> bool:
    return bool(_tables(root))


def _key(path: str) -> str:
    """The part of a path that stays wherever the set lies: ``train/patient1/study1/view1.jpg``."""
    return "/".join(path.replace("\\", "/").split("/")[-4:]).casefold()


def _read_row(row: Row, path: Path, study: re.Match[str]) -> SourceImage:
    value = {name: cell(row, name.casefold()) for name in ("No Finding", *_FINDINGS)}
    sure = [name for name in _FINDINGS if value[name] in {"1", "1.0"}]
    unsure = [f"{name}?" for name in _FINDINGS if value[name] in {"-1", "-1.0"}]
    if value["No Finding"] in {"1", "1.0"}:
        label = "No Finding"
    else:
        label = "|".join(sure) or ("uncertain" if unsure else "unstated")
    side = view_word(cell(row, "frontal lateral"))
    years = age_in_years(cell(row, "age"))
    return SourceImage(
        path,
        "chexpert",
        label,
        (*sure, *unsure),
        study[1],
        f"{study[1]}/{study[2]}",
        view=side if side == "LATERAL" else view_word(cell(row, "ap pa")) or side,
        age=years or None,  # the set writes 0 for unknown; its patients are adults
        sex=sex_letter(cell(row, "sex")),
    )


def read(root: Path) -> Iterator[SourceImage | LeftOut]:
    tables = _tables(root)
    needed_table(root, tables[0] if tables else None, "train.csv or valid.csv")
    remaining = {_key(str(path)): path for path in films(root)}
    for table in tables:
        for row in rows(table):
            written = cell(row, "path")
            path = remaining.pop(_key(written), None)
            study = _PATH.search(written.replace("\\", "/"))
            if path is None or study is None:
                reason = f"{table.name} has a row for it, and the file is not there"
                yield LeftOut(table.parent / written, "no_film", reason)
            else:
                yield _read_row(row, path, study)
    for path in remaining.values():
        yield LeftOut(path, "no_row", "none of the tables has a row for it")


SOURCE = Source(
    name="chexpert",
    title="CheXpert",
    licence="Stanford research use agreement",
    citation="Irvin et al.: CheXpert: a large chest radiograph dataset with uncertainty labels. AAAI 2019",
    recognise=recognise,
    read=read,
    terms="register with Stanford AIMI",
    way=ByHand(
        "https://stanfordmlgroup.github.io/competitions/chexpert/",
        "register with Stanford AIMI, sign its agreement",
    ),
)
