"""The two tuberculosis sets of the U.S. National Library of Medicine: Shenzhen and Montgomery.

``CHNCXR_0001_0.png`` and ``MCUCXR_0001_0.png``; the last digit is 1 for tuberculosis. Layouts:
``ChinaSet_AllFiles/CXR_png``, ``MontgomerySet/CXR_png``, Kaggle's joined ``Lung Segmentation/CXR_png``
and ``images/images``. ``ClinicalReadings/*.txt``, or Kaggle's ``shenzhen_metadata.csv``, add sex, age
and reading where they are there. Lung masks are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from carina.data.sources.cells import age_in_years, cell, sex_letter
from carina.data.sources.layout import FilmIndex, Row, films, films_in, find_table, folders, rows
from carina.data.sources.source import LeftOut, Source
from carina.data.sources.way import Download, Kaggle, Way
from carina.records import SourceImage

_NAME = re.compile(r"^((CHN|MCU)CXR_\d+)_([01])$", re.IGNORECASE)
_SETS = {"CHN": "shenzhen", "MCU": "montgomery"}
_SEX = re.compile(r"\b(female|male|f|m)\b", re.IGNORECASE)
_AGE = re.compile(r"(\d+)\s*(y|m|w|d)", re.IGNORECASE)


def _present(root: Path) -> set[str]:
    """Which of the two sets have films below ``root``."""
    found: set[str] = set()
    for folder in folders(root, 3):
        for path in films_in(folder):
            match = _NAME.match(path.stem)
            if match is None:
                break  # such a folder holds nothing else
            found.add(_SETS[match[2].upper()])
            if len(found) == 2:
                return found
    return found


def _readings(root: Path) -> dict[str, Row]:
    """What is known of a film beside its name, by stem in lower case."""
    found: dict[str, Row] = {}
    for folder in (*folders(root, 3), root.absolute().parent):
        if folder.name.casefold() in {"clinicalreadings", "clinical readings"}:
            texts = folder
        elif (folder / "ClinicalReadings").is_dir():
            texts = folder / "ClinicalReadings"
        else:
            continue
        for path in sorted(texts.glob("*CXR_*.txt")):
            found.setdefault(path.stem.casefold(), _reading(path.read_text("utf-8", errors="replace")))
    table = find_table(root, r".*metadata.*\.csv", ("study id", "sex", "age", "findings"))
    for row in rows(table) if table else ():
        found.setdefault(Path(cell(row, "study id")).stem.casefold(), row)
    return found


def _reading(text: str) -> Row:
    """``male 45yrs``, ``normal`` (Shenzhen); ``Patient's Sex: F``, ``Patient's Age: 027Y``, ``normal``."""
    sex, age = _SEX.search(text.replace("Patient's", "")), _AGE.search(text)
    lines = [line.strip(" ,.") for line in text.splitlines() if line.strip()]
    says = [
        line
        for line in lines
        if not re.search(r"patient's|yrs|years?\b|months?\b|days?\b", line, re.IGNORECASE)
    ]
    return {"sex": sex[0] if sex else "", "age": age[0] if age else "", "findings": "; ".join(says)}


def _reader(name: str, wanted: frozenset[str]) -> Callable[[Path], Iterator[SourceImage | LeftOut]]:
    def read(root: Path) -> Iterator[SourceImage | LeftOut]:
        readings = _readings(root)
        index = FilmIndex(films(root))
        yield from index.second_copies
        for path in index.paths:
            match = _NAME.match(path.stem)
            origin = _SETS[match[2].upper()] if match else None
            if match is None or origin not in wanted:
                yield LeftOut(path, "other_set", f"its name is none of {name}")
                continue
            row = readings.get(path.stem.casefold(), {})
            said = cell(row, "findings")
            yield SourceImage(
                path,
                origin,
                match[3],
                (said,) if said else (),
                match[1].upper(),
                age=age_in_years(cell(row, "age")),
                sex=sex_letter(cell(row, "sex")),
            )

    return read


def _source(name: str, title: str, way: Way, *wanted: str, scanner: str | None = None) -> Source:
    return Source(
        name=name,
        title=title,
        licence="U.S. National Library of Medicine; cite the paper",
        citation="Jaeger et al.: Two public chest X-ray datasets for computer-aided screening of pulmonary "
        "diseases. Quantitative Imaging in Medicine and Surgery 2014",
        recognise=lambda root: set(wanted) <= _present(root),
        read=_reader(name, frozenset(wanted)),
        terms="free download from the National Library of Medicine",
        scanner=scanner,
        way=way,
    )


_NLM = "https://openi.nlm.nih.gov/imgs/collections/"

BOTH = _source(
    "shenzhen_montgomery",
    "Shenzhen and Montgomery in one folder",
    Kaggle("kmader/pulmonary-chest-xray-abnormalities"),
    "shenzhen",
    "montgomery",
)
SHENZHEN = _source(
    "shenzhen",
    "Shenzhen hospital X-ray set",
    Download(f"{_NLM}ChinaSet_AllFiles.zip", "ChinaSet_AllFiles.zip"),
    "shenzhen",
    scanner="Philips DR Digital Diagnost",
)
MONTGOMERY = _source(
    "montgomery",
    "Montgomery County X-ray set",
    Download(f"{_NLM}NLM-MontgomeryCXRSet.zip", "NLM-MontgomeryCXRSet.zip"),
    "montgomery",
    scanner="Eureka stationary machine (CR)",
)
