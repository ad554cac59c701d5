"""Compile: from folders to a catalogue, with everything that was left out counted and explained.

Films here are small pictures of smooth noise: alike only where one was made from the other.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from carina.children.process import Limits
from carina.data.admission import Admission, is_sideways
from carina.data.catalogue import Catalogue
from carina.data.compile import compile as compile_
from carina.data.reading import ask_all, look_at_all
from carina.data.report import CompileReport
from carina.errors import (
    CarinaError,
    CatalogueError,
    DecoderError,
    LabelError,
    SourceError,
    SplitError,
    UnreadableImage,
)
from carina.records import Progress


def picture(seed: int, side: int = 128) -> NDArray[np.uint8]:
    """A picture that no other seed resembles."""
    noise = np.random.default_rng(seed).normal(size=(16, 16)).astype(np.float32)
    smooth = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
    values = np.asarray(smooth) * 40 + 128
    return np.clip(values, 0, 255).astype(np.uint8)


def save(path: Path, seed: int, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed)).save(path, **options)
    return path


def save_dicom(path: Path, seed: int, **elements: str) -> Path:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = f"1.2.3.{seed}"
    pixels = picture(seed)
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 1, 8, 8, 7, 0
    ds.PhotometricInterpretation, ds.Modality = "MONOCHROME2", "DX"
    ds.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


def clinic(root: Path, *, per_class: int = 6, start: int = 0) -> Path:
    for number in range(per_class):
        save(root / "TB" / f"p{number:03}_1.png", start + number)
        save(root / "Normal" / f"p{number + 500:03}_1.png", start + 100 + number)
    return root


def run(sources: Any, out: Path | str, **options: object) -> CompileReport:
    return compile_(sources, out, workers=0, **options)  # type: ignore[arg-type]


def lines(catalogue: Path, name: str) -> list[dict[str, str]]:
    with (catalogue / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_a_catalogue(tmp_path: Path) -> None:
    report = run({"clinic": clinic(tmp_path / "clinic")}, tmp_path / "cat")
    made = Catalogue.open(tmp_path / "cat")
    assert len(made) == report.images == 12
    assert made.classes == ("TB", "Normal")
    assert made.healthy == {"Normal"}
    assert report.table() == (
        ("source", "TB", "Normal", "films", "merged", "left out"),
        [("clinic", "6", "6", "12", "0", "0"), ("all", "6", "6", "12", "0", "0")],
    )
    row = made.table().to_pylist()[0]
    assert Path(row["path"]).is_file()
    assert row["image_id"] == row["sha256"][:16] == row["group"]
    assert row["patient"].startswith("clinic:p")
    assert (row["width"], row["height"], row["format"], row["bits"]) == (128, 128, "png", 8)
    assert set(made.table()["split"].to_pylist()) == {"train", "valid", "test"}


def test_exact_copies_are_merged_and_the_record_that_knows_the_patient_is_kept(tmp_path: Path) -> None:
    clinic(tmp_path / "a")
    copy = (tmp_path / "a" / "TB" / "p000_1.png").read_bytes()
    for number in range(3):
        save(tmp_path / "b" / "TB" / f"film {number}.png", 300 + number)
    (tmp_path / "b" / "TB" / "again.png").write_bytes(copy)
    report = run({"b": tmp_path / "b", "a": tmp_path / "a"}, tmp_path / "cat")
    assert report.merged == 1
    assert report.dropped == {"b": {"exact_copy": 1}}
    assert [(row["path"], row["code"]) for row in lines(tmp_path / "cat", "dropped.csv")] == [
        (str(tmp_path / "b" / "TB" / "again.png"), "exact_copy")
    ]
    assert {row["kept"] for row in lines(tmp_path / "cat", "groups.csv")} == {"yes", "merged"}


def test_near_copies_share_a_group_and_a_side(tmp_path: Path) -> None:
    clinic(tmp_path / "a")
    for number in range(6):
        save(tmp_path / "b" / "TB" / f"copy {number}.jpg", number, quality=60)
    report = run({"a": tmp_path / "a", "b": tmp_path / "b"}, tmp_path / "cat")
    assert (report.near_groups, report.near_films) == (6, 12)
    films = Catalogue.open(tmp_path / "cat").table().to_pylist()
    groups = Counter(film["group"] for film in films)
    assert sorted(groups.values()) == [1] * 6 + [2] * 6
    assert len({(film["group"], film["split"]) for film in films}) == len(groups)
    assert len(lines(tmp_path / "cat", "groups.csv")) == 12


@pytest.mark.parametrize("exact", [True, False])
def test_copies_with_different_labels_are_listed_and_left_out(exact: bool, tmp_path: Path) -> None:
    clinic(tmp_path / "a")
    again = tmp_path / "b" / "Normal" / ("x.png" if exact else "x.jpg")
    save(again, 0) if exact else save(again, 0, quality=70)
    sources = {"a": tmp_path / "a", "b": tmp_path / "b"}
    report = run(sources, tmp_path / "cat")
    assert report.conflict_groups == 1
    assert report.images == 11
    clash = lines(tmp_path / "cat", "conflicts.csv")
    assert {(Path(row["path"]).name, row["class"]) for row in clash} == {
        ("p000_1.png", "TB"),
        (again.name, "Normal"),
    }
    assert len({row["group"] for row in clash}) == 1
    told = {Path(row["path"]).name: row["code"] for row in lines(tmp_path / "cat", "dropped.csv")}
    assert told["p000_1.png"] == "conflict"

    kept = run(sources, tmp_path / "kept", conflicts="keep")
    assert kept.images == (12 if exact else 13)
    assert len(lines(tmp_path / "kept", "conflicts.csv")) == 2


def test_patients_whose_films_are_copies_stay_on_one_side_even_when_the_copies_are_left_out(
    tmp_path: Path,
) -> None:
    for number in range(40):
        save(tmp_path / "a" / "TB" / f"p{number:03}_1.png", number)
        save(tmp_path / "a" / "TB" / f"p{number:03}_2.png", 1000 + number)
        save(tmp_path / "b" / "TB" / f"p{number + 100}_1.png", 2000 + number)
        (tmp_path / "b" / "Normal").mkdir(exist_ok=True)
        bytes_ = (tmp_path / "a" / "TB" / f"p{number:03}_1.png").read_bytes()
        (tmp_path / "b" / "Normal" / f"p{number + 100}_2.png").write_bytes(bytes_)
    report = run({"a": tmp_path / "a", "b": tmp_path / "b"}, tmp_path / "cat")
    assert report.conflict_groups == 40
    side = {film["patient"]: film["split"] for film in Catalogue.open(tmp_path / "cat").table().to_pylist()}
    assert all(side[f"a:p{number:03}"] == side[f"b:p{number + 100}"] for number in range(40))


def test_an_unreadable_film_is_listed_with_its_reason_and_stops_nothing(tmp_path: Path) -> None:
    clinic(tmp_path / "clinic")
    (tmp_path / "clinic" / "TB" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (tmp_path / "clinic" / "TB" / "letter.jpg").write_text("Dear colleague")
    report = run({"clinic": tmp_path / "clinic"}, tmp_path / "cat")
    assert report.images == 12
    told = {Path(row["path"]).name: row["reason"] for row in lines(tmp_path / "cat", "dropped.csv")}
    assert set(told) == {"broken.png", "letter.jpg"}
    assert all(";" in reason for reason in told.values())
    assert sum(n for _, _, n in report.reasons()) == 2


def test_laterals_are_left_out_by_the_dicom_header_unless_asked_for(tmp_path: Path) -> None:
    for number in range(6):
        save_dicom(
            tmp_path / "pacs" / "TB" / f"{number}.dcm",
            number,
            PatientID=f"P{number}",
            ViewPosition="PA",
            PatientAge="061Y",
        )
    save_dicom(tmp_path / "pacs" / "TB" / "side.dcm", 50, PatientID="P1", ViewPosition="LL")
    save_dicom(tmp_path / "pacs" / "TB" / "ct.dcm", 51, PatientID="P1", ViewPosition="PA", Modality="CT")
    report = run({"pacs": tmp_path / "pacs"}, tmp_path / "cat")
    assert report.dropped == {"pacs": {"not_frontal": 1, "not_a_radiograph": 1}}
    film = Catalogue.open(tmp_path / "cat").table().to_pylist()[0]
    assert film["patient"].startswith("pacs:P")
    assert (film["view"], film["age"]) == ("PA", 61)
    everything = run({"pacs": tmp_path / "pacs"}, tmp_path / "all", views="all")
    assert everything.images == 7


def test_children_are_left_out_where_age_is_known_and_unknown_ages_are_counted(tmp_path: Path) -> None:
    clinic(tmp_path / "clinic")
    for number in range(4):
        save(tmp_path / "kermany" / "NORMAL" / f"IM-{number:04}-0001.jpeg", 700 + number)
        save(tmp_path / "kermany" / "PNEUMONIA" / f"person{number}_virus_1.jpeg", 800 + number)
    report = run(
        {"clinic": tmp_path / "clinic", "kermany": tmp_path / "kermany"}, tmp_path / "cat", min_age=18
    )
    assert report.dropped == {"kermany": {"too_young": 8}}  # the set's authors state one to five years
    assert report.unknown_ages == 12
    assert any("12 films state no age" in text for text in report.warnings)


def test_the_same_films_and_seed_give_the_same_catalogue_byte_for_byte(tmp_path: Path) -> None:
    source = clinic(tmp_path / "clinic")
    run({"clinic": source}, tmp_path / "one", seed=3)
    compile_({"clinic": source}, tmp_path / "two", seed=3, workers=2)
    names = ("catalogue.parquet", "dropped.csv", "groups.csv", "conflicts.csv")
    assert all(
        (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names
    )
    run({"clinic": source}, tmp_path / "three", seed=4)
    assert Catalogue.open(tmp_path / "three").fingerprint != Catalogue.open(tmp_path / "one").fingerprint


def test_films_without_a_patient_are_patients_of_their_own_and_that_is_said(tmp_path: Path) -> None:
    for folder in ("TB", "Normal"):
        for number in range(4):
            save(tmp_path / "clinic" / folder / f"{number}.png", number + 50 * (folder == "TB"))
    report = run({"clinic": tmp_path / "clinic"}, tmp_path / "cat")
    assert report.patients == 8  # the same names in two folders are not one patient
    assert report.warnings == ("clinic: 8 films name no patient; each counts as a patient of its own",)


def test_split_by_image_warns(tmp_path: Path) -> None:
    report = run({"clinic": clinic(tmp_path / "clinic")}, tmp_path / "cat", split="image")
    assert "every figure measured on this catalogue is too good" in report.warnings[0]


def test_bare_paths_are_recognised_and_named(tmp_path: Path) -> None:
    clinic(tmp_path / "ward 7")
    for number in range(3):
        save(tmp_path / "x" / "CXR_png" / f"CHNCXR_{number:04}_0.png", 900 + number)
        save(tmp_path / "y" / "CXR_png" / f"CHNCXR_{number + 50:04}_1.png", 950 + number)
    report = run([tmp_path / "ward 7", tmp_path / "x", tmp_path / "y"], tmp_path / "cat")
    assert report.readers == {"ward 7": "folder", "shenzhen": "shenzhen", "y": "shenzhen"}
    patients = set(Catalogue.open(tmp_path / "cat").table()["patient"].to_pylist())
    assert {"shenzhen:CHNCXR_0000", "shenzhen:CHNCXR_0050"} <= patients  # one count of patients for one set


def test_a_folder_that_joins_two_sets_is_two_sources(tmp_path: Path) -> None:
    for number in range(3):
        for name in (f"CHNCXR_{number:04}_0.png", f"MCUCXR_{number:04}_1.png"):
            save(tmp_path / "lungs" / "CXR_png" / name, number + 50 * name.startswith("M"))
    report = run([tmp_path / "lungs"], tmp_path / "cat")
    assert {name: row for name, row in report.counts.items() if row} == {
        "shenzhen": {"Normal": 3},
        "montgomery": {"TB": 3},
    }


def test_strings_and_a_single_folder_will_do(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[clinic]\nTB = "Tuberculosis"\n')
    sources = str(clinic(tmp_path / "clinic"))
    report = run(sources, str(tmp_path / "cat"), labels=str(tmp_path / "own.toml"), healthy="Normal")
    assert (set(report.classes), report.healthy) == ({"Normal", "Tuberculosis"}, ("Normal",))


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"split": "patients"}, "split is 'patients'; give one of patient, image"),
        ({"views": "sideways"}, "views is 'sideways'; give one of frontal, all"),
        ({"conflicts": "drop"}, "conflicts is 'drop'; give one of leave_out, keep"),
        ({"valid": 0.7, "test": 0.7}, "shares of all films"),
        ({"healthy": ["Nope"]}, "healthy class 'Nope': no film is of this class; there are TB, Normal"),
        ({"out": "letter.txt/x"}, "letter.txt: is a file; name a folder with --out"),
        ({"out": "/proc/cat"}, "/proc/cat: cannot be made"),
        ({"labels": "nowhere.toml"}, "cannot be read as a label map"),
    ],
)
def test_what_cannot_be_is_said_before_any_film_is_read(
    tmp_path: Path, option: dict[str, Any], says: str
) -> None:
    (tmp_path / "letter.txt").touch()
    clinic(tmp_path / "clinic")
    steps: list[str] = []
    options = {"out": tmp_path / "cat"} | option
    options["out"] = tmp_path / options["out"]
    with pytest.raises(CarinaError, match=re.escape(says)):
        run({"clinic": tmp_path / "clinic"}, **options, progress=lambda step: steps.append(step.stage))
    assert "films" not in steps
    assert not (tmp_path / "cat").exists()


def test_too_few_patients_are_said_before_any_film_is_read(tmp_path: Path) -> None:
    clinic(tmp_path / "clinic")
    for number in range(9):
        save(tmp_path / "clinic" / "Cyst" / f"p900_{number}.png", 900 + number)
    steps: list[str] = []
    with pytest.raises(SplitError, match=r"class 'Cyst' \(1\)"):
        run({"c": tmp_path / "clinic"}, tmp_path / "cat", progress=lambda step: steps.append(step.stage))
    assert "films" not in steps


def test_many_conflicts_and_crowded_groups_are_warned_of(tmp_path: Path) -> None:
    clinic(tmp_path / "a")
    for patient in range(700, 708):
        save(tmp_path / "a" / "TB" / f"p{patient}_1.jpg", 7, quality=60 + patient % 50)
    save(tmp_path / "b" / "Normal" / "x.jpg", 0, quality=70)
    said = run({"a": tmp_path / "a", "b": tmp_path / "b"}, tmp_path / "cat").warnings
    assert any(text.startswith("2 of 21 films (10%) are left out although their copies") for text in said)
    crowded = next(text for text in said if "patients: 1; the largest" in text)
    assert "joins 9" in crowded or "joins 8" in crowded


def test_healthy_classes_can_be_named(tmp_path: Path) -> None:
    clinic(tmp_path / "clinic")
    (tmp_path / "clinic" / "Normal").rename(tmp_path / "clinic" / "Unremarkable")
    assert "no class means healthy" in run({"clinic": tmp_path / "clinic"}, tmp_path / "cat").warnings[0]
    assert run({"clinic": tmp_path / "clinic"}, tmp_path / "cat", healthy=["Unremarkable"]).healthy == (
        "Unremarkable",
    )
    with pytest.raises(
        LabelError, match="healthy class 'Well': no film is of this class; there are TB, Unremarkable"
    ):
        run({"clinic": tmp_path / "clinic"}, tmp_path / "cat", healthy=["Well"])


def test_a_film_that_the_label_map_leaves_out_is_counted(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[clinic]\nTB = ""\n')
    report = run({"clinic": clinic(tmp_path / "clinic")}, tmp_path / "cat", labels=tmp_path / "own.toml")
    assert report.dropped == {"clinic": {"no_class_wanted": 6}}
    assert report.classes == ("Normal",)
    assert ("clinic", "left out by the label map", 6) in report.reasons()


def test_a_set_named_as_what_it_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"not laid out as nih \(NIH ChestX-ray14\)"):
        run({"nih": clinic(tmp_path / "clinic")}, tmp_path / "cat")


def test_a_class_with_too_few_patients_stops_the_compile_and_leaves_nothing_behind(tmp_path: Path) -> None:
    clinic(tmp_path / "clinic")
    save(tmp_path / "clinic" / "Cyst" / "1.png", 77)
    with pytest.raises(SplitError, match=r"class 'Cyst' \(1\)"):
        run({"clinic": tmp_path / "clinic"}, tmp_path / "cat")
    assert not (tmp_path / "cat").exists()


def test_an_out_folder_with_other_files_is_refused_before_any_film_is_read(tmp_path: Path) -> None:
    clinic(tmp_path / "clinic")
    seen: list[Progress] = []
    with pytest.raises(CatalogueError, match="holds files that are no catalogue"):
        run({"clinic": tmp_path / "clinic"}, tmp_path / "clinic", progress=seen.append)
    assert not seen


def test_when_no_film_is_left_the_error_says_why(tmp_path: Path) -> None:
    (tmp_path / "clinic" / "TB").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "clinic" / "TB" / f"{number}.png").write_bytes(b"")
    with pytest.raises(SourceError, match=r"no film is left; 3 were left out like \d\.png \(.*empty"):
        run({"clinic": tmp_path / "clinic"}, tmp_path / "cat")


def test_a_list_that_names_missing_files_is_told_however_many_others_there_are(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / "ward" / f"IM{number}.png", number)
    table = tmp_path / "ward" / "films.csv"
    table.write_text("path,label\nimages/0.png,TB\nimages/1.png,TB\n")
    says = r"none of the 2 files that films\.csv lists is there \(the first: images/0\.png\)"
    with pytest.raises(SourceError, match=says):
        run({"ward": tmp_path / "ward"}, tmp_path / "cat")
    table.write_text("path,label\nimages/0.png,TB\nIM1.png,odd\n")
    (tmp_path / "own.toml").write_text('[ward]\nodd = ""\n')
    with pytest.raises(SourceError, match=r"1 were left out like 0\.png \(.*not there\), 7 like IM"):
        run({"ward": tmp_path / "ward"}, tmp_path / "cat", labels=tmp_path / "own.toml")


def test_a_source_that_cannot_be_looked_into_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    clinic(tmp_path / "ward")
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(SourceError, match=r"ward: cannot be read \(Permission denied: .*give access"):
        run({"ward": tmp_path / "ward"}, tmp_path / "cat")


def test_progress_reaches_its_end_in_every_stage(tmp_path: Path) -> None:
    last: dict[str, Progress] = {}
    run(
        {"clinic": clinic(tmp_path / "clinic")},
        tmp_path / "cat",
        progress=lambda step: last.update({step.stage: step}),
    )
    assert (last["films"].done, last["films"].total) == (12, 12)
    assert all(step.done == step.total for step in last.values())


WORKS = """
import os, time
def work(head, payload):
    name = os.path.basename(head["path"])
    if "killer" in name: os._exit(3)
    if "sleeper" in name: time.sleep(60)
    if "bug" in name: raise KeyError("ours")
    if "liar" in name: return {"code": "no such code"}, b""
    os.write(1, b"noise on stdout")
    return {"name": name}, b""
