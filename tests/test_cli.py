"""The commands, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

RECIPE = """
[model]
backbone = "test_resnet"
pretrained = false

[[stage]]
size = 32
frozen = false
epochs = 1
lr = 4e-3
"""


def carina(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``carina`` in a process of its own."""
    line = [sys.executable, "-m", "carina", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command has run: films, catalogue, run, evaluation, scores."""
    root = tmp_path_factory.mktemp("road")
    (root / "recipe.toml").write_text(RECIPE)
    films = root / "films"
    hospitals = [f"a={films / 'hospital_a'}", films / "hospital_b", films / "hospital_c"]
    lines = (
        ("phantoms", "--out", films, "--per-class", 24, "--unseen", 6),
        ("compile", *hospitals, "--out", root / "catalogue"),
        ("train", root / "catalogue", "--recipe", root / "recipe.toml", "--out", root / "run"),
        ("evaluate", root / "run/bundle", root / "catalogue", "--split=test", "--out", root / "evaluation"),
    )  # fmt: skip
    for line in lines:
        done = carina(*line)
        assert done.returncode == 0, done.stderr
        (root / f"{line[0]}.txt").write_text(done.stdout + done.stderr)
    return root


def test_compile_prints_source_by_class_and_writes_the_promised_columns(road: Path) -> None:
    printed = (road / "compile.txt").read_text()
    assert "Bacterial Pneumonia" in printed.splitlines()[0]
    assert {"a", "hospital_b", "hospital_c", "all"} <= {
        line.split()[0] for line in printed.splitlines() if line
    }
    columns = set(pq.read_schema(road / "catalogue" / "catalogue.parquet").names)
    promised = "image_id path class findings source patient group split view age sex width height sha256"
    assert set(promised.split()) <= columns


def test_train_prints_the_line_a_fastai_user_knows(road: Path) -> None:
    printed = (road / "train.txt").read_text().splitlines()
    head = next(line for line in printed if line.split()[:1] == ["epoch"])
    assert head.split() == ["epoch", "train_loss", "valid_loss", "accuracy", "error_rate", "time"]
    row = printed[printed.index(head) + 1].split()
    assert float(row[3]) + float(row[4]) == pytest.approx(1, abs=1e-3)


def test_training_again_into_a_finished_run_changes_nothing(road: Path) -> None:
    before = (road / "run" / "bundle" / "bundle.json").read_bytes()
    again = carina("train", road / "catalogue", "--recipe", road / "recipe.toml", "--out", road / "run")
    assert again.returncode == 0
    assert (road / "run" / "bundle" / "bundle.json").read_bytes() == before


@pytest.mark.slow
def test_two_devices_speak_with_one_voice(road: Path) -> None:
    line = (
        "train",
        road / "catalogue",
        "--recipe",
        road / "recipe.toml",
        "--devices",
        2,
        "--out",
        road / "run",
    )
    done = carina(*line)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["bundle", str(road / "run" / "bundle")]
    assert done.stderr.count("this run is complete; nothing was trained") == 1
    other = carina(*line, "--set", "stage.1.epochs=3")
    assert other.returncode == 1
    assert len(other.stderr.strip().splitlines()) == 1


def test_evaluate_says_recall_of_disease_first(road: Path) -> None:
    printed = (road / "evaluate.txt").read_text().splitlines()
    lines = [line for line in printed if line.strip() and not line.startswith("warning:")]
    assert lines[0].startswith("Recall of disease (sensitivity)")
    metrics = json.loads((road / "evaluation" / "metrics.json").read_text())
    found = metrics["metrics"]["detection"]["sensitivity"]
    assert f"{found['hits']} of {found['films']} diseased films found" in lines[0]
    assert {"metrics.json", "predictions.parquet", "report.html"} <= {
        path.name for path in (road / "evaluation").iterdir()
    }


def test_a_study_runs_from_nothing_and_its_rows_can_be_compared(road: Path) -> None:
    study = road / "study"
    done = carina("study", road / "catalogue", "report-small", "--out", study)
    assert done.returncode == 0, done.stderr
    head = next(line for line in done.stdout.splitlines() if line.split()[:1] == ["row"])
    assert head.split()[:6] == ["row", "size", "body", "epochs", "minutes", "accuracy"]
    assert "Can this be believed?" in done.stdout
    written = json.loads((study / "study.json").read_text())
    assert [row["row"] for row in written["rows"]] == ["1", "2", "3"]
    assert len(list((study / "runs").iterdir())) == 3
    assert "trained as 3 runs of 4 epochs" in written["sharing"]  # alone they would be 8
    compared = carina("compare", study / "rows" / "1", study / written["rows"][1]["run"], "--split", "test")
    assert compared.returncode == 0, compared.stderr
    said = compared.stdout
    assert "more than chance" in said or "chance could not make" in said
    assert said.strip().splitlines()[-1].startswith("Can this be believed?")  # and not without the verdict


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_score_gives_a_row_to_every_film_and_refuses_the_broken_ones(road: Path, suffix: str) -> None:
    out = road / f"scores.{suffix}"
    films = road / "films" / "unseen" / "films"
    done = carina(
        "score", films, "--model", road / "run" / "bundle", "--out", out, "--heatmaps", road / "maps"
    )
    assert done.returncode == 0, done.stderr
    assert "6 scored, 2 refused" in done.stderr
    assert out.exists()
    assert len(list((road / "maps").glob("*.png"))) == 6
    if suffix == "parquet":
        table = pq.read_table(out, use_threads=False)
        assert table.column_names[:3] == ["path", "class", "p_disease"]
        assert table.column_names[-1] == "refused"
        assert sorted(filter(None, table["refused"].to_pylist())) != []


def test_scoring_a_folder_without_films_warns(road: Path, tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    done = carina(
        "score", tmp_path / "night", "--model", road / "run" / "bundle", "--out", tmp_path / "s.csv"
    )
    assert done.returncode == 0
    assert f"warning: no film was found in {tmp_path / 'night'}" in done.stderr


def test_the_list_has_the_most_suspicious_film_first(road: Path) -> None:
    films = road / "films" / "unseen" / "films"
    done = carina("score", films, "--model", road / "run" / "bundle")
    rows = [line.split() for line in done.stdout.splitlines()[1:] if line.strip()]
    scores = [float(row[0]) for row in rows]
    assert len(scores) == 6
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "nowhere", "--recipe", "quick", "--out", "run"), "nowhere: no such folder"),
        (("score", "nowhere.png", "--model", "nobundle"), "nobundle: no such folder"),
        (("compile", "nowhere", "--out", "catalogue"), "nowhere: no such folder"),
        (("evaluate", "nobundle", "nowhere", "--out", "evaluation"), "no such folder"),
        (("demo", "--out", "precious"), "is no earlier demonstration"),
        (("demo", "--out", "precious/thesis.txt/x"), "thesis.txt: is a file; name a folder with --out"),
        (("demo", "--out", "/proc/x"), "/proc/x: cannot be made"),
        (("phantoms", "--out", "precious/thesis.txt"), "something is there"),
        (("phantoms", "--out", "/proc/x/y"), "/proc/x: cannot be made"),
        (("phantoms", "--out", "precious"), "phantoms need an empty folder"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("all of it")
    done = carina(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "all of it"


def test_a_wrong_word_for_an_option_is_a_usage_error(tmp_path: Path) -> None:
    done = carina("compile", tmp_path, "--out", tmp_path / "c", "--views", "sideways")
    assert done.returncode == 2
    assert "'sideways' is none of frontal, all" in done.stderr


def test_version_says_it_is_no_medical_device() -> None:
    assert "Not a medical device" in carina("--version").stdout


def test_find_lr_draws_the_curve_names_its_suggestions_and_writes_the_picture(
    road: Path, tmp_path: Path
) -> None:
    line = ("find-lr", road / "catalogue", "--recipe", road / "recipe.toml", "--out", tmp_path / "curve.svg")
    done = carina(*line)
    assert done.returncode == 0, done.stderr
    assert "●" in done.stdout
    words = ("valley", "steep", "minimum / 10", "loss rises at", "stage 1: ", "curve       ")
    assert all(word in done.stdout for word in words)
    assert "<svg" in (tmp_path / "curve.svg").read_text()
    wrong = carina("find-lr", road / "catalogue", "--recipe", road / "recipe.toml", "--stage", 2)
    assert wrong.returncode == 1
    assert "has 1 stages and no stage 2; count from 1" in wrong.stderr
