"""The folders of phantoms: three layouts that can be read back, confounding, planted faults."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, UnidentifiedImageError

from carina.errors import OutputError
from carina.images.phantom import HOSPITALS, phantom, write_hospitals, write_phantoms, write_unseen
from carina.records import Progress
from carina.taxonomy import SIX_CLASSES

PER_CLASS, SIZE = 9, 64


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def labels(root: Path) -> dict[str, dict[str, str]]:
    """Hospital → film → label, read back from the three layouts, planted copies left out."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for path in (root / "hospital_a").glob("*/*.png"):
        found["hospital_a"][path.name] = path.parent.name
    for name, file in (("hospital_b", "films.csv"), ("hospital_c", "labels.csv")):
        for row in table(root / name / file):
            assert (root / name / row["path"]).is_file()
            if "transfer" not in row["path"]:
                found[name][row["path"]] = row["label"]
    return found


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixed")
    write_hospitals(root, per_class=PER_CLASS, seed=4, size=SIZE)
    return root


def test_three_hospitals_hold_the_films_asked_for(mixed: Path) -> None:
    found = labels(mixed)
    assert set(found) == {"hospital_a", "hospital_b", "hospital_c"}
    assert Counter(label for films in found.values() for label in films.values()) == dict.fromkeys(
        SIX_CLASSES, PER_CLASS
    )


def test_unconfounded_hospitals_all_have_all_classes(mixed: Path) -> None:
    for films in labels(mixed).values():
        assert set(films.values()) == set(SIX_CLASSES)


def test_confounding_of_one_keeps_every_class_in_one_hospital(tmp_path: Path) -> None:
    write_hospitals(tmp_path, per_class=4, confounded=1.0, size=32)
    found = labels(tmp_path)
    homes = {name: [h for h, films in found.items() if name in films.values()] for name in SIX_CLASSES}
    assert all(len(hospitals) == 1 for hospitals in homes.values())
    assert all(len(set(films.values())) == 2 for films in found.values())
    assert not (tmp_path / "planted.csv").exists()


def test_confounding_of_a_half_lies_between(tmp_path: Path) -> None:
    write_hospitals(tmp_path, per_class=24, confounded=0.5, size=32)
    for class_name in SIX_CLASSES:
        shares = sorted(
            sum(label == class_name for label in films.values()) / 24 for films in labels(tmp_path).values()
        )
        assert shares[0] > 0
        assert 0.4 < shares[-1] < 0.95


def test_no_patient_is_in_two_hospitals_and_some_have_several_films(mixed: Path) -> None:
    a = Counter(path.name.split("_")[0] for path in (mixed / "hospital_a").glob("*/*.png"))
    b = Counter(row["patient"] for row in table(mixed / "hospital_b" / "films.csv"))
    c = Counter(row["path"].split("/")[0] for row in table(mixed / "hospital_c" / "labels.csv"))
    for films in (a, b, c):
        assert 1 < max(films.values()) <= 3
    numbers = [name[1:] for films in (a, b, c) for name in films if not name.startswith("B9")]
    assert len(numbers) == len(set(numbers))


def test_the_dicom_tree_decodes_and_some_of_it_is_monochrome1(mixed: Path) -> None:
    kinds = set()
    for row in table(mixed / "hospital_c" / "labels.csv"):
        ds = pydicom.dcmread(mixed / "hospital_c" / row["path"])
        pixels = ds.pixel_array
        kinds.add(ds.PhotometricInterpretation)
        if ds.PhotometricInterpretation == "MONOCHROME1":
            pixels = 4095 - pixels
        assert (ds.Modality, ds.BodyPartExamined, ds.BitsStored) == ("DX", "CHEST", 12)
        assert ds.ViewPosition in ("PA", "AP")
        assert ds.PatientID == row["path"].split("/")[0]
        patient, film = 400_000 + int(ds.PatientID[1:]), int(ds.StudyID)
        wanted = phantom(row["label"], seed=film, patient=patient, look=HOSPITALS["hospital_c"], size=SIZE)
        assert np.array_equal(pixels, wanted.pixels)
    assert kinds == {"MONOCHROME1", "MONOCHROME2"}