"""


@pytest.fixture
def works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``ask_all`` for children that do what ``WORKS`` says."""
    (tmp_path / "odd_works.py").write_text(WORKS)
    monkeypatch.syspath_prepend(tmp_path)

    def ask(*names: str, work: str = "odd_works:work", **options: Any) -> dict[int, Any]:
        paths = [Path(name) for name in names]
        return dict(ask_all(paths, work, lambda message: message[0]["name"], **options))

    return ask


def test_a_film_that_kills_its_reader_is_refused_and_the_others_are_read(works: Any) -> None:
    answers = works("a.png", "killer.png", "b.png", "killer2.png", "c.png", workers=2)
    assert [answers[i] for i in (0, 2, 4)] == ["a.png", "b.png", "c.png"]
    assert all(isinstance(answers[i], UnreadableImage) for i in (1, 3))
    assert "ended the process" in str(answers[1])


def test_a_film_that_takes_for_ever_is_refused(works: Any) -> None:
    answers = works("sleeper.png", "a.png", workers=1, limits=Limits(seconds=1.5))
    assert isinstance(answers[0], UnreadableImage)
    assert "took too long" in str(answers[0])
    assert answers[1] == "a.png"


def test_whoever_stops_does_not_wait_for_a_film_that_takes_minutes(works: Any) -> None:
    answers = ask_all([Path("a.png"), Path("sleeper.png")], "odd_works:work", lambda m: m[0], workers=1)
    assert next(answers) == (0, {"name": "a.png"})
    began = time.monotonic()
    answers.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 5


