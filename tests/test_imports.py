"""What is imported when: scoring never loads torch, and nothing heavy runs before a verb needs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "timm", "lightning", "pandas", "polars", "matplotlib", "sklearn", "scipy"}


def modules_after(code: str) -> set[str]:
    """Top-level names in ``sys.modules`` after ``code`` ran in a fresh interpreter."""
    tail = "\nimport sys, json\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "module",
    [
        "carina",
        "carina.cli",
        "carina.data.catalogue",
        "carina.data.compile",
        "carina.data.confounding.audit",
        "carina.data.pixels",
        "carina.data.sources",
        "carina.images.phantom",
        "carina.images.prepare",
        "carina.images.read",
        "carina.scoring.cluster",
        "carina.scoring.run",
        "carina.scoring.scorer",
        "carina.scoring.stored",
        "carina.scoring.triage_run",
        "carina.scoring.worklist_files",
    ],
)
def test_rooms_that_score_and_read_never_import_anything_heavy(module: str) -> None:
    assert modules_after(f"import {module}").isdisjoint(HEAVY)


def test_evaluation_never_imports_torch() -> None:
    loaded = modules_after(
        "import carina.evaluation.evaluate, carina.evaluation.report, carina.evaluation.figures"
    )
    assert loaded.isdisjoint({"torch", "torchvision", "timm", "lightning"})


@pytest.mark.parametrize(
    "verb",
    [
        "",
        "compile",
        "train",
        "evaluate",
        "score",
        "demo",
        "phantoms",
        "audit",
        "sources",
        "fetch",
        "review",
        "labels",
        "find-lr",
        "study",
        "compare",
        "triage",
        "site-check",
        "migrate",
        "serve",
        "worklist",
        "db",
        "backup",
        "restore",
    ],
)
def test_help_imports_no_room(verb: str) -> None:
    loaded = modules_after(
        f"""
import contextlib, io, sys
from carina.cli import main
sys.argv = ["carina", *{verb!r}.split(), "--help"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
"""
    )
    assert loaded.isdisjoint(HEAVY | {"numpy", "PIL", "pydicom", "onnxruntime", "pyarrow"})


def test_reading_a_jpeg_does_not_import_pydicom() -> None:
    loaded = modules_after(
        """
import io
from PIL import Image
from carina.images.read import read
buffer = io.BytesIO()
Image.new("L", (64, 64), 120).save(buffer, "jpeg")
read(buffer.getvalue(), name="film.jpg")
"""
    )
    assert "pydicom" not in loaded


def test_public_names_are_the_exported_names() -> None:
    import carina

    assert set(dir(carina)) == set(carina.__all__)
    for name in carina.__all__:
        assert getattr(carina, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import carina

    with pytest.raises(AttributeError, match="no attribute 'classify'"):
        carina.classify  # noqa: B018
