"""Phantoms differ as people do: the search for near copies joins copies of a film, never two patients."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from carina.data.duplicates import describe, near_copies
from carina.data.registration import SAME, agreement
from carina.images.phantom import HOSPITALS, phantom
from carina.taxonomy import SIX_CLASSES

PATIENTS = 60
LOOKS = [HOSPITALS[name] for name in ("hospital_a", "hospital_b", "hospital_c")]


@pytest.fixture(scope="module")
def films() -> NDArray[np.uint8]:
    """Descriptors (PATIENTS, S, S): each class in each hospital."""
    return np.stack(
        [
            describe(
                phantom(
                    SIX_CLASSES[number % 6], seed=1, patient=number + 1, look=LOOKS[number // 6 % 3], size=224
                ).pixels
            )
            for number in range(PATIENTS)
        ]
    )


def test_no_two_of_sixty_patients_are_near_copies(films: NDArray[np.uint8]) -> None:
    assert near_copies(films) == []


def test_patients_of_one_class_and_hospital_stay_far_below_the_threshold(films: NDArray[np.uint8]) -> None:
    first, second = np.triu_indices(PATIENTS, 1)
    alike = (second - first) % 18 == 0
    assert agreement(films[first[alike]], films[second[alike]]).max() < SAME - 0.03


def test_a_copy_among_sixty_patients_is_found(films: NDArray[np.uint8]) -> None:
    made = phantom(SIX_CLASSES[0], seed=1, patient=1, look=LOOKS[0], size=224).pixels
    cropped = describe(made[4:-4, 4:-4])
    pairs = near_copies(np.concatenate([films, cropped[None]]))
    assert [(pair.first, pair.second) for pair in pairs] == [(0, PATIENTS)]
