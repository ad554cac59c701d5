"""A heat map in numbers: how much of it lies where no lung is."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from carina.cli import app
from carina.errors import OutputError
from carina.images.phantom import HOSPITALS, phantom
from carina.scoring import heat
from carina.scoring.heatmap import overlay, png
from carina.scoring.run import score_films
from carina.taxonomy import SIX_CLASSES


def test_heat_in_the_middle_is_inside_and_heat_in_a_corner_outside() -> None:
    middle, corner = np.zeros((8, 8), np.float32), np.full((8, 8), -3, np.float32)
    middle[3:5, 3:5] = 2
    corner[0, 7] = 0.1
    assert heat.outside(middle) == 0
    assert heat.outside(corner) == 1


def test_an_even_map_has_what_the_ellipse_leaves() -> None:
    for cells in (7, 8, 16):
        assert heat.outside(np.ones((cells, cells), np.float32)) == pytest.approx(
            1 - np.pi * 0.46**2, abs=2e-3
        )


def test_what_speaks_against_the_class_does_not_count() -> None:
    cam = np.full((8, 8), -5, np.float32)
    assert heat.outside(cam) == 0
    cam[4, 4] = 1
    assert heat.outside(cam) == 0


def test_the_ellipse_holds_nearly_all_lungs_of_phantoms() -> None:
    inside = total = 0
    for seed in range(24):
        look = list(HOSPITALS.values())[seed % len(HOSPITALS)]
        lungs = phantom(SIX_CLASSES[seed % 6], seed=80_000 + seed, look=look, size=224).lungs
        cells = (
            np.asarray(Image.fromarray(np.uint8(255 * lungs)).resize((64, 64), Image.Resampling.BOX)) / 255.0
        )
        inside += float((cells * (1 - heat._outside(64, 64))).sum())
        total += float(cells.sum())
    assert inside / total > 0.97


def test_a_map_too_coarse_to_tell_tells_nothing() -> None:
    assert heat.outside(np.eye(2, dtype=np.float32)) is None
    assert heat.outside(np.ones((2, 7), np.float32)) is None
    assert heat.outside(np.eye(3, dtype=np.float32)) is not None
    film = np.full((64, 64), 120, np.uint8)
    told, untold = (np.asarray(overlay(film, np.eye(cells, dtype=np.float32))) for cells in (3, 2))
    line = np.s_[44 + 450 : 44 + 448 + 22, :448]  # below the film, above the notice, beside the bar
    assert told[line].std() > 0
    assert untold[line].std() == 0


def test_a_run_that_ends_between_a_film_and_its_heat_map_goes_on_with_both(
    bundle: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, maps, drawn = tmp_path / "s.csv", tmp_path / "maps", 0

    def full(picture: object) -> bytes:
        nonlocal drawn
        drawn += 1
        if drawn == 8:
            raise OSError(28, "No space left on device")
        return png(picture)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("carina.scoring.heatmap.png", full)
        with pytest.raises(OutputError, match="make room"):
            score_films(films, bundle, out=out, heatmaps=maps, check=False)
    assert len(list(maps.iterdir())) == 7, "and no half one"
    done = score_films(films, bundle, out=out, heatmaps=maps, check=False, resume=True)
    assert done.scored == 20
    assert done.elsewhere == score_films(films, bundle, heatmaps=tmp_path / "more", check=False).elsewhere
    assert len(list(maps.glob("*.png"))) == len(list(maps.iterdir())) == 20


def test_the_picture_says_it_in_red_above_the_bound() -> None:
    film = np.full((64, 64), 120, np.uint8)
    middle, corner = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)
    middle[4, 4] = corner[0, 0] = 1
    calm, alarm = (np.asarray(overlay(film, cam))[44 + 448 :].astype(int) for cam in (middle, corner))
    assert (calm.max(2) - calm.min(2)).max() == 0
    assert (alarm[..., 0] - alarm[..., 1]).max() > 100


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_table_has_the_share_where_heat_maps_were_drawn(
    bundle: Path, films: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"s.{suffix}"
    summary = score_films(films, bundle, out=out, heatmaps=tmp_path / "maps", check=False)
    if suffix == "parquet":
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(out).to_pylist()
    else:
        lines = out.read_text().splitlines()
        rows = list(csv.DictReader(lines)) if suffix == "csv" else [json.loads(line) for line in lines]
    shares = [float(row["heat_outside"]) for row in rows]
    assert len(shares) == 20
    assert all(0 <= share <= 1 for share in shares)
    assert summary.elsewhere == sum(share > heat.BOUND for share in shares)
    assert list(rows[0])[-2:] == ["heat_outside", "refused"]


def test_the_command_counts_films_that_need_a_second_look(bundle: Path, films: Path, tmp_path: Path) -> None:
    line = ["score", str(films), "--model", str(bundle), "--heatmaps", str(tmp_path / "maps"), "--no-check"]
    said = CliRunner().invoke(app, line)
    count = score_films(films, bundle, heatmaps=tmp_path / "more", check=False).elsewhere
    assert said.exit_code == 0
    assert (f"warning: {count} film" in said.stderr) == (count > 0)
