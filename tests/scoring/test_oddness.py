"""How odd a film may look is set on validation films that went through the bundle's own preparation."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from carina.errors import BundleError
from carina.images.phantom import HOSPITALS, phantom
from carina.images.prepare import Preparation, prepare
from carina.records import Looks
from carina.scoring.abstain import SPENT_ON_LOOKS, Gate, how_odd, judged, sane
from carina.scoring.bundle import Bundle, write_bundle
from carina.scoring.frontal import LIKE, looks
from carina.scoring.oddness import SECTION, carried, is_cropped, look_limit, oddness
from carina.taxonomy import SIX_CLASSES
from tests.bundles import tiny_bundle

CUT = Preparation(size=64, trim=True, crop=0.07, tone="equalised")


def bundle_with(folder: Path, preparation: Preparation | None, section: dict[str, object] | None) -> Bundle:
    plain = Bundle.open(tiny_bundle(folder / "plain"))
    changed: dict[str, object] = {} if section is None else {"sections": {SECTION: section}}
    if preparation is not None:
        changed["preparation"] = preparation.to_dict()
    files: dict[str, bytes | Path] = {name: plain.root / name for name in plain.manifest.files}
    return write_bundle(folder / "made", plain.manifest.model_copy(update=changed), files)


def seen(frontal: float, *, strange: float = 900.0, mirrored: float = 0.5) -> Looks:
    """Looks of a film that is so likely a chest film, and else most like a part of one."""
    like = np.zeros(len(LIKE), dtype=np.float32)
    like[0], like[LIKE.index("part")] = frontal, 1 - frontal
    return Looks(like, strange, mirrored, 60.0, (0.02, 0.01, 7.5), 0.0, 0.0)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (seen(0.201), None),
        (seen(0.199), "part"),
        (seen(0.31, strange=6_900), None),
        (seen(0.29, strange=3_600), "not_a_chest_film"),
        (seen(0.29, strange=3_400), None),
        (seen(0.9, strange=7_100), "not_a_chest_film"),
        (seen(0.9, mirrored=0.879), None),
        (seen(0.9, mirrored=0.882), "mirrored"),
    ],
)
def test_a_limit_of_one_is_what_was_set_on_films_as_they_are(found: Looks, code: str | None) -> None:
    assert judged(found) == code
    assert (oddness(found).worst > 1) == (code is not None)


def test_a_higher_limit_forgives_what_is_a_little_odd_and_nothing_that_was_only_measured() -> None:
    assert judged(seen(0.05)) == "part"
    assert judged(seen(0.05), limit=2.0) is None  # 0.2 squared is 0.04
    assert judged(seen(0.03), limit=2.0) == "part"
    for fault in ({"lost": 0.4}, {"grays": (0.5, 0.0, 7.0)}, {"spread": 1.0}):
        assert judged(replace(seen(0.9), **fault), limit=math.inf) is not None  # type: ignore[arg-type]


def test_the_stated_share_of_true_films_looks_too_odd_however_odd_they_are_made(tmp_path: Path) -> None:
    """Prepared so that one true film in ten is odder than the plain limit, one in a hundred is refused."""
    rng = np.random.default_rng(3)
    worst = rng.lognormal(-0.64, 0.5, (2, 2_000))  # 10 % beyond 1
    assert 0.08 < (worst[1] > 1).mean() < 0.12
    gate = Gate.of(bundle_with(tmp_path, CUT, carried(worst[0][:600].tolist(), 0)))
    assert gate.oddest > 1
    assert 0.003 < (worst[1] > gate.oddest).mean() < 0.02


def test_the_limit_is_never_lowered(tmp_path: Path) -> None:
    gate = Gate.of(bundle_with(tmp_path, CUT, carried(np.linspace(0, 0.5, 600).tolist(), 0)))
    assert gate.oddest == 1.0


@pytest.mark.parametrize(
    ("worst", "beyond", "limit", "says"),
    [
        ([2.0] * 50, 0, 1.0, None),  # 50 films cannot show one in a hundred
        ([2.0] * 400, 2, 2.0, None),
        ([2.0] * 400, 30, 2.0, "30 of 430 validation films are blank"),
    ],
)
def test_what_no_limit_forgives_is_counted_and_said(
    tmp_path: Path, worst: list[float], beyond: int, limit: float, says: str | None
) -> None:
    found, said = look_limit(bundle_with(tmp_path, CUT, carried(worst, beyond)), SPENT_ON_LOOKS)
    assert found == limit
    assert (said is None) if says is None else (said is not None and says in said)


def test_a_bundle_of_before_says_so_where_its_preparation_matters(tmp_path: Path) -> None:
    assert look_limit(bundle_with(tmp_path / "a", None, None), 0.01) == (1.0, None)
    limit, said = look_limit(bundle_with(tmp_path / "b", CUT, None), 0.01)
    assert limit == 1.0
    assert said is not None
    assert "does not say how odd true films look" in said
    assert said in Gate.of(bundle_with(tmp_path / "c", CUT, None)).warnings


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"held_out": ["odd"], "beyond": 0}, "odd"),
        ({"held_out": []}, "keys"),
        ({"held_out": [], "beyond": -1}, "make no sense"),
        ({"held_out": [float("inf")], "beyond": 0}, "make no sense"),
    ],
)
def test_a_section_that_makes_no_sense_is_a_fault_of_the_bundle(
    tmp_path: Path, section: dict[str, object], says: str
) -> None:
    bundle = bundle_with(tmp_path, None, None)
    bundle.sections = {SECTION: section}
    with pytest.raises(BundleError, match=says):
        look_limit(bundle, 0.01)


def chest(seed: int) -> NDArray[np.uint8]:
    made = phantom(
        SIX_CLASSES[seed % 6], seed=70_000 + seed, look=list(HOSPITALS.values())[seed // 6 % 4], size=160
    )
    return (made.pixels.astype(np.uint32) * 255 // ((1 << made.look.bits) - 1)).astype(np.uint8)


def test_phantoms_cut_and_equalised_are_rarely_refused_and_wrong_ones_still_are(tmp_path: Path) -> None:
    films = [chest(seed) for seed in range(156)]
    squares = [np.asarray(prepare(film, CUT)) for film in films]
    gate = Gate.of(bundle_with(tmp_path, CUT, how_odd(squares[:120], CUT)))
    new = [sane(square, cropped=gate.cropped, limit=gate.oddest) for square in squares[120:]]
    assert sum(code is not None for code in new) <= 2  # of 36; one in a hundred is stated
    assert not gate.cropped
    assert not is_cropped(CUT)
    for wrong in ([255 - film for film in films[120:]], [np.rot90(film) for film in films[120:]]):
        codes = [sane(prepare(np.ascontiguousarray(film), CUT), limit=gate.oddest) for film in wrong]
        assert sum(code is not None for code in codes) >= 34


def test_what_is_carried_is_how_odd_each_film_looks() -> None:
    square = np.asarray(prepare(chest(0), CUT))
    blank = np.zeros((64, 64), np.uint8)
    section = how_odd([square, blank], CUT)
    assert section == {"held_out": [round(oddness(looks(square)).worst, 4)], "beyond": 1}
