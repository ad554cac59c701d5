"""COVID-CXNet (Haghanifar et al.): ``chest_xray_images/covid19/481p-.jpg`` and ``metadata.csv``.

A "-" at the end of a name: the film shows nothing abnormal, though the patient has COVID-19. It gets
its own label, ``COVID-19, nothing abnormal``, so that a label map can treat it apart. "p": a child.
The table covers half of the films; the others are read without patient, age and view. Rows and films
meet by the number at the start of the name, because copies of the set were converted to other formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from carina.data.sources.cells import age_in_years, cell, patient_id, sex_letter, view_word
from carina.data.sources.layout import FilmIndex, Row, films, find_table, folders, rows
from carina.data.sources.source import LeftOut, Source
from carina.data.sources.way import github
from carina.records import SourceImage

_NAME = re.compile(r"^(\d{1,4})(p?)(-?)$", re.IGNORECASE)


def _table(root: Path) -> Path | None:
    return find_table(root, r"metadata\.csv", ("filename", "patient id", "pcr test"))


def recognise(root: Path) -> bool:
    if _table(root) is not None:
        return True
    return any(
        f.name.casefold() == "covid19" and f.parent.name == "chest_xray_images" for f in folders(root, 3)
    )


def _number(name: str) -> str | None:
    match = re.match(r"\d+", name)
    return match[0].lstrip("0") if match else None


def read(root: Path) -> Iterator[SourceImage | LeftOut]:
    table = _table(root)
    by_number: dict[str | None, Row] = (
        {_number(cell(row, "filename")): row for row in rows(table)} if table else {}
    )
    paths = [path for path in films(root) if path.parent.name.casefold() not in {"normal", "pneumonia"}]
    index = FilmIndex(paths)
    yield from index.second_copies
    for path in index.paths:
        match = _NAME.match(path.stem)
        if match is None:
            yield LeftOut(path, "no_class", "its name is not a number as in COVID-CXNet")
            continue
        row = by_number.pop(_number(path.stem), {})
        findings = ["COVID-19"]
        findings += ["child"] * bool(match[2]) + ["nothing abnormal"] * bool(match[3])
        findings += ["PCR negative"] * (cell(row, "pcr test").casefold() == "negative")
        yield SourceImage(
            path,
            "covid_cxnet",
            "COVID-19, nothing abnormal" if match[3] else "COVID-19",
            tuple(findings),
            patient_id(cell(row, "patient id")),
            view=view_word(cell(row, "view")),
            age=age_in_years(cell(row, "age")),
            sex=sex_letter(cell(row, "sex")),
        )
    for row in by_number.values():
        if table is not None:
            reason = f"{table.name} has a row for it, and the file is not there"
            yield LeftOut(table.parent / cell(row, "filename"), "no_film", reason)


SOURCE = Source(
    name="covid_cxnet",
    title="COVID-CXNet: a compilation of COVID-19 chest X-rays",
    licence="compilation CC BY 4.0",
    citation="Haghanifar et al.: COVID-CXNet. Multimedia Tools and Applications 2022",
    recognise=recognise,
    read=read,
    terms="free download from GitHub",
    way=github("armiro/COVID-CXNet"),
)