def test_a_reader_that_talks_nonsense_is_not_believed(works: Any) -> None:
    answers = works("liar.png", "a.png", workers=1)
    assert isinstance(answers[0], UnreadableImage)
    assert "nonsense" in str(answers[0])
    assert answers[1] == "a.png"


def test_a_bug_of_ours_in_a_reader_is_not_passed_off_as_a_bad_film(works: Any) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)bug\.png.*KeyError.*odd_works"):
        works("bug.png", workers=1)


def test_a_reader_that_cannot_start_is_said_so(works: Any) -> None:
    with pytest.raises(DecoderError, match=r"cannot be started .*no_such_module"):
        works("a.png", workers=1, work="no_such_module:work")


def test_a_script_without_a_main_guard_can_compile(tmp_path: Path) -> None:
    clinic(tmp_path / "clinic")
    script = tmp_path / "script.py"
    script.write_text(
        f"import carina\ncarina.compile([r'{tmp_path / 'clinic'}'], r'{tmp_path / 'cat'}', workers=2)\n"
    )
    subprocess.run([sys.executable, script], check=True)
    assert len(Catalogue.open(tmp_path / "cat")) == 12


def test_films_are_read_in_child_processes_with_the_same_result(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}.png", number) for number in range(5)]
    inside, outside = dict(look_at_all(paths, workers=0)), dict(look_at_all(paths, workers=2))
    assert [inside[i].facts for i in range(5)] == [outside[i].facts for i in range(5)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("view", "sideways"),
    [
        *(
            ("LATERAL", True),
            ("LL", True),
            ("RL", True),
            ("L", True),
            ("LAT ERECT", True),
            ("left lateral", True),
        ),
        *(
            ("PA", False),
            ("AP", False),
            ("AP SUPINE", False),
            (None, False),
            ("LLD", False),
            ("FRONTAL", False),
        ),
    ],
)
def test_lateral_views_are_known_by_their_words(view: str | None, sideways: bool) -> None:
    assert is_sideways(view) == sideways


