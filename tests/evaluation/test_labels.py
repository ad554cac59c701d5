"""Labels that are contradicted: found where they were flipped, listed, never dropped."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from carina.cli import app
from carina.data.catalogue import Catalogue
from carina.data.splits import SplitRow
from carina.errors import DataError, MissingExtra
from carina.evaluation import disagreement as judging
from carina.evaluation.disagreement import disagreement
from carina.evaluation.labels import labels
from carina.images.phantom import phantom
from tests.bundles import tiny_bundle
from tests.evaluation.worlds import write_catalogue, write_films

pytest.importorskip("cleanlab")


def world(
    films: int, flipped: float, *, apart: float = 3.0, seed: int = 0, classes: int = 3
) -> tuple[np.ndarray, list[SplitRow], set[int]]:
    """Two films a patient, features around a centre for each class; some films carry another class."""
    draw = np.random.default_rng(seed)
    truth = np.repeat(np.arange(films // 2) % classes, 2)
    features = draw.normal(size=(films, 12)).astype(np.float32)
    features[np.arange(films), truth] += apart
    wrong = set(draw.choice(films, round(flipped * films), replace=False).tolist())
    given = [(label + 1) % classes if film in wrong else label for film, label in enumerate(truth)]
    rows = [SplitRow(f"f{i}", f"p{i // 2}", f"f{i}", f"class {label}", "s") for i, label in enumerate(given)]
    return features, rows, wrong


@pytest.mark.parametrize("flipped", [0.02, 0.05, 0.1])
def test_flipped_labels_are_found(flipped: float) -> None:
    features, rows, wrong = world(600, flipped)
    found = disagreement(features, rows, ["class 0"])
    listed = [suspect.film for suspect in found.suspects]
    assert len(wrong & set(listed)) >= 0.9 * len(wrong)
    assert len(wrong & set(listed[: len(wrong)])) >= 0.75 * len(wrong)  # and they come first
    assert len(listed) <= 2 * len(wrong)
    for suspect in found.suspects:
        assert suspect.given == rows[suspect.film].class_name != suspect.expected
        assert suspect.p_given < suspect.p_expected
    assert [s.quality for s in found.suspects] == sorted(s.quality for s in found.suspects)


def test_films_of_right_labels_are_left_in_peace() -> None:
    features, rows, _ = world(600, 0.0, apart=6.0)
    found = disagreement(features, rows, ["class 0"])
    assert found.accuracy > 0.99
    assert len(found.suspects) <= 3


def test_a_class_of_few_patients_is_not_asked_and_named() -> None:
    features, rows, _ = world(200, 0.0)
    rows[0] = SplitRow("f0", "p0", "f0", "rare", "s")
    found = disagreement(features, rows, ["class 0"])
    assert found.left_out == ("rare",)
    assert found.asked == 199
    assert 0 not in {suspect.film for suspect in found.suspects}


def test_too_few_patients_to_judge_is_an_error() -> None:
    features, rows, _ = world(12, 0.0)
    with pytest.raises(DataError, match="labels cannot be judged: 0 of 3 classes have 10 patients"):
        disagreement(features, rows, ["class 0"])


def test_the_same_films_give_the_same_answer() -> None:
    features, rows, _ = world(200, 0.05)
    assert disagreement(features, rows, []) == disagreement(features, rows, [])


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalogue, set[str]]:
    """120 phantoms, healthy and with bacterial pneumonia; twelve labels are swapped. Whose they are."""
    root = tmp_path_factory.mktemp("ward")
    paths = []
    for number in range(120):
        name = ("Bacterial Pneumonia", "Normal")[number % 2]
        paths.append(root / f"film_{number:03}.png")
        Image.fromarray(phantom(name, seed=7000 + number, size=96).pixels).save(paths[-1])
    wrong = (10, 31, 52, 73, 94, 115)
    for number in wrong:  # its place in the list makes its label: put it behind one of the other class
        paths[number], paths[number - 5] = paths[number - 5], paths[number]
    made = write_catalogue(
        root / "catalogue", paths, classes=("Bacterial Pneumonia", "Normal"), films_per_patient=1
    )
    return made, {paths[n].name for n in wrong} | {paths[n - 5].name for n in wrong}


def test_flipped_labels_of_phantoms_are_found(ward: tuple[Catalogue, set[str]], tmp_path: Path) -> None:
    catalogue, wrong = ward
    found = labels(catalogue, out=tmp_path / "out", workers=1)
    listed = [film.path.name for film in found.films]
    assert len(wrong & set(listed)) >= 0.5 * len(wrong)  # 7 of 12 on the day it was written
    assert len(listed) <= 0.25 * 120  # a quarter of the films would hold 3 of them by chance
    assert len(Catalogue.open(catalogue.root)) == 120  # nothing is dropped
    with (tmp_path / "out" / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["path"]).name for row in rows] == listed
    assert all(float(row["p_class"]) < float(row["p_expected"]) for row in rows)
    page = (tmp_path / "out" / "labels.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == len(listed)
    assert "nothing was dropped or changed" in page


def test_a_bundle_is_asked_and_its_training_films_are_marked(tmp_path: Path) -> None:
    films = write_films(tmp_path / "films", 60)
    catalogue = write_catalogue(tmp_path / "catalogue", films, films_per_patient=1)
    seen = catalogue.films["sha256"].to_pylist()
    bundle = tiny_bundle(tmp_path / "bundle", trained_on=seen)
    told = CliRunner().invoke(
        app, ["labels", str(tmp_path / "catalogue"), "--model", str(bundle), "--out", str(tmp_path / "out"),
              "--workers", "1", "--limit", "2"],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    assert "contradicted by a judge of the embedding of tiny" in " ".join(told.output.split())
    with (tmp_path / "out" / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert {row["seen_in_training"] for row in rows} == {"true"}
    assert (tmp_path / "out" / "labels.html").read_text("utf-8").count("data:image/jpeg") == min(2, len(rows))


def test_a_missing_extra_names_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cleanlab.filter", None)
    with pytest.raises(MissingExtra, match=r"pip install 'carina\[report\]'"):
        judging._issues(np.zeros(4, np.int64), np.ones((4, 2)) / 2)
