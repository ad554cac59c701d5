from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carina.errors import BundleError
from carina.images.phantom import HOSPITALS, phantom, scenes
from carina.images.phantom import foreign as foreigners
from carina.images.prepare import Preparation, prepare
from carina.records import FilmFacts, Prediction, Refusal
from carina.scoring import frontal, receipts
from carina.scoring.abstain import REASONS, Gate, checked, sane
from carina.scoring.bundle import Bundle, write_bundle
from carina.scoring.distance import carried
from carina.scoring.intended import IntendedUse
from carina.taxonomy import SIX_CLASSES
from tests.bundles import FEATURES, tiny_bundle

FACTS = FilmFacts("film", "dicom", "0" * 64, 2000, 2400, 12, "MONOCHROME2")
SQUARE = Preparation(size=96, fit="letterbox")


def chest(seed: int) -> NDArray[np.uint8]:
    """A phantom as its file would be read, (H, W) uint8."""
    made = phantom(
        SIX_CLASSES[seed % 6], seed=50_000 + seed, look=list(HOSPITALS.values())[seed // 6 % 4], size=224
    )
    return (made.pixels.astype(np.uint32) * 255 // ((1 << made.look.bits) - 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def chests() -> list[NDArray[np.uint8]]:
    return [chest(seed) for seed in range(48)]


def refused(films: list[NDArray[np.uint8]]) -> float:
    return float(np.mean([sane(np.asarray(prepare(film, SQUARE))) is not None for film in films]))


@pytest.mark.parametrize("sides", [(224, 224), (200, 170), (64, 500), (33, 32), (20, 9)])
def test_the_check_reduces_as_pillow_does(sides: tuple[int, int]) -> None:
    film = np.random.default_rng(1).integers(0, 256, sides, dtype=np.uint8)
    rows, columns = (frontal._hamming(side) for side in sides)
    theirs = Image.fromarray(film).convert("F").resize((32, 32), Image.Resampling.HAMMING)
    assert np.abs(rows @ (film.astype(np.float32) @ columns.T) - np.asarray(theirs)).max() < 1e-3


def test_at_most_one_phantom_chest_in_fifty_is_refused_whatever_the_hospital(
    chests: list[NDArray[np.uint8]],
) -> None:
    assert refused(chests) <= 0.021


@pytest.mark.parametrize("kind", sorted(foreigners.KINDS))
def test_radiographs_of_other_parts_are_refused(kind: str) -> None:
    assert refused([foreigners.foreign(kind, seed=70_000 + i, size=160) for i in range(10)]) >= 0.9


@pytest.mark.parametrize("kind", sorted(scenes.KINDS))
def test_what_is_no_radiograph_is_refused(kind: str) -> None:
    assert refused([scenes.scene(kind, seed=70_000 + i, size=160) for i in range(10)]) >= 0.9


@pytest.mark.parametrize(
    ("how", "least"),
    [("inverted", 0.95), ("turned left", 0.95), ("turned right", 0.95), ("upside down", 0.9),
     ("lower half lost", 0.9), ("upper half lost", 0.9), ("left half lost", 0.9), ("right half lost", 0.9)],
)  # fmt: skip
def test_true_films_gone_wrong_are_refused(chests: list[NDArray[np.uint8]], how: str, least: float) -> None:
    assert refused([np.asarray(scenes.spoilt(film, how)) for film in chests[::2]]) >= least


@pytest.mark.parametrize(
    ("how", "code"),
    [("inverted", "inverted"), ("turned left", "turned"), ("upside down", "upside_down")],
)
def test_the_reason_names_what_is_wrong(chests: list[NDArray[np.uint8]], how: str, code: str) -> None:
    codes = [sane(np.asarray(prepare(scenes.spoilt(film, how), SQUARE))) for film in chests[:24]]
    assert codes.count(code) >= 18


@pytest.mark.parametrize(
    ("spoil", "least"),
    [
        (lambda film: 255 * (film / 255) ** 5, 0.5),
        (lambda film: np.clip((film - 170) * 3, 0, 255), 0.95),
        (lambda film: np.clip(film * 4, 0, 255), 0.95),
    ],
    ids=["far too dark", "shadows lost", "lights lost"],
)
def test_films_exposed_so_that_detail_is_lost_are_refused(
    chests: list[NDArray[np.uint8]], spoil: Callable[[NDArray[np.float64]], NDArray[np.float64]], least: float
) -> None:
    assert refused([spoil(film.astype(float)).astype(np.uint8) for film in chests[::2]]) >= least


@pytest.mark.parametrize("edge", ["left", "right", "top", "bottom"])
def test_films_with_a_third_blacked_out_are_refused(chests: list[NDArray[np.uint8]], edge: str) -> None:
    spoilt = []
    for film in chests[::2]:
        height, width = (side // 3 for side in film.shape)
        places = {"left": np.s_[:, :width], "right": np.s_[:, -width:]}
        places |= {"top": np.s_[:height], "bottom": np.s_[-height:]}
        black = film.copy()
        black[places[edge]] = 0
        spoilt.append(black)
    assert refused(spoilt) >= 0.9


@pytest.mark.parametrize("share", [0.15, 0.2, 0.3, 0.5])
@pytest.mark.parametrize("edge", ["left", "right", "top", "bottom"])
@pytest.mark.parametrize("filling", ["the last good line", "one gray"])
def test_films_whose_lost_part_is_a_line_repeated_or_one_gray_are_refused(
    chests: list[NDArray[np.uint8]], share: float, edge: str, filling: str
) -> None:
    codes = []
    for film in chests[::4]:
        lines = film if edge in ("top", "bottom") else film.T
        lines = (lines if edge in ("bottom", "right") else lines[::-1]).copy()
        kept = round(len(lines) * (1 - share))
        lines[kept:] = lines[kept - 1] if filling == "the last good line" else 128
        lines = lines if edge in ("bottom", "right") else lines[::-1]
        codes.append(sane(prepare(lines if edge in ("top", "bottom") else lines.T, SQUARE)))
    assert None not in codes


def test_a_thumbnail_is_too_small_for_what_the_model_looks_at(chests: list[NDArray[np.uint8]]) -> None:
    prepared, features = prepare(chests[0], SQUARE), np.zeros(4, np.float32)
    for side, refused_ in ((24, True), (63, True), (64, False), (300, False)):
        found = Gate().why(prepared, features, replace(FACTS, width=side, height=side))
        assert (found is not None and found[0] == "too_small") is refused_
    small = prepare(chests[0], replace(SQUARE, size=32))
    found = Gate().why(small, features, replace(FACTS, width=40, height=40))
    assert found is None or found[0] != "too_small"


def test_a_blank_plate_is_blank() -> None:
    for level in (0, 7, 128, 255):
        assert sane(np.full((64, 64), level, np.uint8)) == "blank"


def test_every_code_has_a_reason_with_a_cure() -> None:
    assert all(";" in reason for reason in REASONS.values())


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({}, None),
        ({"modality": "DX", "body_part": "CHEST", "view": "PA", "age": 40.0}, None),
        ({"modality": "cr", "body_part": "Chest", "view": "ap"}, None),
        ({"body_part": "PORT CHEST"}, None),
        ({"modality": "CT"}, "modality"),
        ({"modality": "MG"}, "modality"),
        ({"body_part": "HAND"}, "body_part"),
        ({"body_part": "RIBCAGE"}, "body_part"),
        ({"view": "LL"}, "view"),
        ({"view": "LATERAL"}, "view"),
        ({"view": "RAO"}, "view"),
        ({"age": 4.0}, "age"),
        ({"age": 15.0}, None),
        ({"age": 101.0}, "age"),
    ],
)
def test_headers_are_held_against_the_intended_use(facts: dict[str, object], code: str | None) -> None:
    found = IntendedUse(ages=(15, 100)).why_not(replace(FACTS, **facts))  # type: ignore[arg-type]
    assert (found and found[0]) == code


def test_a_bundle_that_states_no_ages_refuses_nobody_for_theirs() -> None:
    assert IntendedUse().why_not(replace(FACTS, age=2.0)) is None


def with_embeddings(folder: Path, *, seed: int = 0, breadth: float = 0.05) -> Bundle:
    """A tiny bundle whose training embeddings lie around one direction."""
    rng = np.random.default_rng(seed)
    cloud = (np.eye(FEATURES)[0] + rng.normal(0, breadth, (900, FEATURES))).astype(np.float32)
    data, section = carried(cloud[:600], cloud[600:])
    plain = Bundle.open(tiny_bundle(folder / "plain"))
    manifest = plain.manifest.model_copy(update={"sections": {"distance": section}})
    files: dict[str, bytes | Path] = {name: plain.root / name for name in plain.manifest.files}
    return write_bundle(folder / "far", manifest, {**files, "embeddings.npy": data})


def test_the_stated_share_of_true_films_lies_beyond_the_distance(tmp_path: Path) -> None:
    bundle = with_embeddings(tmp_path)
    rng = np.random.default_rng(1)
    new = (np.eye(FEATURES)[0] + rng.normal(0, 0.05, (2000, FEATURES))).astype(np.float32)
    for share in (0.02, 0.05, 0.2):
        gate = Gate.of(bundle, share + 0.01)
        assert gate.reference is not None
        beyond = float((gate.reference.distances(new) > gate.threshold).mean())
        assert beyond == pytest.approx(share, abs=0.6 * share)
    assert Gate.of(bundle).warnings == ()


def test_a_film_far_from_training_is_refused_although_it_looks_like_a_chest(
    tmp_path: Path, chests: list[NDArray[np.uint8]]
) -> None:
    gate = Gate.of(with_embeddings(tmp_path))
    film = np.asarray(prepare(chests[0], SQUARE))
    near, far = np.eye(FEATURES, dtype=np.float32)[0], np.eye(FEATURES, dtype=np.float32)[2]
    assert gate.why(film, near) is None
    for strange in (far, np.full(FEATURES, np.nan, np.float32)):
        found = gate.why(film, strange)
        assert found is not None
        assert found[0] == "unlike_training"


def test_few_held_out_films_cannot_show_a_small_share(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data, section = carried(
        rng.normal(size=(50, FEATURES)).astype(np.float32), rng.normal(size=(20, FEATURES)).astype(np.float32)
    )
    plain = Bundle.open(tiny_bundle(tmp_path / "plain"))
    manifest = plain.manifest.model_copy(update={"sections": {"distance": section}})
    files: dict[str, bytes | Path] = {name: plain.root / name for name in plain.manifest.files}
    bundle = write_bundle(tmp_path / "few", manifest, {**files, "embeddings.npy": data})
    assert Gate.of(bundle, 0.10).threshold < float("inf")  # type: ignore[operator]
    (spent,) = Gate.of(bundle, 0.005).warnings
    assert "all of the 0.5% that were allowed: no film is refused by its distance" in spent
    assert Gate.of(bundle).threshold == float("inf")
    assert any("20 held-out films" in each for each in Gate.of(bundle).warnings)


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"no array", "is no array"), (None, "the model gives 5 features")],
)
def test_embeddings_that_do_not_fit_the_model_are_a_fault_of_the_bundle(
    tmp_path: Path, data: bytes | None, says: str
) -> None:
    cloud = np.ones((30, FEATURES + 1), np.float32)
    made, section = carried(cloud, cloud)
    plain = Bundle.open(tiny_bundle(tmp_path / "plain"))
    manifest = plain.manifest.model_copy(update={"sections": {"distance": section}})
    files: dict[str, bytes | Path] = {name: plain.root / name for name in plain.manifest.files}
    bundle = write_bundle(tmp_path / "bad", manifest, {**files, "embeddings.npy": data or made})
    with pytest.raises(BundleError, match=says):
        Gate.of(bundle)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"intended_use": {"ages": [9, 3]}}, "no range of years"),
        ({"intended_use": {"ages": [1]}}, "intended_use: "),
        ({"intended_use": {"modalities": "DX"}}, "no list of words"),
        ({"intended_use": {"frontal_only": 1}}, "neither true nor false"),
        ({"intended_use": {"species": "cat"}}, "species"),
        ({"distance": {"nearest": 0, "held_out": []}}, "make no sense"),
        ({"distance": {"nearest": 5}}, "keys"),
        ({"distance": {"nearest": 5, "held_out": ["far"]}}, "far"),
    ],
)
def test_a_section_that_makes_no_sense_is_a_fault_of_the_bundle(
    tmp_path: Path, section: dict[str, dict[str, object]], says: str
) -> None:
    plain = Bundle.open(tiny_bundle(tmp_path / "plain"))
    manifest = plain.manifest.model_copy(update={"sections": section})
    files: dict[str, bytes | Path] = {name: plain.root / name for name in plain.manifest.files}
    made, _ = carried(np.ones((30, FEATURES), np.float32), np.ones((30, FEATURES), np.float32))
    bundle = write_bundle(tmp_path / "bad", manifest, {**files, "embeddings.npy": made})
    with pytest.raises(BundleError, match=says):
        Gate.of(bundle)


