"""One film, now: the short way gives the words of the long way, and loads only what it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carina.quick import request
from carina.scoring import runtime
from tests.bundles import tiny_bundle


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle ``m``, and files of every kind of fate."""
    root = tmp_path_factory.mktemp("quick")
    tiny_bundle(root / "m")
    shades = np.random.default_rng(3).integers(0, 256, (12, 15), dtype=np.uint8)
    film = Image.fromarray(shades).resize((300, 240))
    film.save(root / "film.jpg")
    film.save(root / "film.png")
    film.save(root / "new\nline 🩻.png")
    (root / "cut.jpg").write_bytes((root / "film.jpg").read_bytes()[:3000])
    (root / "note.jpg").write_text("no film")
    Image.new("L", (300, 240)).save(root / "black.png")
    return root


def run(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "carina", *words], cwd=place, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "name", ["film.jpg", "film.png", "new\nline 🩻.png", "cut.jpg", "note.jpg", "black.png"]
)
def test_the_short_way_says_what_the_long_way_says(place: Path, name: str) -> None:
    assert request(["score", str(place / name), "--model", "m"]) is not None
    short = run(place, "score", name, "--model", "m")
    long = run(place, "score", name, "--model", "m", "--top", "50")
    assert (short.returncode, short.stdout, short.stderr) == (long.returncode, long.stdout, long.stderr)
    assert "1 scored" in short.stderr or "1 refused" in short.stderr


def test_a_bundle_that_is_none_is_said_in_the_same_words(place: Path) -> None:
    short, long = (run(place, "score", "film.png", "--model", "no", *more) for more in ((), ("--top", "50")))
    assert (short.returncode, short.stderr) == (1, long.stderr)
    assert short.stderr == "carina: no: no such folder; name the folder that holds bundle.json\n"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("score film.png --model m", ("film.png", "m")),
        ("score --model m film.png", ("film.png", "m")),
        ("score film.png --model=m", ("film.png", "m")),
        ("score film.png --model m --top 3", None),
        ("score film.png film.jpg --model m", None),
        ("score m --model m", None),
        ("score nowhere.png --model m", None),
        ("score --help --model m", None),
        ("score film.png", None),
        ("score film.png --model", None),
        ("triage film.png --model m", None),
        ("", None),
    ],
)
def test_only_one_film_and_one_bundle_go_the_short_way(
    place: Path, monkeypatch: pytest.MonkeyPatch, words: str, wanted: tuple[str, str] | None
) -> None:
    monkeypatch.chdir(place)
    assert request(words.split()) == wanted


LISTS_MODULES = """
import os, sys, json
def leave(code):
    names = sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))
    print(json.dumps([names, sorted(name for name in sys.modules if name.startswith("carina."))]))
    sys.stdout.flush()
    os.kill(os.getpid(), 9)
os._exit = leave
from carina.__main__ import main
main()
"""

# What a start pays for: no pydantic, no Pillow, also not for the check that it is a film at all.
FOREIGN = {"carina", "numpy", "onnxruntime"}
OURS = {
    "__main__", "children", "children.process", "children.wire", "errors", "images",
    "images.preparation", "lines", "quick", "records",
    "scoring", "scoring.abstain", "scoring.bundle", "scoring.contents", "scoring.decoding",
    "scoring.distance", "scoring.frontal", "scoring.inputs", "scoring.intended", "scoring.kept",
    "scoring.oddness", "scoring.receipts", "scoring.run", "scoring.runtime", "scoring.scorer",
    "scoring.session", "scoring.sides",
}  # fmt: skip


def test_a_film_and_a_known_bundle_load_what_is_listed_here_and_nothing_else(place: Path) -> None:
    time.sleep(1.6)  # a bundle that has just been written is not known yet: it might still change unseen
    run(place, "score", "film.jpg", "--model", "m")
    line = [sys.executable, "-c", LISTS_MODULES, "score", "film.jpg", "--model", "m"]
    done = subprocess.run(line, cwd=place, capture_output=True, text=True, check=False)
    foreign, ours = json.loads(done.stdout.splitlines()[-1])
    assert {name for name in foreign if not name.startswith("_")} <= FOREIGN
    assert {name.removeprefix("carina.") for name in ours} <= OURS


_SUPPRESS = ("CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME")


@pytest.mark.parametrize(
    "code",
    [
        "import sys, carina.__main__ as m; sys.argv[1:] = ['score', 'film.jpg', '--model', 'm']; m.main()",
        "from carina import Scorer; list(Scorer('m').score(['film.jpg']))",
    ],
)
def test_onnx_runtime_keeps_no_number_of_this_machine_and_reports_nothing(
    place: Path, tmp_path: Path, code: str
) -> None:
    """Its makers' collector is neither set up nor given a cache; Carina's own cache is all that is kept."""
    env = {name: value for name, value in os.environ.items() if name not in _SUPPRESS}
    line = [sys.executable, "-c", code]
    subprocess.run(line, cwd=place, env={**env, "HOME": str(tmp_path)}, capture_output=True, check=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == []


def test_where_a_program_loaded_onnx_runtime_first_its_further_reports_are_switched_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import onnxruntime

    told: list[bool] = []
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: told.append(True))
    assert runtime.load() is onnxruntime
    assert runtime.load() is onnxruntime
    assert told == [True]
