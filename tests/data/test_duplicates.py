"""Near copies: what is the same exposure, what is not, and the groups that follow."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from carina.data import candidates
from carina.data.closer import look_closer
from carina.data.descriptors import CLOSE, SIDE, describe_closely
from carina.data.duplicates import NearCopy, describe, group_ids, near_copies
from carina.data.registration import SAME, SAME_CLOSELY, agreement, gaussian
from carina.images.phantom import phantom
from carina.images.read import read
from carina.images.resize import resize
from carina.records import Progress
from carina.taxonomy import SIX_CLASSES

Picture = NDArray[np.uint8]
FILMS = 56  # more than are compared each with each


@cache
def film(seed: int, patient: int | None = None) -> Picture:
    pixels = phantom(SIX_CLASSES[seed % 6], seed=seed, patient=patient, size=256).pixels
    return np.asarray(pixels, np.uint8)


@pytest.fixture(scope="module")
def films() -> list[Picture]:
    """Films of as many patients."""
    return [film(seed) for seed in range(FILMS)]


@pytest.fixture(scope="module")
def described(films: list[Picture]) -> list[Picture]:
    return [describe(pixels) for pixels in films]


def jpeg(pixels: Picture, quality: int = 40) -> Picture:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(pixels: Picture, scale_x: float, scale_y: float) -> Picture:
    height, width = pixels.shape
    return resize(pixels, round(width * scale_x), round(height * scale_y))


def cropped(pixels: Picture, left: float, right: float, top: float, bottom: float) -> Picture:
    height, width = pixels.shape
    rows = slice(round(top * height), round((1 - bottom) * height))
    return pixels[rows, round(left * width) : round((1 - right) * width)]


def toned(pixels: Picture, gamma: float, contrast: float, brightness: float) -> Picture:
    tone = ((pixels / 255) ** gamma - 0.5) * contrast + 0.5
    return np.asarray(np.clip(tone * brightness, 0, 1) * 255, np.uint8)


def annotated(pixels: Picture) -> Picture:
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    width, height = image.size
    draw.line([0.3 * width, 0.3 * height, 0.42 * width, 0.45 * height], fill=255, width=4)
    draw.line([0.42 * width, 0.45 * height, 0.36 * width, 0.44 * height], fill=255, width=4)
    draw.text((0.7 * width, 0.85 * height), "Day 3", fill=255, font_size=24)
    return np.asarray(image)


def framed(pixels: Picture) -> Picture:
    return np.pad(pixels, ((20, 30), (40, 10)), constant_values=255)


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "compressed at 40": jpeg,
    "resized to a fifth": lambda film: resized(film, 0.2, 0.2),
    "resized to a half": lambda film: resized(film, 0.5, 0.5),
    "stretched to a square": lambda film: resize(film, 224, 224),
    "wider by a third": lambda film: resized(film, 1.33, 1.0),
    "cropped by 8 % all round": lambda film: cropped(film, 0.08, 0.08, 0.08, 0.08),
    "cropped on two sides": lambda film: cropped(film, 0.08, 0.0, 0.0, 0.08),
    "cropped by 10 % on two sides": lambda film: cropped(film, 0.0, 0.1, 0.1, 0.0),
    "darkened": lambda film: toned(film, 1.2, 0.8, 0.8),
    "brightened": lambda film: toned(film, 0.8, 1.2, 1.2),
    "with an arrow and letters": annotated,
    "with a white frame": framed,
    "in sixteen bits": lambda film: film.astype(np.uint16) * 257,  # type: ignore[return-value]
    "all at once": lambda film: jpeg(
        resized(toned(cropped(film, 0.05, 0.03, 0, 0.06), 1.1, 1.1, 0.9), 0.6, 0.8)
    ),
}


@pytest.fixture(scope="module")
def found(films: list[Picture], described: list[Picture]) -> list[NearCopy]:
    """What is found when each film has one copy, changed in one of the ways, in turn."""
    changes = list(CHANGES.values())
    return near_copies(
        described + [describe(changes[i % len(changes)](film)) for i, film in enumerate(films)]
    )


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_other_films(found: list[NearCopy], change: str) -> None:
    changed = range(list(CHANGES).index(change), FILMS, len(CHANGES))
    pairs = [pair for pair in found if pair.first in changed]
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [
        (i, FILMS + i, "copy") for i in changed
    ]
    assert all(SAME <= pair.score <= 1 for pair in pairs)


@pytest.fixture
def doubtful(films: list[Picture], monkeypatch: pytest.MonkeyPatch) -> list[Picture]:
    """Eight films and a poor copy of each; none of them so good that no second look is taken."""
    monkeypatch.setattr("carina.data.duplicates.SURE", 0.99)

    def spoilt(film: Picture) -> Picture:
        drawn_upon = annotated(toned(cropped(film, 0.08, 0.06, 0.07, 0.08), 1.2, 1.2, 0.85))
        return jpeg(resized(drawn_upon, 0.45, 0.5))

    return films[:8] + [spoilt(film) for film in films[:8]]


def test_a_second_look_confirms_copies(doubtful: list[Picture]) -> None:
    asked: set[int] = set()

    def closer(positions: Sequence[int]) -> dict[int, Picture]:
        asked.update(positions)
        larger = {position: describe_closely(doubtful[position]) for position in positions}
        return {position: picture for position, picture in larger.items() if picture is not None}

    pairs = near_copies([describe(each) for each in doubtful], closer=closer)
    assert [(pair.first, pair.second) for pair in pairs] == [(i, 8 + i) for i in range(8)]
    assert asked == set(range(16))
    assert all(SAME_CLOSELY <= pair.score <= 1 for pair in pairs)


def test_a_second_look_refuses_what_only_seemed_a_copy(doubtful: list[Picture]) -> None:
    def closer(positions: Sequence[int]) -> dict[int, Picture]:  # everybody shows another film
        larger = {position: describe_closely(film(200 + position)) for position in positions}
        return {position: picture for position, picture in larger.items() if picture is not None}

    assert near_copies([describe(each) for each in doubtful], closer=closer) == []


def test_films_that_cannot_be_looked_at_again_keep_the_first_answer(doubtful: list[Picture]) -> None:
    described = [describe(each) for each in doubtful]
    assert near_copies(described, closer=lambda _: {}) == near_copies(described)


def test_larger_pictures_come_from_the_files(films: list[Picture], tmp_path: Path) -> None:
    Image.fromarray(films[0]).save(tmp_path / "film.png")
    Image.fromarray(resize(films[0], 80, 80)).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"no film")
    paths = [tmp_path / name for name in ("film.png", "small.png", "broken.png", "gone.png")]
    for workers in (0, 1):
        pictures = look_closer(paths, workers=workers)
        assert list(pictures) == [0]  # the others are too small, broken, gone
        assert (pictures[0] == describe_closely(films[0])).all()
        assert pictures[0].shape == (CLOSE, CLOSE)
    assert look_closer([], workers=1) == {}


def test_a_mirrored_copy_is_found_and_reported_as_such(
    films: list[Picture], described: list[Picture]
) -> None:
    pairs = near_copies([*described, describe(jpeg(films[5][:, ::-1]))])
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [(5, FILMS, "flipped")]


def test_films_of_one_patient_are_not_copies() -> None:
    films = [describe(film(100 + exposure, patient)) for patient in range(6) for exposure in range(3)]
    assert near_copies(films) == []


@pytest.mark.parametrize("count", [2, 10])
def test_no_two_different_films_are_copies(described: list[Picture], count: int) -> None:
    assert near_copies(described[:count]) == []


def test_no_copy_is_found_twice_or_in_another_film(found: list[NearCopy]) -> None:
    assert [(pair.first, pair.second) for pair in found] == [(i, FILMS + i) for i in range(FILMS)]


def test_few_films_are_compared_each_with_each(described: list[Picture], films: list[Picture]) -> None:
    pairs = near_copies([described[0], described[1], describe(annotated(films[0]))])
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 2)]


def test_many_copies_of_one_film_are_one_group(films: list[Picture], described: list[Picture]) -> None:
    copies = [describe(jpeg(films[0], quality)) for quality in range(20, 95, 2)]
    everything = described + copies
    groups = group_ids(len(everything), near_copies(everything))
    assert set(groups[FILMS:]) == {0}
    assert list(groups[:FILMS]) == list(range(FILMS))


def test_empty_films_are_nobodys_copy(described: list[Picture]) -> None:
    empty = [describe(np.full((90, 70), gray, np.uint8)) for gray in (0, 0, 128, 255)]
    assert not np.any(empty)
    assert near_copies(empty + described[:3] + empty) == []


@pytest.mark.parametrize("count", [0, 1])
def test_one_film_or_none_has_no_copies(described: list[Picture], count: int) -> None:
    assert near_copies(described[:count]) == []
    assert list(group_ids(count, [])) == list(range(count))


def test_the_answer_does_not_depend_on_threads_or_chance(
    films: list[Picture], described: list[Picture]
) -> None:
    everything = described + [describe(cropped(pixels, 0.05, 0.02, 0, 0.07)) for pixels in films[:10]]
    one = near_copies(everything, workers=1)
    assert len(one) == 10
    assert near_copies(np.stack(everything), workers=3) == one


def test_progress_reaches_its_end_in_both_stages(described: list[Picture]) -> None:
    told: list[Progress] = []
    near_copies(described, progress=told.append)
    assert list(dict.fromkeys(step.stage for step in told)) == ["candidates", "copies"]
    for stage in ("candidates", "copies"):
        steps = [step for step in told if step.stage == stage]
        assert [step.done for step in steps] == sorted(step.done for step in steps)
        assert steps[-1].done == steps[-1].total


def test_a_descriptor_is_small(films: list[Picture]) -> None:
    descriptor = describe(films[0])
    assert descriptor.shape == (SIDE, SIDE)
    assert descriptor.dtype == np.uint8
    assert descriptor.nbytes < 5000


def test_a_frame_with_a_letter_in_it_is_cut_off(films: list[Picture]) -> None:
    wide = framed(films[0])
    wide[5:12, 60:66] = 0
    assert np.abs(describe(wide).astype(int) - describe(films[0])).mean() < 4


def test_groups_join_through_common_members() -> None:
    pairs = [NearCopy(3, 4, 1.0, "copy"), NearCopy(1, 3, 1.0, "flipped"), NearCopy(0, 5, 1.0, "copy")]
    assert list(group_ids(6, pairs)) == [0, 1, 2, 1, 1, 0]


def test_agreement_of_pictures_without_common_content_is_low(described: list[Picture]) -> None:
    left, right = np.zeros((2, SIDE, SIDE), np.uint8)
    left[:, : SIDE // 2] = described[0][:, : SIDE // 2]
    right[:, SIDE // 2 :] = described[0][:, SIDE // 2 :]
    assert agreement(np.stack([left, left]), np.stack([right, described[1]])).max() < SAME


@pytest.mark.parametrize(("side", "sigma"), [(16, 0.8), (32, 0.7), (64, 0.5), (64, 3.0), (128, 0.5)])
def test_a_blur_has_no_weights_that_are_denormal(side: int, sigma: float) -> None:
    """They change nothing, and made the search for copies three times slower on an Intel processor."""
    weights = gaussian(side, sigma)
    assert weights[weights > 0].min() > np.finfo(np.float32).tiny
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    pooling = candidates._POOLING
    assert pooling[pooling > 0].min() > np.finfo(np.float32).tiny


def test_vectors_of_mirrored_films_come_without_computing_them_again(described: list[Picture]) -> None:
    pictures = np.stack(described)
    projection = candidates.learned(pictures)
    with ThreadPoolExecutor(1) as pool:
        own, mirrored = candidates.vectors(pictures, projection, pool)
        again, _ = candidates.vectors(np.ascontiguousarray(pictures[:, :, ::-1]), projection, pool)
    np.testing.assert_allclose(mirrored, again, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, atol=1e-5)


@pytest.mark.real
def test_originals_are_grouped_with_their_reduced_copies(real_data: Path) -> None:
    originals = sorted((real_data / "chest_xray_originals").rglob("*.jpeg"))
    reduced = {path.name: path for path in (real_data / "chest_xray").rglob("*.jpeg")}
    others = [path for name, path in sorted(reduced.items())][::10]
    paths = list(dict.fromkeys([*originals, *(reduced[path.name] for path in originals), *others]))
    groups = group_ids(len(paths), near_copies([describe(read(path).pixels) for path in paths]))
    place = {path: i for i, path in enumerate(paths)}
    together = [groups[place[path]] == groups[place[reduced[path.name]]] for path in originals]
    assert sum(together) >= 99
