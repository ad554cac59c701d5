"""pydicom is there without its downloader, and everybody else finds requests as ever."""

from __future__ import annotations

import subprocess
import sys

_CODE = """
import sys
from carina.images.examples import without_examples
with without_examples():
    import pydicom
assert "requests" not in sys.modules, "loaded, or still hidden"
from pydicom.data import get_testdata_file  # what comes with pydicom is still found
assert get_testdata_file("CT_small.dcm", read=True).Modality == "CT"
import requests, tqdm
"""


def test_pydicom_is_loaded_without_requests_and_others_still_find_it() -> None:
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
