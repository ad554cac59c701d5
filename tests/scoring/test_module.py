"""A step in mercure: its folders, its settings, its result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import films as made
import numpy as np
import pytest

from carina.errors import ClaimError, OutputError, SourceError
from carina.scoring import module
from carina.scoring.bundle import Bundle, write_bundle
from carina.scoring.module import FLAGGED, SCORED, UNFLAGGED, UNREAD, run_module
from carina.scoring.operating import SECTION
from tests.bundles import tiny_bundle


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A study as mercure hands it over: two series, one film of them cut, tags and the task beside them."""
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for series, number in (("1.2.1", 1), ("1.2.1", 2), ("1.2.2", 1)):
        data = made.dicom(rng.integers(0, 4096, (90, 80)).astype(np.uint16), bits=12)
        (folder / f"{series}#{series}.{number}.dcm").write_bytes(data)
        (folder / f"{series}#{series}.{number}.tags").write_text("{}")
    cut = folder / "1.2.2#1.2.2.1.dcm"
    cut.write_bytes(cut.read_bytes()[:-500])
    (tmp_path / "out").mkdir()
    return tmp_path


def settings(task: Path, **values: Any) -> None:
    (task / "in" / "task.json").write_text(json.dumps({"id": "x", "process": {"settings": values}}))


@pytest.fixture
def calibrated(tmp_path: Path) -> Path:
    """A bundle whose operating point for the site ``north`` flags everything."""
    plain = Bundle.open(tiny_bundle(tmp_path / "plain"))
    recall = {"found": 9, "people": 9, "limit": 0.7}
    point = {
        "target": 0.7, "confidence": 0.95, "per_class": False, "threshold": 0.0, "sensitivity": recall,
        "specificity": {"spared": 0, "people": 9, "low": 0.0, "high": 0.4},
        "classes": {"COVID-19": recall}, "films": 18, "below": 0,
    }  # fmt: skip
    site = {
        "created": "2026-01-01T00:00:00Z", "carina": "0.1.0", "model": plain.model_sha256,
        "catalogue": "0" * 64, "split": "valid", "films": 18, "refused": 0, "sources": ["a"],
        "points": [point],
    }  # fmt: skip
    manifest = plain.manifest.model_copy(update={"sections": {SECTION: {"north": site}}})
    files = {name: plain.root / name for name in plain.manifest.files}
    return write_bundle(tmp_path / "calibrated", manifest, files).root


def test_every_film_has_an_outcome_and_mercure_is_asked_to_tell_of_the_unread(
    task: Path, bundle: Path
) -> None:
    result = run_module(bundle, task / "in", task / "out", check=False)
    assert result == json.loads((task / "out" / "result.json").read_text())
    assert [row["outcome"] for row in result["films"]] == [SCORED, SCORED, UNREAD]
    assert result["counts"] == {SCORED: 2, UNREAD: 1}
    scored, _, unread = result["films"]
    assert sum(scored["probabilities"].values()) == pytest.approx(1)
    assert (scored["series"], unread["series"]) == ("1.2.1", "1.2.2")
    assert unread["reason"].startswith("truncated: ")
    assert result["__mercure_notification"]["requested"] is True
    assert result["__mercure_notification"]["text"].startswith(
        "1 not analysed: needs a reader; 2 scored. Res"
    )
    assert [path.name for path in (task / "out").iterdir()] == ["result.json"]


def test_the_operating_point_of_the_site_flags(task: Path, calibrated: Path) -> None:
    settings(task, site="north", pass_on=True)
    result = run_module(calibrated, task / "in", task / "out", check=False)
    assert result["counts"] == {FLAGGED: 2, UNREAD: 1}
    assert (result["site"], result["threshold"]) == ("north", 0.0)
    passed = sorted(path.name for path in (task / "out").glob("*.dcm"))
    assert passed == sorted(path.name for path in (task / "in").glob("*.dcm"))


def test_films_of_one_name_in_two_folders_are_both_passed_on(task: Path, bundle: Path) -> None:
    first, second = sorted((task / "in").glob("1.2.1#*.dcm"))
    held = {"a/film.dcm": first.read_bytes(), "b/film.dcm": second.read_bytes()}
    for name, path in zip(held, (first, second), strict=True):
        (task / "in" / name).parent.mkdir()
        path.rename(task / "in" / name)
    settings(task, pass_on=True)
    run_module(bundle, task / "in", task / "out", check=False)
    assert {name: (task / "out" / name).read_bytes() for name in held} == held