@pytest.mark.parametrize(
    ("age", "child", "oldest", "code"),
    [
        *((17.9, False, None, "too_young"), (18.0, False, None, None), (None, False, None, None)),
        *((None, True, None, "too_young"), (None, False, 5.0, "too_young"), (40.0, False, 5.0, None)),
    ],
)
def test_who_counts_as_a_child(
    age: float | None, child: bool, oldest: float | None, code: str | None
) -> None:
    answer = Admission(min_age=18).why_not(view=None, age=age, child=child, oldest=oldest)
    assert (answer[0] if answer else None) == code
    assert Admission().why_not(view=None, age=age, child=child, oldest=oldest) is None


def test_the_verdict_of_the_quick_audit_is_in_the_report_and_in_the_catalogue(tmp_path: Path) -> None:
    report = run({"clinic": clinic(tmp_path / "clinic")}, tmp_path / "cat")
    assert report.verdict is not None
    assert report.verdict.sentence.startswith("Cannot be told")
    said = json.loads((tmp_path / "cat" / "audit.json").read_text())
    assert said["verdict"]["sentence"] == report.verdict.sentence
    assert said["catalogue"] == Catalogue.open(tmp_path / "cat").fingerprint


def test_an_audit_of_older_films_does_not_outlive_them(tmp_path: Path) -> None:
    run({"clinic": clinic(tmp_path / "clinic")}, tmp_path / "cat")
    older = json.loads((tmp_path / "cat" / "audit.json").read_text())["catalogue"]
    run({"clinic": clinic(tmp_path / "clinic", start=50)}, tmp_path / "cat")
    assert json.loads((tmp_path / "cat" / "audit.json").read_text())["catalogue"] != older


