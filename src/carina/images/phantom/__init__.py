"""Synthetic chest films with known disease, known lesion masks and known sources.

For tests, the demonstration, and for asking what a model looks at: with phantoms the answer is known.
They are drawn, not learned, and stand for no real patient; no figure measured on them says anything
about real films.
"""

from carina.images.phantom.exposure import Look
from carina.images.phantom.film import Phantom, phantom
from carina.images.phantom.hospitals import HOSPITALS, write_hospitals, write_phantoms, write_unseen
from carina.images.phantom.lesions import FINDINGS

__all__ = [
    "FINDINGS",
    "HOSPITALS",
    "Look",
    "Phantom",
    "phantom",
    "write_hospitals",
    "write_phantoms",
    "write_unseen",
]
