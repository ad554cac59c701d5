"""What tests of several rooms share: the modules beside this file, the hostile folder, the real films."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Tests run side by side, most of them small: torch's threads would wait for each other, many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))  # so that `import films` and `import hostile` work

import hostile


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--soak``: full loads in place of quick ones (``make soak``); ``--write`` keeps what they measure."""
    parser.addoption("--soak", action="store_true", help="full loads in place of quick ones: hours")
    parser.addoption("--share", type=float, default=1.0, help="of the longest full loads, so much is run")
    parser.addoption("--write", action="store_true", help="keep measured figures for docs/promises.md")


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether a harness runs its full load."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session")
def share(request: pytest.FixtureRequest) -> float:
    """The share of a full load that is run, where there is no time for all of it."""
    return float(request.config.getoption("--share"))


@pytest.fixture(scope="session", autouse=True)
def kept_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing that Carina keeps for its next start comes from, or goes to, the folder of a person."""
    workers = tmp_path_factory.getbasetemp()
    shared = workers.parent if "PYTEST_XDIST_WORKER" in os.environ else workers
    os.environ["CARINA_CACHE"] = str(shared / "kept")


@pytest.fixture(scope="session")
def hostile_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder of broken, hostile and foreign files; each name with ``scored`` or a refusal's code."""
    folder = tmp_path_factory.mktemp("hostile")
    return folder, hostile.build(folder)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The reduced public sets (``CARINA_REAL_DATA``); tests that ask for them are marked ``real``."""
    folder = os.environ.get("CARINA_REAL_DATA")
    if not folder:
        pytest.skip("CARINA_REAL_DATA names no folder of real films")
    return Path(folder)
