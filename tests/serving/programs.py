"""Programs of other people that these tests talk to: found, or the test is skipped with a reason.

Under ``CI=true`` a missing program is a failure.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

_ELSEWHERE = ("/usr/sbin", "/usr/lib/postgresql/*/bin")  # where Debian puts what is not on everybody's path


def program(name: str, package: str) -> str:
    """The path of ``name``, which Debian's ``package`` brings."""
    own = str(Path(sys.executable).parent)  # pynetdicom installs programs of the same names as DCMTK's
    path = os.pathsep.join(place for place in os.environ["PATH"].split(os.pathsep) if place != own)
    found = shutil.which(name, path=path)
    if found is None:
        places = (place for pattern in _ELSEWHERE for place in sorted(Path("/").glob(pattern[1:])))
        found = next((str(place / name) for place in places if (place / name).is_file()), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} ({package}) is missing; run: make system-deps")
        pytest.skip(f"needs {name} ({package})")
    return found
