"""Phantoms: the same from the same seed, truthful about their disease, and shaped like a chest."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from carina.images.phantom import FINDINGS, HOSPITALS, Look, Phantom, phantom
from carina.taxonomy import BACTERIAL, NORMAL, OTHER, SIX_CLASSES, TUBERCULOSIS, VIRAL

SIZE = 256
EVERY_FINDING = [(name, finding) for name in SIX_CLASSES for finding in FINDINGS[name]]
DISEASES = [(name, finding) for name, finding in EVERY_FINDING if finding != "none"]


def film(class_name: str, finding: str | None = None, **options: object) -> Phantom:
    settings: dict[str, object] = {"seed": 3, "patient": 11, "size": SIZE, "finding": finding}
    return phantom(class_name, **{**settings, **options})  # type: ignore[arg-type]


def digest(made: Phantom) -> str:
    return hashlib.sha256(made.pixels.tobytes() + made.lesion.tobytes() + made.lungs.tobytes()).hexdigest()


def added(class_name: str, finding: str, severity: float) -> tuple[NDArray[np.float64], Phantom]:
    """What the disease changes in the film: the difference to the same film of the healthy patient."""
    ill, well = film(class_name, finding, severity=severity), film(NORMAL)
    return ill.pixels.astype(np.float64) - well.pixels, ill


@pytest.mark.parametrize(("class_name", "finding"), EVERY_FINDING)
def test_the_same_arguments_give_the_same_bits(class_name: str, finding: str) -> None:
    assert digest(film(class_name, finding)) == digest(film(class_name, finding))


def test_two_processes_agree_to_the_bit() -> None:
    code = (
        "import hashlib; from carina.images.phantom import phantom\n"
        "p = phantom('TB', seed=5, size=128)\n"
        "print(hashlib.sha256(p.pixels.tobytes()).hexdigest(), round(p.severity, 12))"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in "ab"
    }
    assert len(runs) == 1


def test_another_seed_gives_another_film() -> None:
    assert digest(film(NORMAL, seed=1)) != digest(film(NORMAL, seed=2))


@pytest.mark.parametrize(("class_name", "finding"), DISEASES)
@pytest.mark.parametrize("patient", [1, 2, 3])
def test_a_disease_has_a_mask_inside_the_lung_fields(class_name: str, finding: str, patient: int) -> None:
    made = film(class_name, finding, patient=patient)
    assert made.lesion.sum() > 20
    assert not (made.lesion & ~made.lungs).any()
    assert 0.6 <= made.severity <= 1


def test_a_normal_film_has_no_lesion() -> None:
    made = film(NORMAL)
    assert not made.lesion.any()
    assert (made.severity, made.finding) == (0.0, "none")


@pytest.mark.parametrize(("class_name", "finding"), DISEASES)
def test_the_disease_changes_the_film_where_its_mask_says(class_name: str, finding: str) -> None:
    change, made = added(class_name, finding, 0.9)
    inside, outside = np.abs(change[made.lesion]).mean(), np.abs(change[~made.lesion]).mean()
    assert inside > 4 * outside
    if finding == "pneumothorax":
        assert change[made.lesion].mean() < -3  # air is darker than lung
    else:
        assert change[made.lesion].mean() > 5


@pytest.mark.parametrize(("class_name", "finding"), DISEASES)
def test_more_severe_is_easier_to_see(class_name: str, finding: str) -> None:
    burden = [np.abs(change).sum() for change, _ in (added(class_name, finding, s) for s in (0.2, 0.5, 1.0))]
    assert burden[0] < burden[1] < burden[2]


def test_films_of_one_patient_are_alike_but_not_the_same() -> None:
    def correlation(a: Phantom, b: Phantom) -> float:
        return float(np.corrcoef(a.lesion.ravel(), b.lesion.ravel())[0, 1])

    first, second = film(TUBERCULOSIS, seed=1), film(TUBERCULOSIS, seed=2)
    assert (first.age, first.sex, first.finding) == (second.age, second.sex, second.finding)
    assert abs(first.severity - second.severity) < 0.07
    assert not np.array_equal(first.pixels, second.pixels)
    strangers = [film(TUBERCULOSIS, seed=1, patient=number) for number in range(20, 30)]
    assert correlation(first, second) > np.median([correlation(first, other) for other in strangers])


def test_the_heart_lies_on_the_right_of_the_image_and_grows_with_cardiomegaly() -> None:
    made = film(OTHER, "cardiomegaly", severity=1.0)
    columns = np.flatnonzero(made.lesion.any(axis=0))
    middle = np.median(np.flatnonzero(made.lungs.any(axis=0)))
    assert columns.max() - middle > middle - columns.min()


def test_tuberculosis_sits_at_the_top_and_an_effusion_at_the_bottom() -> None:
    rows = np.flatnonzero(film(NORMAL).lungs.any(axis=1))
    middle = (rows[0] + rows[-1]) / 2
    for patient in range(6):
        tb, fluid = film(TUBERCULOSIS, patient=patient), film(OTHER, "effusion", patient=patient)
        assert np.flatnonzero(tb.lesion.any(axis=1)).mean() < middle
        assert np.nonzero(fluid.lesion)[0].mean() > middle


def test_viral_pneumonia_is_in_both_lungs_and_bacterial_in_one() -> None:
    def sides(made: Phantom) -> list[int]:
        middle = int(np.median(np.flatnonzero(made.lungs.any(axis=0))))
        return [int(made.lesion[:, :middle].sum()), int(made.lesion[:, middle:].sum())]

    assert min(sides(film(VIRAL))) > 0.5 * max(sides(film(VIRAL)))
    assert min(sides(film(BACTERIAL))) < 0.05 * max(sides(film(BACTERIAL)))


def test_lungs_are_darker_than_what_lies_between_them() -> None:
    made = film(NORMAL)
    columns = np.flatnonzero(made.lungs.any(axis=0))
    rows = np.flatnonzero(made.lungs.any(axis=1))
    middle = (columns[0] + columns[-1]) // 2
    spine = made.pixels[rows[0] : rows[-1], middle - 4 : middle + 4]
    assert spine.mean() > made.pixels[made.lungs].mean() + 60


@pytest.mark.parametrize("name", sorted(HOSPITALS))
def test_every_hospital_has_films_of_its_own_shape_and_depth(name: str) -> None:
    look = HOSPITALS[name]
    made = film(NORMAL, look=look)
    height, width = made.pixels.shape
    assert max(height, width) == SIZE
    assert width / height == pytest.approx(look.aspect * look.stretch, abs=0.01)
    assert made.pixels.dtype == (np.uint8 if look.bits == 8 else np.uint16)
    assert made.pixels.max() < 1 << look.bits
    assert made.lesion.shape == made.lungs.shape == made.pixels.shape


def test_a_look_changes_the_film_and_not_the_patient() -> None:
    plain, dark = film(VIRAL), film(VIRAL, look=Look(gamma=2.0))
    assert dark.pixels.mean() < plain.pixels.mean() - 15
    assert np.array_equal(dark.lesion, plain.lesion)


def test_border_and_letters_are_burnt_in() -> None:
    made = film(NORMAL, look=Look(border=0.05, border_shade=1.0, letters="L", letters_at="top right"))
    assert (made.pixels[:12] == 255).all()
    plain = film(NORMAL, look=Look(border=0.05, border_shade=1.0))
    changed = np.argwhere(made.pixels != plain.pixels)
    assert changed[:, 0].max() < SIZE / 3
    assert changed[:, 1].min() > SIZE * 2 / 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"severity": 0.0}, "severity is 0.0"),
        ({"severity": 1.1}, "severity is 1.1"),
        ({"seed": -1}, "must not be negative"),
        ({"size": 8}, "size is 8"),
        ({"finding": "effusion"}, "TB has no finding 'effusion'; it has apical cavity"),
    ],
)
def test_impossible_wishes_are_refused_with_the_reason(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        film(TUBERCULOSIS, **{"finding": None, **options})  # type: ignore[arg-type]


def test_an_unknown_class_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no phantom of class 'Fracture'; there are .*COVID-19"):
        phantom("Fracture", seed=1)


def test_a_look_refuses_what_no_film_has() -> None:
    for wrong in ({"bits": 7}, {"border": 0.5}, {"letters_at": "middle"}, {"gamma": 0.0}):
        with pytest.raises(ValueError):
            replace(Look(), **wrong)  # type: ignore[arg-type]
