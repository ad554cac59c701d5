"""The order of a start, and what it leaves out (how long it takes: tests.reliability crashes)."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from carina.errors import ServiceError
from carina.serving import start
from carina.serving.settings import Role, Settings

# A service is made, started on free ports and waited for; then the names of all that was loaded are told.
_STARTED = """
import json, sys
from pathlib import Path
from carina.serving import start
from carina.serving.settings import Role, Settings

settings = Settings.model_validate(json.loads(sys.argv[1]))
service = start.service(settings, Role.ALL)
begun = service.duty._soon is not None
service.start()
while not service.duty.ready:
    assert service.duty.why_not == "the model has not been loaded yet", service.duty.why_not
loaded = sorted(sys.modules)
service.stop()
print(json.dumps([begun, loaded]))
"""


def started(data: Path, bundle: Path) -> tuple[bool, set[str]]:
    ports = {"dicom": {"port": 0}, "web": {"port": 0}}
    settings = json.dumps({"data": str(data), "model": str(bundle), "free_bytes": 0, **ports})
    code = [sys.executable, "-c", _STARTED, settings]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    begun, loaded = json.loads(done.stdout.splitlines()[-1])
    return begun, set(loaded)


def test_a_start_leaves_out_what_it_does_not_need(tmp_path: Path, bundle: Path) -> None:
    begun, first = started(tmp_path / "data", bundle)
    assert begun  # the model, while the page's libraries were loaded
    assert "alembic" in first  # it made the tables
    begun, again = started(tmp_path / "data", bundle)
    assert begun
    assert {"fastapi", "uvicorn", "carina.serving.listener", "onnxruntime", "pydicom"} <= again
    assert again.isdisjoint({"alembic", "mako", "requests", "tqdm", "urllib3", "rich", "highdicom", "torch"})


def test_the_side_of_the_model_never_loads_what_the_other_side_loads_beside_it() -> None:
    """Two threads that import one package with circles in it may find it half made."""
    code = (
        "import sys, carina.serving.duty, carina.images.phantom, carina.scoring.manifest\n"
        "from carina.scoring import runtime\n"
        "runtime.load()\n"
        "from PIL import Image\n"
        "print(sorted({'pydicom', 'pynetdicom', 'sqlalchemy', 'fastapi', 'uvicorn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_listener_alone_loads_no_model(settings: Settings) -> None:
    assert start.service(settings, Role.LISTENER).duty is None


def test_a_data_folder_that_cannot_be_made_is_told_before_anything_is_begun(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ServiceError, match="cannot be made"):
        start.service(settings.model_copy(update={"data": tmp_path / "file" / "data"}), Role.ALL)


def test_garbage_is_looked_for_again_after_a_start_that_failed() -> None:
    def failing() -> None:
        with start.uncollected():
            assert not gc.isenabled()
            raise ServiceError("no")

    with pytest.raises(ServiceError):
        failing()
    assert gc.isenabled()
    gc.unfreeze()