def test_planted_copies_look_like_their_originals_and_two_have_another_label(mixed: Path) -> None:
    planted = table(mixed / "planted.csv")
    assert len(planted) == 8
    assert sum(row["label"] != row["true_label"] for row in planted) == 2
    listed = {row["path"]: row["label"] for row in table(mixed / "hospital_b" / "films.csv")}
    for row in planted:
        assert listed[row["path"].removeprefix("hospital_b/")] == row["label"]
        with Image.open(mixed / row["path"]) as copy, Image.open(mixed / row["copy_of"]) as original:
            assert copy.size != original.size
            a, b = (
                np.asarray(image.convert("L").resize((48, 48)), dtype=float) for image in (copy, original)
            )
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99


def test_the_same_seed_writes_the_same_bytes(mixed: Path, tmp_path: Path) -> None:
    write_hospitals(tmp_path, per_class=PER_CLASS, seed=4, size=SIZE, workers=1)

    def digests(root: Path) -> dict[str, str]:
        files = (path for path in root.rglob("*") if path.is_file())
        return {
            path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        }

    assert digests(tmp_path) == digests(mixed)


def test_progress_counts_every_film(tmp_path: Path) -> None:
    steps: list[Progress] = []
    write_hospitals(tmp_path, per_class=2, size=32, progress=steps.append)
    assert [step.done for step in steps] == list(range(1, 13))
    assert {step.total for step in steps} == {12}


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match=r"need an empty folder.*name another"):
        write_hospitals(tmp_path, per_class=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


KILLED = """
import os, sys
from pathlib import Path
from carina.images.phantom import write_phantoms
def stop(step):
    if step.done == 5: os._exit(9)
write_phantoms(Path(sys.argv[1]), per_class=2, unseen=0, size=32, progress=stop)
"""


def test_stopped_half_way_the_same_command_starts_again(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, tmp_path / "films"], check=False).returncode == 9
    (half,) = tmp_path.iterdir()
    assert half.name.startswith(".films.")
    made = write_phantoms(tmp_path / "films", per_class=2, unseen=6, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["films"]
    assert {path.name for path in made.values()} == {"hospital_a", "hospital_b", "hospital_c", "films"}
    assert sum(len(films) for films in labels(tmp_path / "films").values()) == 12


def test_an_empty_folder_may_be_there_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("films").mkdir()
    assert write_phantoms(Path("films"), per_class=1, unseen=0, size=32)["hospital_a"].is_dir()


@pytest.mark.parametrize(("out", "fault"), [("mine.txt", "something is there"), ("mine.txt/x", "is a file")])
def test_a_file_in_the_way_is_said(tmp_path: Path, out: str, fault: str) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match=fault):
        write_phantoms(tmp_path / out, per_class=1, size=32)


@pytest.mark.parametrize(
    ("options", "words"), [({"confounded": 1.5}, "confounded is 1.5"), ({"per_class": 0}, "per_class is 0")]
)
def test_impossible_hospitals_are_refused(tmp_path: Path, options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_hospitals(tmp_path, **options)  # type: ignore[arg-type]


def test_unseen_films_come_in_three_formats_with_two_broken_files(tmp_path: Path) -> None:
    films = write_unseen(tmp_path, count=6, size=SIZE)
    truth = {row["path"]: row for row in table(tmp_path / "truth.csv")}
    assert {path.name for path in films.iterdir()} == {*truth, "unseen_cut.jpg", "unseen_text.png"}
    assert Counter(Path(name).suffix for name in truth) == {".png": 2, ".jpg": 2, ".dcm": 2}
    assert {row["label"] for row in truth.values()} == set(SIX_CLASSES)
    with pytest.raises(OSError, match="truncated"), Image.open(films / "unseen_cut.jpg") as image:
        image.load()
    with pytest.raises(UnidentifiedImageError):
        Image.open(films / "unseen_text.png")
