"""The readers and the compile on the reduced public sets (CARINA_REAL_DATA names their folder)."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from carina.data.catalogue import Catalogue
from carina.data.compile import compile as compile_
from carina.data.labels import LabelMap
from carina.data.sources import LeftOut, recognise
from carina.records import SourceImage

REAL = Path(os.environ.get("CARINA_REAL_DATA", ""))
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("CARINA_REAL_DATA" not in os.environ, reason="CARINA_REAL_DATA is not set"),
]


@pytest.mark.parametrize(
    ("folder", "reader", "classes"),
    [
        ("chest_xray", "chest_xray", {"Normal": 1341, "Bacterial Pneumonia": 2530, "Viral Pneumonia": 1345}),
        (
            "chest_xray_originals",
            "chest_xray",
            {"Normal": 30, "Bacterial Pneumonia": 53, "Viral Pneumonia": 17},
        ),
        ("nih", "nih", {"Normal": 403, "Other Findings": 366}),
        ("shenzhen", "shenzhen", {"Normal": 257, "TB": 265}),
        ("hannover", "hannover", {"COVID-19": 243}),
        ("covid_cxnet", "covid_cxnet", {"COVID-19": 898}),
        ("figure1", "figure1", {"COVID-19": 35, "Normal": 3, "left out": 17}),
        ("darkcovidnet", "folder", {"COVID-19": 124}),
    ],
)
def test_every_film_of_a_set_is_read_into_its_class(
    folder: str, reader: str, classes: dict[str, int]
) -> None:
    source, labels = recognise(REAL / folder), LabelMap.load()
    assert source.name == reader
    films = [item for item in source.read(REAL / folder) if isinstance(item, SourceImage)]
    assert Counter(labels.class_of(reader, film) or "left out" for film in films) == classes
    assert len({film.path for film in films}) == len(films)


def test_hannover_has_71_patients_and_every_film_a_view() -> None:
    films = [
        item for item in recognise(REAL / "hannover").read(REAL / "hannover") if not isinstance(item, LeftOut)
    ]
    assert len({film.patient for film in films}) == 71
    assert Counter(film.view for film in films) == {"AP": 194, "PA": 49}


@pytest.mark.slow
def test_the_covid_sets_share_at_least_sixty_films(tmp_path: Path) -> None:
    names = ("figure1", "darkcovidnet", "covid_cxnet", "hannover")
    report = compile_({name: REAL / name for name in names}, tmp_path / "cat", test=0.2, valid=0.2)
    made = Catalogue.open(tmp_path / "cat")
    films = made.table().to_pylist()
    sides: dict[str, set[str]] = {}
    for film in films:
        for tie in (film["patient"], film["group"]):
            sides.setdefault(tie, set()).add(film["split"])
    assert all(len(found) == 1 for found in sides.values())
    assert report.merged + report.near_films - report.near_groups >= 60
