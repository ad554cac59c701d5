"""The classes a film can be put into, and which of them mean that nothing was found.

Knows nothing of files or networks. The six classes are those of the report the project began from;
any other list of classes works as well, as long as somebody says which of them are healthy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

BACTERIAL = "Bacterial Pneumonia"
VIRAL = "Viral Pneumonia"
COVID19 = "COVID-19"
TUBERCULOSIS = "TB"
NORMAL = "Normal"
OTHER = "Other Findings"

SIX_CLASSES = (BACTERIAL, VIRAL, COVID19, TUBERCULOSIS, NORMAL, OTHER)

_HEALTHY = re.compile(
    r"^(normal|healthy|negative|no[ _-]?findings?|no[ _-]?disease|no[ _-]?pneumonia|clear|control)$",
    re.IGNORECASE,
)


def healthy_among(classes: Iterable[str]) -> tuple[str, ...]:
    """The classes whose name says "nothing found", in the given order; may be empty."""
    return tuple(name for name in classes if _HEALTHY.match(name.strip()))


def ordered(classes: Iterable[str]) -> tuple[str, ...]:
    """The classes without repetition: the six in their own order first, then all others by name."""
    found = set(classes)
    known = [name for name in SIX_CLASSES if name in found]
    return (*known, *sorted(found.difference(known), key=str.casefold))


def column_name(class_name: str) -> str:
    """The score column of a class: ``COVID-19`` → ``p_COVID-19``."""
    return f"p_{class_name}"
