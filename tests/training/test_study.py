"""A study from nothing: shared stages trained once, to the bits of rows trained alone; killed and resumed."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from carina.data.catalogue import Catalogue
from carina.errors import DataError, RecipeError, RunError
from carina.evaluation.bootstrap import Rate
from carina.evaluation.study_table import TIMES, recommended, terminal_table
from carina.records import Progress
from carina.training.study import StudyResult, study
from carina.training.study_file import Study, parse_study
from carina.training.train import train
from tests.training.small import Small

KEYS: dict[str, Any] = {
    "name": "bands",
    "title": "Bands <in> noise",
    "reported": {"accuracy": 0.9, "minutes": 240},
    "mix": {"Normal": 100, "Band in the middle": 50, "Band below": 50},
    "data": {"batch": 12},
    "model": {"backbone": "test_resnet", "pretrained": False, "drop_rate": 0.2},
    "train": {"checkpoint_minutes": 0, "ema": 0.5},
    "row": [
        {"name": "1", "says": "small", "stage": [{"size": 32, "epochs": 3, "lr": 1e-2}]},
        {
            "name": "2",
            "says": "grown",
            "after": "1",
            "reported": {"accuracy": 0.9, "images": 11000},
            "stage": [{"size": 48, "epochs": 1, "lr": [1e-3, 1e-2]}],
        },
        {
            "name": "3",
            "says": "then the head",
            "after": "2",
            "against": "1",
            "stage": [{"size": 48, "frozen": True, "epochs": 2, "lr": 3e-3}],
        },
    ],
}
PLAN: Study = parse_study(KEYS)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return Small().catalogue(tmp_path_factory.mktemp("data"), {"train": 36, "valid": 12, "test": 18})


@pytest.fixture(scope="module")
def told() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue, told: list[Progress]) -> StudyResult:
    """The whole study, from nothing."""
    return study(catalogue, PLAN, tmp_path_factory.mktemp("studies") / "study", progress=told.append)


def table(folder: Path) -> list[dict[str, str]]:
    """``study.csv`` without what a clock decides."""
    with (folder / "study.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def test_shared_epochs_are_trained_once(done: StudyResult, told: list[Progress]) -> None:
    assert len([event for event in told if event.stage == "epoch"]) == 6  # alone they would be 3 + 4 + 6
    assert [node.rows for node in done.nodes] == [("1",), ("2",), ("3",)]


def test_the_last_row_has_the_bits_of_the_row_trained_alone(
    tmp_path: Path, done: StudyResult, catalogue: Catalogue
) -> None:
    train(catalogue, PLAN.rows[-1].recipe, tmp_path / "alone")
    alone = load_file(tmp_path / "alone" / "bundle" / "weights.safetensors")
    shared = load_file(done.out / done.rows[-1].run / "bundle" / "weights.safetensors")
    assert all(torch.equal(alone[name], shared[name]) for name in alone)
    epochs = (tmp_path / "alone" / "history.jsonl").read_text().splitlines()
    assert len(epochs) == len(done.rows[-1].history) == 6


def test_the_table_stands_beside_what_was_reported_and_fills_nothing_in(done: StudyResult) -> None:
    first, second, third = table(done.out)
    assert (first["reported_accuracy"], second["reported_accuracy"]) == ("", "0.9")
    assert second["reported_images"] == "11000"
    assert (second["size"], second["body"], second["epochs"]) == ("32 → 48", "unfrozen", "4")
    assert third["body"] == "unfrozen, frozen"
    assert (second["against"], third["against"]) == ("1", "1")
    assert second["learning_rate"] == "0.01; 0.001–0.01"
    assert all(0 <= float(row["accuracy_low"]) <= float(row["accuracy"]) for row in (first, second, third))
    assert all(row["split"] == "test" and row["films"] == "18" for row in (first, second, third))


def test_accuracy_at_the_mix_is_the_weighted_recall(done: StudyResult) -> None:
    content = json.loads((done.out / "study.json").read_text())
    row = content["rows"][0]
    recall = {name: rate["value"] for name, rate in row["recall"].items()}
    expected = 0.5 * recall["Normal"] + 0.25 * recall["Band in the middle"] + 0.25 * recall["Band below"]
    assert row["accuracy_at_mix"] == pytest.approx(expected)


def test_the_row_in_the_headline_is_the_best_on_validation_films_at_the_mix(done: StudyResult) -> None:
    for row in done.rows:
        recall = row.history[-1]["recall"]
        expected = 0.5 * recall["Normal"] + 0.25 * recall["Band in the middle"] + 0.25 * recall["Band below"]
        assert row.valid_at_mix == pytest.approx(expected)
        assert row.valid_accuracy == row.history[-1]["accuracy"]
    best = max(done.rows, key=lambda row: row.valid_at_mix)
    page = (done.out / "study.html").read_text()
    assert "Accuracy at the mix" in page
    assert f"row {best.name}, chosen by its validation films" in page
    assert "at the mix" in done.table()[0]


def test_a_mix_of_classes_that_are_not_there_is_refused_before_anything_is_trained(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    wrong = parse_study({**KEYS, "mix": {"Normal": 100, "Flu": 3}})
    with pytest.raises(RecipeError, match=r"row 1: \[mix\]: 'Flu' is not among its classes, .*below only"):
        study(catalogue, wrong, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_class_of_the_mix_without_a_test_film_leaves_the_plain_accuracy(done: StudyResult) -> None:
    row = done.rows[0]
    lacking = dataclasses.replace(row, mixed=Rate(None, None, None, 0, 0, 0, "no film of TB"))
    assert not lacking.is_mixed
    assert lacking.accuracy == row.found.metrics.accuracy
    assert "at the mix" not in terminal_table([lacking])[0]
    unknown = [dataclasses.replace(each, valid_at_mix=None) for each in done.rows]
    assert recommended(unknown).valid_accuracy == max(each.valid_accuracy for each in done.rows)


def test_the_page_refers_to_nothing_outside_itself_and_escapes_what_it_shows(done: StudyResult) -> None:
    page = (done.out / "study.html").read_text()
    assert "Bands &lt;in&gt; noise" in page
    assert 'src="http' not in page
    for words in ("Confusion matrix", "Learning rate by epoch", "Can this be believed?", "reported: 90.0 %"):
        assert words in page
    assert "not a medical device" in page


def test_the_same_command_again_trains_nothing(done: StudyResult, catalogue: Catalogue) -> None:
    heard: list[Progress] = []
    before = table(done.out)
    study(catalogue, PLAN, done.out, progress=heard.append)
    assert not [event for event in heard if event.stage in ("epoch", "score")]
    assert table(done.out) == before


def test_a_row_that_is_added_later_trains_its_own_stages_only(
    done: StudyResult, catalogue: Catalogue
) -> None:
    heard: list[Progress] = []
    more = {"name": "4", "after": "1", "stage": [{"size": 32, "epochs": 1, "lr": 1e-3}]}
    longer = parse_study({**KEYS, "row": [*KEYS["row"], more]})
    found = study(catalogue, longer, done.out, rows=["1", "4"], progress=heard.append)
    assert [row.name for row in found.rows] == ["1", "4"]
    assert len([event for event in heard if event.stage == "epoch"]) == 1


def test_an_unknown_row_is_named(tmp_path: Path, catalogue: Catalogue) -> None:
    with pytest.raises(RecipeError, match=r"row '7' is not in the study bands; it has 1, 2, 3"):
        study(catalogue, PLAN, tmp_path / "study", rows=["7"])


def test_what_a_row_lacks_is_said_before_anything_is_trained(tmp_path: Path, catalogue: Catalogue) -> None:
    wrong = parse_study({**KEYS, "data": {"batch": 12, "classes": ["Normal", "Flu"]}})
    with pytest.raises(RecipeError, match=r"row 1: \[data\].*Flu"):
        study(catalogue, wrong, tmp_path / "study")
    with pytest.raises(DataError, match=r"row 2: \[data\]: per_class = 600: .* take at most"):
        study(catalogue, parse_study(KEYS, ["row.1.data.per_class=600"]), tmp_path / "study", rows=["2"])
    assert not (tmp_path / "study").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path, catalogue: Catalogue) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(RunError, match=r"holds thesis\.txt and is no study"):
        study(catalogue, PLAN, tmp_path)


KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from carina.training.study import study
from carina.training.study_file import parse_study
catalogue, plan, out = sys.argv[1], parse_study(json.loads(sys.argv[2])), Path(sys.argv[3])
kills, longest = map(float, sys.argv[4:])
killed, dice = 0, random.Random(1)
while True:
    child = os.fork()
    if not child:
        study(catalogue, plan, out)
        os._exit(0)
    if killed < kills:
        time.sleep(dice.uniform(0.2, longest))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and killed >= kills:
        sys.exit(os.WEXITSTATUS(status))
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"could not be resumed after {killed} kills")
    killed += 1
"""


def test_killed_at_ten_random_moments_it_ends_in_the_same_table(
    tmp_path: Path, done: StudyResult, catalogue: Catalogue
) -> None:
    study(catalogue, PLAN, done.out)  # the table of the three rows, whatever was asked for in between
    out = tmp_path / "study"
    arguments = [str(catalogue.root), json.dumps(KEYS), str(out), "10", "3"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLER, *arguments], capture_output=True, text=True, check=False
    )
    assert killed.returncode == 0, killed.stderr
    assert table(out) == table(done.out)
    assert not list(out.rglob("*.partial"))
    assert not list(out.rglob("*.tmp"))