def test_the_gate_of_a_known_bundle_is_that_of_one_just_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARINA_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(receipts, "_SETTLED", 0)
    rng = np.random.default_rng(0)
    data, section = carried(*(rng.normal(size=(200, FEATURES)).astype(np.float32) for _ in range(2)))
    plain = Bundle.open(tiny_bundle(tmp_path / "plain"))
    sections = {"distance": section, "intended_use": {"ages": [15, 99]}}
    manifest = plain.manifest.model_copy(update={"sections": sections})
    files: dict[str, bytes | Path] = {name: plain.root / name for name in plain.manifest.files}
    opened = write_bundle(tmp_path / "m", manifest, {**files, "embeddings.npy": data})
    known = Bundle.known(tmp_path / "m")
    assert known is not None
    one, other = Gate.of(opened), Gate.of(known)
    assert (one.intended, one.threshold, one.warnings) == (other.intended, other.threshold, other.warnings)
    assert one.reference is not None
    assert other.reference is not None
    np.testing.assert_array_equal(one.reference.films, other.reference.films)
    assert "manifest" not in known.__dict__


def test_a_refused_film_keeps_its_place_in_the_row(chests: list[NDArray[np.uint8]]) -> None:
    def prediction(name: str, film: NDArray[np.uint8]) -> Prediction:
        prepared = np.asarray(prepare(film, SQUARE))
        zeros = np.zeros(2, np.float32)
        return Prediction(
            name, "0" * 64, ("TB", "Normal"), frozenset({"Normal"}), zeros, zeros + 0.5, zeros,
            np.zeros((2, 2, 2), np.float32), prepared, FACTS,
        )  # fmt: skip

    broken = Refusal("b", "truncated", "truncated: it ends early; fetch it again")
    given = [prediction("a", chests[1]), broken, prediction("c", scenes.scene("noise", seed=1))]
    answers = list(checked(given, Gate()))
    assert [each.path for each in answers] == ["a", "b", "c"]
    assert answers[:2] == given[:2]
    assert isinstance(answers[2], Refusal)
    assert answers[2].code == "not_a_chest_film"
