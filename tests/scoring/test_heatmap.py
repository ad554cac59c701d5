from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carina.errors import OutputError
from carina.records import Prediction, Refusal
from carina.scoring.heatmap import file_name, heat_map, overlay, png, save
from carina.scoring.run import score_films
from carina.scoring.scorer import Scorer

FILM = np.full((64, 64), 120, np.uint8)


def saturation(picture: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """How far the film's part of the picture is from gray, (448, 448)."""
    rgb = np.asarray(picture, dtype=np.float64)[44 : 44 + 448, 12 : 12 + 448]
    return rgb.max(axis=2) - rgb.min(axis=2)


def test_the_heat_lies_where_the_map_is_high_and_nowhere_else() -> None:
    cam = np.full((8, 8), -1.0, np.float32)
    cam[6, 1] = 4.0
    colour = saturation(overlay(FILM, cam, "TB"))
    y, x = np.unravel_index(int(colour.argmax()), colour.shape)
    assert (y // 56, x // 56) == (6, 1)
    assert colour[:200].max() == 0, "what speaks against the class is not drawn"


def test_a_map_without_any_evidence_leaves_the_film_as_it_is() -> None:
    assert saturation(overlay(FILM, np.full((7, 7), -2, np.float32), "TB")).max() == 0


def test_the_scale_of_the_bar_is_the_films_own() -> None:
    low, high = (np.asarray(overlay(FILM, np.full((7, 7), top, np.float32), "TB")) for top in (1.0, 250.0))
    assert (low[:, 480:] != high[:, 480:]).any()
    assert (low[44:492, 12:460] == high[44:492, 12:460]).all()


def test_stronger_evidence_looks_brighter_step_by_step() -> None:
    from carina.scoring.heatmap import _colours

    linear = (_colours() / 255) ** 2.2
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    lightness = 116 * np.cbrt(luminance) - 16  # CIE L*
    steps = np.diff(lightness[::16])
    assert steps.min() > 0
    assert steps.max() < 2.5 * steps.min()


def test_an_overlay_is_a_png_large_enough_to_read(scorer: Scorer, films: Path) -> None:
    (answer,) = scorer.score(films / "film_00.png")
    assert isinstance(answer, Prediction)
    content = png(heat_map(answer))
    picture = Image.open(io.BytesIO(content))
    assert (picture.format, picture.mode) == ("PNG", "RGB")
    assert min(picture.size) >= 448
    assert content != png(heat_map(answer, "Normal" if answer.top_class != "Normal" else "COVID-19"))


def test_heat_maps_are_saved_one_for_each_film(scorer: Scorer, films: Path, tmp_path: Path) -> None:
    answers = [answer for answer in scorer.score(films) if isinstance(answer, Prediction)]
    saved = {save(answer, tmp_path / "heat" / "maps") for answer in answers}
    assert saved == set((tmp_path / "heat" / "maps").iterdir())
    assert len(saved) == 20


def test_a_heat_map_is_refused_as_a_film_wherever_it_lies(
    scorer: Scorer, films: Path, tmp_path: Path
) -> None:
    (answer,) = scorer.score(films / "film_00.png")
    assert isinstance(answer, Prediction)
    (refusal,) = scorer.score(save(answer, tmp_path))
    assert isinstance(refusal, Refusal)
    assert refusal.reason.startswith("not_a_film: Carina drew this picture over a film; score the film")


def test_scoring_a_folder_again_with_its_heat_maps_in_it_changes_nothing(
    bundle: Path, films: Path, tmp_path: Path
) -> None:
    shutil.copytree(films, tmp_path / "films")
    for _ in range(2):
        maps, out = tmp_path / "films" / "maps", tmp_path / "films" / "scores.parquet"
        summary = score_films([tmp_path / "films"], bundle, out=out, heatmaps=maps, check=False)
        assert (summary.scored, summary.refused) == (20, 0)
        assert len(list(maps.iterdir())) == 20


def test_a_folder_that_cannot_be_made_is_an_output_error(scorer: Scorer, films: Path, tmp_path: Path) -> None:
    (answer,) = scorer.score(films / "film_00.png")
    assert isinstance(answer, Prediction)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="name another folder"):
        save(answer, tmp_path / "file" / "maps")


def test_a_class_name_of_any_length_is_drawn(scorer: Scorer, films: Path) -> None:
    (answer,) = scorer.score(films / "film_00.png")
    assert isinstance(answer, Prediction)
    name = "Pneumonia of a kind that nobody has described before " * 4
    assert heat_map(replace(answer, classes=(name, "b", "c")), name).width == heat_map(answer).width


def test_an_unknown_class_is_an_error(scorer: Scorer, films: Path) -> None:
    (answer,) = scorer.score(films / "film_00.png")
    assert isinstance(answer, Prediction)
    with pytest.raises(ValueError):
        heat_map(answer, "Measles")


HOSTILE = [
    "../../etc/passwd", "a/../b.png", "/abs/film.dcm", "night.zip!/../../x.png", "..", "", "con\n\0.png",
    "🫁.png", "x" * 400, "C:\\films\\x.png", ".hidden",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
def test_the_name_of_a_heat_map_is_safe_whatever_the_film_is_called(path: str) -> None:
    name = file_name(path)
    assert name.isascii()
    assert len(name) < 100
    assert not name.startswith(".")
    assert set(name).isdisjoint("/\\\n\0: ")
    assert name.endswith(".png")


def test_different_films_have_different_heat_maps_and_the_same_film_the_same() -> None:
    paths = [*HOSTILE, "a/film.png", "b/film.png", "a/film.dcm"]
    assert len({file_name(path) for path in paths}) == len(paths)
    assert file_name("a/film.png") == file_name("a/film.png")
    assert file_name("a/IM 7.dcm").startswith("IM_7.")