def test_relatives_are_warned_of_with_the_copies_that_join_them(tmp_path: Path) -> None:
    hannover, compilation = tmp_path / "hannover", tmp_path / "covid_cxnet"
    clinic(hannover)
    clinic(compilation, start=1000)
    Image.fromarray(picture(3)).save(compilation / "TB" / "p900_1.jpg", quality=80)  # of hannover
    report = run([hannover, compilation], tmp_path / "cat")
    said = (
        "covid_cxnet is partly made of films of hannover; 1 group of copies joins the two, and a copy that "
        "was not found may stand on two sides"
    )
    assert said in report.warnings


def test_the_facts_of_each_set_stand_in_the_manifest(tmp_path: Path) -> None:
    for number in range(12):
        save(tmp_path / "tb" / "CXR_png" / f"CHNCXR_{number:04}_{number % 2}.png", number)
        save(tmp_path / "tb" / "CXR_png" / f"MCUCXR_{number:04}_{number % 2}.png", 100 + number)
    run({"both": tmp_path / "tb"}, tmp_path / "cat")
    manifest = json.loads((tmp_path / "cat" / "catalogue.json").read_text())
    known = {each["name"]: each for each in manifest["sources"]}
    assert known["both"]["made_of"] == ["shenzhen", "montgomery"]
    assert known["shenzhen"]["scanner"] == "Philips DR Digital Diagnost"
    assert "Jaeger" in known["montgomery"]["citation"]
    assert set(manifest["counts"]) <= set(known)
    assert not [text for text in manifest["warnings"] if "made of" in text]  # a set is no relative of itself


