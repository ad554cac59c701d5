"""``make bench`` on a machine that has not got everything: it says what to set before it works."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

REAL = Path(__file__).parents[1] / "benchmarks" / "real.py"


def bench(*words: object, **settings: object) -> subprocess.CompletedProcess[str]:
    own = {
        key: value for key, value in os.environ.items() if key not in ("CARINA_REAL_DATA", "CARINA_BACKBONE")
    }
    environment = own | {key: str(value) for key, value in settings.items()}
    line = [sys.executable, str(REAL), *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)


def test_without_films_it_says_which_variable_to_set(tmp_path: Path) -> None:
    for done in (bench(), bench(CARINA_REAL_DATA=tmp_path)):
        assert done.returncode == 1
        assert "set CARINA_REAL_DATA to" in done.stderr
        assert "chest_xray, nih" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("there", "children"), [("nih", "is skipped: it needs chest_xray"), ("chest_xray", "runs")]
)
def test_what_runs_and_what_is_left_out_is_said_before_the_weights_are_missed(
    tmp_path: Path, there: str, children: str
) -> None:
    (tmp_path / there).mkdir()
    done = bench(
        "--out", tmp_path / "out", CARINA_REAL_DATA=tmp_path, CARINA_BACKBONE=f"local-dir:{tmp_path}/none"
    )
    assert done.returncode == 1
    assert f"children, pneumonia against normal: {children}" in done.stdout
    assert "left out: " in done.stdout
    assert "no config.json there" in done.stderr
    assert "set CARINA_BACKBONE=local-dir:PATH" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", sorted(REAL.parent.glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_asks_for_nothing_that_carina_no_longer_has(path: Path) -> None:
    wanted = [
        (node.module, name.name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("carina")
        for name in node.names
    ]
    for module, name in wanted:
        there = importlib.import_module(str(module))
        if not hasattr(there, name):
            importlib.import_module(f"{module}.{name}")
