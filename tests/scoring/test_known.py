"""What is kept for the next start: receipts and optimised graphs, and none is trusted blindly."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from carina.errors import BundleError
from carina.scoring import kept, receipts, session
from carina.scoring.bundle import Bundle
from carina.scoring.scorer import Scorer
from tests.bundles import CLASSES, tiny_bundle, tiny_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where things are kept; models of any size are worth it, and files are settled at once."""
    monkeypatch.setenv("CARINA_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(session, "_WORTH", 0)
    monkeypatch.setattr(receipts, "_SETTLED", 0)
    return tmp_path / "kept"


def pixels(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64), dtype=np.uint8)


def test_a_verified_bundle_is_known_until_anything_in_it_changes(tmp_path: Path, folder: Path) -> None:
    root = tiny_bundle(tmp_path / "m")
    Bundle.open(root)
    known = Bundle.known(root)
    assert known is not None
    assert (known.classes, known.healthy, known.preparation.size) == (CLASSES, {"Normal"}, 64)
    assert known.manifest == Bundle.open(root).manifest
    assert known.model() == (root / "model.onnx").read_bytes()


@pytest.mark.parametrize("change", ["byte", "times set back", "new file", "missing file", "link", "moved"])
def test_a_bundle_that_changed_in_any_way_is_not_known(tmp_path: Path, folder: Path, change: str) -> None:
    root = tiny_bundle(tmp_path / "m")
    Bundle.open(root)
    model, card = root / "model.onnx", root / "card.md"
    before = card.stat()
    if change in ("byte", "times set back"):
        card.write_bytes(card.read_bytes().replace(b"tests", b"TESTS"))
        if change == "times set back":
            os.utime(card, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "new file":
        (root / "note.txt").touch()
    elif change == "missing file":
        card.unlink()
    elif change == "link":
        shutil.move(model, tmp_path / "elsewhere")
        model.symlink_to(tmp_path / "elsewhere")
    else:
        root.rename(tmp_path / "n")
        root = tmp_path / "n"
    assert Bundle.known(root) is None
    if change != "moved":
        with pytest.raises(BundleError):
            Bundle.open(root)


def test_a_bundle_that_was_just_written_gets_no_receipt(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "_SETTLED", 60_000_000_000)
    root = tiny_bundle(tmp_path / "m")
    Bundle.open(root)
    assert Bundle.known(root) is None


def test_a_gpu_is_used_where_onnx_runtime_was_built_for_one_and_nothing_is_kept(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    root = tiny_bundle(tmp_path / "m")
    asked: list[object] = []

    def fake(graph: bytes, options: object, providers: list[object]) -> str:
        asked.extend(providers)
        return "a session"

    monkeypatch.setattr(onnxruntime, "InferenceSession", fake)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    bundle = Bundle.open(root)
    before = set(folder.iterdir())
    assert str(session.open_session(bundle)) == "a session"
    assert asked == [
        ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}),
        "CPUExecutionProvider",
    ]
    assert set(folder.iterdir()) == before


def test_the_kept_graph_gives_the_same_numbers_bit_for_bit(tmp_path: Path, folder: Path) -> None:
    root = tiny_bundle(tmp_path / "m")
    first = Scorer(root).predict(pixels())
    assert len(list(folder.glob("*.ort"))) == 1
    second = Scorer(root).predict(pixels())
    for name in ("logits", "embedding", "cam"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_another_model_never_runs_on_a_kept_graph(tmp_path: Path, folder: Path) -> None:
    root = tiny_bundle(tmp_path / "m")
    one = Scorer(root).predict(pixels()).logits
    other = Scorer(tiny_bundle(tmp_path / "m", model=tiny_model(seed=1))).predict(pixels()).logits
    assert np.abs(one - other).max() > 0.1
    assert len(list(folder.glob("*.ort"))) == 2


@pytest.mark.parametrize("harm", ["one byte", "cut", "others may write it", "a link", "no graph at all"])
def test_a_kept_graph_that_cannot_be_trusted_is_made_again(tmp_path: Path, folder: Path, harm: str) -> None:
    root = tiny_bundle(tmp_path / "m")
    right = Scorer(root).predict(pixels()).logits
    (graph,) = folder.glob("*.ort")
    content = graph.read_bytes()
    if harm == "one byte":
        graph.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif harm == "cut":
        graph.write_bytes(content[: len(content) // 2])
    elif harm == "others may write it":
        graph.chmod(0o666)
    elif harm == "a link":
        shutil.move(graph, tmp_path / "elsewhere")
        graph.symlink_to(tmp_path / "elsewhere")
    else:
        kept.write(graph.name, b"its hash is right, and ONNX Runtime cannot read it")
    np.testing.assert_array_equal(Scorer(root).predict(pixels()).logits, right)
    made_again = kept.read(graph.name)
    assert made_again is not None
    assert b"pixels" in made_again


@pytest.mark.parametrize("place", ["off", "/proc/nowhere/at/all"])
def test_where_nothing_can_be_kept_everything_works(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("CARINA_CACHE", place)
    root = tiny_bundle(tmp_path / "m")
    for path in (root, *root.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert Scorer(root).predict(pixels()).logits.shape == (3, 3)
    assert Bundle.known(root) is None
    assert not folder.exists()


def test_the_oldest_entries_make_room(folder: Path) -> None:
    for number in range(20):
        kept.write(f"{number:02}.ort", b"x")
        time.sleep(0.002)
    assert sorted(path.name for path in folder.iterdir()) == [f"{number:02}.ort" for number in range(4, 20)]
    assert kept.read("03.ort") is None
    assert kept.read("04.ort") == b"x"