def two_clinics(root: Path) -> dict[str, Path]:
    """North has TB and Normal, south Normal and Asthma."""
    for number in range(6):
        save(root / "south" / "Normal" / f"p{number:03}_1.png", 700 + number)
        save(root / "south" / "Asthma" / f"p{number + 50:03}_1.png", 800 + number)
    return {"north": clinic(root / "north"), "south": root / "south"}


def test_classes_of_a_single_source_are_left_out_where_asked_and_counted(tmp_path: Path) -> None:
    folders = two_clinics(tmp_path)
    with pytest.raises(SplitError, match="every film of TB is from there"):
        run(folders, tmp_path / "cat", hold_out=["north"])
    report = run(folders, tmp_path / "cat", single_source="leave_out", hold_out=["north"])
    assert report.classes == ("Normal",)
    assert report.dropped == {"north": {"single_source": 6}, "south": {"single_source": 6}}
    assert ("north", "of a class that one source alone has", 6) in report.reasons()
    said = {row["reason"] for row in lines(tmp_path / "cat", "dropped.csv")}
    assert "TB comes from north only, whose look would tell it; --single-source keep takes it in" in said
    films = Catalogue.open(tmp_path / "cat").table()
    on = set(zip(films["source"].to_pylist(), films["split"].to_pylist(), strict=True))
    assert on == {("north", "test"), ("south", "train"), ("south", "valid")}
