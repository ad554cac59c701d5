"""``carina score --engine``: what is said before any work, and what a catalogue stands for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from carina.cli.engines import named
from carina.data import catalogue
from carina.errors import ClusterError
from carina.scoring.plan import Plan
from tests.data.test_catalogue import FILMS, MANIFEST
from tests.stores import needs


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--engine", "ray"), "a cluster writes a folder: name one with --out"),
        (("--engine", "ray", "--out", "o", "--heatmaps", "h"), "a cluster draws none"),
        (("--cluster", "host:6379"), "is for --engine ray"),
        (("--engine", "spark"), "'spark' is none of local, ray"),
    ],
)
def test_options_that_do_not_fit_are_a_usage_error(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    line = [sys.executable, "-m", "carina", "score", "films", "--model", "m", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_a_catalogue_stands_for_its_films_and_all_else_for_itself(tmp_path: Path) -> None:
    made = catalogue.write(tmp_path / "c", FILMS, MANIFEST, {})
    films = made.films["path"].to_pylist()
    assert named(["s3://b/x", str(tmp_path / "c"), "ward.zip"]) == ["s3://b/x", *films, "ward.zip"]


@pytest.mark.parametrize(
    ("roots", "versions", "says"),
    [
        (("/nowhere/at/all",), {}, "does not see /nowhere/at/all; name a folder that all machines see"),
        ((), {"numpy": "0.1"}, "the driver 0.1; install the same on both"),
    ],
)
def test_an_actor_that_would_give_other_rows_says_so_instead(
    roots: tuple[str, ...], versions: dict[str, str], says: str
) -> None:
    needs("ray")
    from carina.scoring.cluster import Actor, Job

    actor = Actor(None, Job(Plan(1, 16, 0, "key", roots), True, None, versions))
    with pytest.raises(ClusterError, match=says):
        actor._check_fits()


def test_a_cluster_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    needs("ray")
    from tests.bundles import tiny_bundle

    bundle = tiny_bundle(tmp_path / "m")
    line = [sys.executable, "-m", "carina", "score", str(tmp_path), "--model", str(bundle)]
    line += ["--engine", "ray", "--cluster", "127.0.0.1:1", "--out", str(tmp_path / "out")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "carina: 127.0.0.1:1: cannot be reached" in done.stderr.splitlines()[-1]
