"""Which patient a file's name means, by the naming customs of public sets.

Pure: a stem in, a patient or None out. The customs, in the order they are tried:

=============================  ============================================  ==================
custom                         example                                       patient
=============================  ============================================  ==================
Kermany, pneumonia             ``person23_bacteria_99``                      ``person23``
Kermany, normal                ``NORMAL2-IM-0666-0001``, ``IM-0115-0001``    ``NORMAL2-IM-0666``
Kermany, Mendeley's archive    ``BACTERIA-1008087-0001``                     ``1008087``
ChestX-ray14                   ``00000013_005``                              ``00000013``
Shenzhen, Montgomery           ``CHNCXR_0327_1``                             ``CHNCXR_0327``
Figure 1                       ``COVID-00003b``                              ``COVID-00003``
yours                          ``patient123_…``, ``p0001_2``, ``sub-07_…``   ``patient123`` …
=============================  ============================================  ==================

"Yours" is one of the words patient, person, subject, sub, case, pat, pt, p, then a number, then the
end of the name or a character that is neither letter nor digit.
"""

from __future__ import annotations

import re

_CUSTOMS = (
    re.compile(r"^(person\d+)_(?:bacteria|virus)_"),
    re.compile(r"^((?:NORMAL2-)?IM-\d+)-\d+"),
    re.compile(r"^(?:BACTERIA|VIRUS|NORMAL)-(\d+)-\d+"),
    re.compile(r"^(\d{8})_\d{3}(?!\d)"),
    re.compile(r"^((?:CHN|MCU)CXR_\d+)_\d"),
    re.compile(r"^(COVID-\d{5})[a-z]?$"),
    re.compile(r"^((?:patient|person|subject|sub|case|pat|pt|p)[-_ ]?\d+)(?![a-z0-9])", re.IGNORECASE),
)


def patient_from_name(stem: str) -> str | None:
    """The patient that a file's (or folder's) name states, or None."""
    for custom in _CUSTOMS:
        match = custom.match(stem)
        if match:
            return match[1]
    return None