def test_films_below_the_threshold_are_read_as_usual_and_nobody_is_called(
    task: Path, calibrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task / "in" / "1.2.2#1.2.2.1.dcm").unlink()
    settings(task, site="north")
    point = module.operating_point(Bundle.open(calibrated), "north")
    above = point.model_copy(update={"threshold": 1.0})
    monkeypatch.setattr(module, "operating_point", lambda *_: above)
    result = run_module(calibrated, task / "in", task / "out", check=False)
    assert result["counts"] == {UNFLAGGED: 2}
    assert result["__mercure_notification"]["requested"] is False
    words = json.dumps(result).lower()
    assert "negative" not in words
    assert "healthy" not in words


def test_a_task_without_films_is_told(task: Path, bundle: Path) -> None:
    for path in (task / "in").glob("*.dcm"):
        path.unlink()
    result = run_module(bundle, task / "in", task / "out", check=False)
    assert result["films"] == []
    assert result["__mercure_notification"]["requested"] is True
    assert "nothing was analysed" in result["__mercure_notification"]["text"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no json", "is no task of mercure"),
        ("[]", "is no task of mercure"),
        ('{"process": {"settings": {"sites": "north"}}}', "the setting 'sites' is not known"),
        ('{"process": {"settings": {"site": 3}}}', "the setting 'site' is 3"),
        ('{"process": {"settings": {"target": true}}}', "the setting 'target' is True"),
    ],
)
def test_settings_that_make_no_sense_are_said(task: Path, bundle: Path, text: str, says: str) -> None:
    (task / "in" / "task.json").write_text(text)
    with pytest.raises(SourceError, match=says):
        run_module(bundle, task / "in", task / "out", check=False)
    assert not list((task / "out").iterdir())


@pytest.mark.parametrize("text", ['{"process": null}', '{"process": []}', '{"process": [{"settings": {}}]}'])
def test_a_task_may_have_no_settings(task: Path, bundle: Path, text: str) -> None:
    (task / "in" / "task.json").write_text(text)
    assert len(run_module(bundle, task / "in", task / "out", check=False)["films"]) == 3


def test_what_cannot_be_done_is_an_error(task: Path, bundle: Path) -> None:
    with pytest.raises(SourceError, match="set MERCURE_IN_DIR"):
        run_module(bundle, task / "nowhere", task / "out", check=False)
    with pytest.raises(OutputError, match="set MERCURE_OUT_DIR"):
        run_module(bundle, task / "in", task / "nowhere", check=False)
    settings(task, site="north")
    with pytest.raises(ClaimError, match="no operating point for the site 'north'"):
        run_module(bundle, task / "in", task / "out", check=False)


def test_the_verb_reads_its_folders_from_the_environment(task: Path, bundle: Path) -> None:
    folders = {"MERCURE_IN_DIR": str(task / "in"), "MERCURE_OUT_DIR": str(task / "out")}
    done = subprocess.run(
        [sys.executable, "-m", "carina", "module"],
        env={**os.environ, **folders, "CARINA_MODEL": str(bundle)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 not analysed: needs a reader.")  # two are noise, and no chest films
    assert (task / "out" / "result.json").exists()


def test_the_container_recipe_names_what_there_is_and_no_registry(task: Path, bundle: Path) -> None:
    root = Path(__file__).parents[2]
    recipe = (root / "deploy" / "mercure" / "Dockerfile").read_text()
    lines = [
        line.split() for line in recipe.splitlines() if line.startswith(("FROM", "COPY", "ENV", "ENTRYP"))
    ]
    assert {line[1] for line in lines if line[0] == "FROM"} == {"python:3.11-slim"}
    for line in lines:
        if line[0] == "COPY" and not line[1].startswith("--"):
            assert all((root / name).exists() for name in line[1:-1]), line
    environment = dict(word.split("=") for line in lines if line[0] == "ENV" for word in line[1:])
    entry = json.loads(recipe[recipe.index("ENTRYPOINT") + 10 :])
    done = subprocess.run(  # as mercure does: another's home, none of ours, nothing but the two folders
        [sys.executable, "-m", *entry],
        env={
            "PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"], "HOME": "/nonexistent",
            **environment, "CARINA_MODEL": str(bundle),
            "MERCURE_IN_DIR": str(task / "in"), "MERCURE_OUT_DIR": str(task / "out"),
        },
        cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (task / "out").iterdir()] == ["result.json"]
