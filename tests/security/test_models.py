"""A model file that is not what it should be is refused, and the worklist stays readable."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from argon2 import PasswordHasher
from onnx import TensorProto, numpy_helper
from starlette.testclient import TestClient

from carina.errors import BundleError
from carina.scoring.bundle import Bundle
from carina.serving import people
from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.duty import Duty
from carina.serving.schema import Base
from carina.serving.settings import Settings
from carina.serving.web.app import create_app
from tests.bundles import tiny_bundle, tiny_model
from tests.security.figures import Tell


class Canary:
    """Makes the file ``path`` when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path, str]]:
        return Path.write_text, (self.path, "it was unpickled")


def forged(folder: Path, name: str, content: bytes) -> None:
    """Put ``content`` into a bundle and list it, as somebody would who may write there."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(manifest))


def changed_byte(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)


def changed_hash(folder: Path) -> None:
    text = (folder / "bundle.json").read_text()
    sha256 = json.loads(text)["files"]["model.onnx"]
    (folder / "bundle.json").write_text(text.replace(sha256, sha256[::-1]))


def external_data(folder: Path) -> None:
    model = tiny_model()
    weight = next(each for each in model.graph.initializer if each.name == "bias")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../../etc/passwd")
    forged(folder, "model.onnx", model.SerializeToString())


def linked(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere.onnx"
    (folder / "model.onnx").rename(elsewhere)
    (folder / "model.onnx").symlink_to(elsewhere)


def wrong_classes(folder: Path) -> None:
    forged(folder, "model.onnx", tiny_model(classes=5).SerializeToString())


def wrong_size(folder: Path) -> None:
    forged(folder, "model.onnx", tiny_model(size=128).SerializeToString())


def foreign_operator(folder: Path) -> None:
    model = tiny_model()
    model.graph.node.add(op_type="Run", domain="evil", input=["cam"], output=["x"])
    forged(folder, "model.onnx", model.SerializeToString())


def not_finite(folder: Path) -> None:
    model = tiny_model()
    for tensor in model.graph.initializer:
        if tensor.name == "bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(3, np.nan, np.float32), "bias"))
    onnx.checker.check_model(model)
    forged(folder, "model.onnx", model.SerializeToString())


def pickled_model(folder: Path) -> None:
    forged(folder, "model.onnx", pickle.dumps(Canary(folder.parent / "canary")))


def pickled_weights(folder: Path) -> None:
    forged(folder, "weights.safetensors", pickle.dumps(Canary(folder.parent / "canary")))


def zipped_weights(folder: Path) -> None:
    forged(folder, "weights.safetensors", b"PK\x03\x04" + bytes(400))


def stray_file(folder: Path) -> None:
    (folder / "model.py").write_text("raise SystemExit")


def cut_short(folder: Path) -> None:
    forged(folder, "model.onnx", (folder / "model.onnx").read_bytes()[:300])


DAMAGES: tuple[Callable[[Path], None], ...] = (
    changed_byte, changed_hash, external_data, linked, wrong_classes, wrong_size, foreign_operator,
    not_finite, pickled_model, pickled_weights, zipped_weights, stray_file, cut_short,
)  # fmt: skip


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Duty], TestClient]]:
    """The page of a site with the model on ``duty``."""
    quick = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(people, "_hasher", lambda: quick)
    settings = Settings.model_validate(
        {"data": tmp_path / "data", "free_bytes": 0, "web": {"sign_in": False}}
    )
    database = Database(f"sqlite:///{tmp_path / 'carina.sqlite'}")
    Base.metadata.create_all(database.engine)
    made: list[TestClient] = []

    def opened(duty: Duty) -> TestClient:
        archive = Archive(settings.archive, settings)
        app = create_app(settings, database, archive, lambda: duty.status)
        made.append(TestClient(app, base_url="http://localhost", headers={"Accept": "text/html"}))
        return made[-1]

    yield opened
    for each in made:
        each.close()
    database.close()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
def test_a_damaged_model_is_not_ready_and_the_worklist_still_opens(
    damage: Callable[[Path], None], tmp_path: Path, page: Callable[[Duty], TestClient]
) -> None:
    folder = tiny_bundle(tmp_path / "model")
    damage(folder)
    if damage is not not_finite:
        with pytest.raises(BundleError, match=";"):
            Bundle.open(folder)
    settings = Settings.model_validate({"data": tmp_path / "duty", "model": folder})
    with Duty.load(settings) as duty:
        assert not duty.ready
        assert duty.model is None
        why = duty.why_not or ""
        assert ";" in why, f"what is wrong and the cure: {why}"
        shown = page(duty)
        ready, worklist = shown.get("/ready"), shown.get("/worklist")
        assert (ready.status_code, worklist.status_code) == (503, 200)
        assert 'class="faults' in worklist.text
        assert not (tmp_path / "canary").exists()


def test_every_damage_was_tried(tell: Tell) -> None:
    names = ", ".join(each.__name__.replace("_", " ") for each in DAMAGES)
    tell("models", f"{len(DAMAGES)} damages ({names}): none ready, the worklist readable each time, no NaN")
    assert len(DAMAGES) == 13
