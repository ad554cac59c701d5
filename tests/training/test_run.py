from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carina.errors import OutputError, RunError
from carina.training import run as runs

CATALOGUE = "a" * 64


def start(root: Path, recipe: Any, catalogue: str = CATALOGUE) -> None:
    with runs.opened(root, recipe, catalogue, {"devices": 1}) as run:
        assert not run.is_complete


def begin(root: Path, recipe: Any) -> None:
    """A run that has come to its first checkpoint."""
    start(root, recipe)
    (root / "checkpoints").mkdir()
    (root / "checkpoints" / "step-000000001-00000.json").write_text("{}")


def test_a_new_run_says_what_it_is(tmp_path: Path, small: Any) -> None:
    start(tmp_path / "new" / "run", small.recipe())
    about = json.loads((tmp_path / "new" / "run" / "run.json").read_text())
    assert about["catalogue"] == CATALOGUE
    assert (
        about["recipe"]
        == small.recipe().to_dict()
        == json.loads((tmp_path / "new/run/recipe.json").read_text())
    )


def test_the_same_recipe_and_catalogue_open_it_again(tmp_path: Path, small: Any) -> None:
    for _ in range(2):
        start(tmp_path, small.recipe())


@pytest.mark.parametrize("part", [{"train": {"checkpoint_minutes": 1}}, {"data": {"workers": 3}}])
def test_what_decides_no_weight_may_change(tmp_path: Path, small: Any, part: dict[str, Any]) -> None:
    start(tmp_path, small.recipe())
    start(tmp_path, small.recipe(**part))


def test_a_run_that_began_before_a_key_existed_goes_on(tmp_path: Path, small: Any) -> None:
    begin(tmp_path, small.recipe())
    about = json.loads((tmp_path / "run.json").read_text())
    del about["recipe"]["data"]["trim"]
    (tmp_path / "run.json").write_text(json.dumps(about))
    start(tmp_path, small.recipe())
    with pytest.raises(RunError, match=r"began with data\.trim = False, this recipe has True"):
        start(tmp_path, small.recipe(data={"trim": True}))


def test_another_recipe_is_refused_with_the_key_that_differs(tmp_path: Path, small: Any) -> None:
    begin(tmp_path, small.recipe())
    with pytest.raises(
        RunError, match=r"began with train\.seed = 0, this recipe has 5; give what it began with"
    ):
        start(tmp_path, small.recipe(train={"seed": 5}))
    with pytest.raises(RunError, match=r"began with stage\.1\.lr = 0\.01, this recipe has 0\.1 and 1 more"):
        start(tmp_path, small.recipe({"size": 64, "epochs": 1, "lr": 0.1}))


def test_another_catalogue_is_refused(tmp_path: Path, small: Any) -> None:
    begin(tmp_path, small.recipe())
    with pytest.raises(RunError, match=r"began on another catalogue .*name another folder"):
        start(tmp_path, small.recipe(), "b" * 64)


def test_a_run_that_failed_before_its_first_checkpoint_starts_over_as_anything_else(
    tmp_path: Path, small: Any
) -> None:
    start(tmp_path, small.recipe())
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000001-00000.safetensors").write_bytes(b"killed while writing")
    start(tmp_path, small.recipe(train={"seed": 5}), "b" * 64)
    about = json.loads((tmp_path / "run.json").read_text())
    assert (about["catalogue"], about["recipe"]["train"]["seed"]) == ("b" * 64, 5)
    assert json.loads((tmp_path / "recipe.json").read_text())["train"]["seed"] == 5


def test_a_run_json_of_another_program_is_left_alone(tmp_path: Path, small: Any) -> None:
    (tmp_path / "run.json").write_text('{"speed": 3}')
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        start(tmp_path, small.recipe())
    assert (tmp_path / "run.json").read_text() == '{"speed": 3}'


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path, small: Any) -> None:
    (tmp_path / "thesis.docx").write_text("three years of work")
    with pytest.raises(RunError, match=r"holds thesis\.docx and is no run"):
        start(tmp_path, small.recipe())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


@pytest.mark.parametrize(
    ("out", "fault"),
    [("film.png", "is a file"), ("film.png/run", r"film\.png: is a file"), ("/proc/run", "cannot be made")],
)
def test_a_place_that_cannot_be_a_folder_is_said(tmp_path: Path, small: Any, out: str, fault: str) -> None:
    (tmp_path / "film.png").write_text("")
    with pytest.raises(OutputError, match=f"{fault}.*name (a|another) folder"):
        start(tmp_path / out, small.recipe())


def test_a_run_killed_before_it_began_can_begin(tmp_path: Path, small: Any) -> None:
    for name in ("lock", "recipe.json", "run.json.tmp"):
        (tmp_path / name).write_text("")
    start(tmp_path, small.recipe())


def test_a_damaged_run_json_is_said(tmp_path: Path, small: Any) -> None:
    begin(tmp_path, small.recipe())
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        start(tmp_path, small.recipe())


def test_two_trainings_never_share_a_folder(tmp_path: Path, small: Any) -> None:
    lock = str(tmp_path / "lock")
    hold = f"import fcntl; f = open({lock!r}, 'w'); fcntl.flock(f, 2); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(RunError, match="another process trains here"):
            start(tmp_path, small.recipe())
        other.communicate(b"\n")
    start(tmp_path, small.recipe())
