from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from carina.cli import app
from carina.images.phantom import phantom
from carina.images.phantom.scenes import scene
from carina.scoring.run import score_films


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chest phantoms, the second inverted, and a page of text."""
    folder = tmp_path_factory.mktemp("mixed")
    film = phantom("TB", seed=3, size=224).pixels
    Image.fromarray(film).save(folder / "a.png")
    Image.fromarray(np.asarray(255 - film, np.uint8)).save(folder / "b.png")
    Image.fromarray(scene("text", seed=1)).save(folder / "c.png")
    return folder


def test_what_the_model_was_not_made_for_has_no_score(bundle: Path, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    summary = score_films([mixed], bundle, out=out)
    assert (summary.scored, summary.refused) == (1, 2)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["refused"].split(":")[0] for row in rows] == ["", "inverted", "not_a_chest_film"]
    assert [row["p_disease"] for row in rows[1:]] == ["", ""]


def test_the_check_can_be_left_out(bundle: Path, mixed: Path) -> None:
    assert score_films([mixed], bundle, check=False).scored == 3


def test_sets_of_a_site_that_was_never_calibrated_are_refused_before_scoring(
    bundle: Path, mixed: Path
) -> None:
    done = CliRunner().invoke(app, ["score", str(mixed), "--model", str(bundle), "--sets"])
    assert done.exit_code == 1
    assert "no operating point for the site 'default'" in str(done.exception)
