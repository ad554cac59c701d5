from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from carina.errors import BundleError
from carina.scoring.bundle import Bundle, write_bundle
from carina.scoring.manifest import training_images
from carina.scoring.scorer import Scorer
from tests.bundles import CLASSES, tiny_bundle, tiny_manifest, tiny_model

FILES = ("bundle.json", "card.md", "model.onnx", "training-images.txt")


@pytest.fixture
def mine(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that the test may damage."""
    return Path(shutil.copytree(bundle, tmp_path / "a1"))


def edit(root: Path, **changes: object) -> None:
    manifest = json.loads((root / "bundle.json").read_text())
    (root / "bundle.json").write_text(json.dumps(manifest | changes))


def written(tmp_path: Path, model: onnx.ModelProto) -> Path:
    return write_bundle(tmp_path / "a1", tiny_manifest(), {"model.onnx": model.SerializeToString()}).root


def test_a_bundle_says_what_it_is(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert opened.classes == CLASSES
    assert opened.healthy == {"Normal"}
    assert opened.preparation.size == 64
    assert opened.model_path.name == "model.onnx"
    assert sorted(path.name for path in bundle.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", [name for name in FILES if name != "bundle.json"])
@pytest.mark.parametrize("where", [0, -1])
def test_one_changed_or_added_byte_in_any_file_is_refused(mine: Path, name: str, where: int) -> None:
    content = bytearray((mine / name).read_bytes() or b"x")
    content[where] ^= 1
    (mine / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} is not the file that bundle.json lists; copy"):
        Bundle.open(mine)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(mine: Path, name: str) -> None:
    (mine / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.open(mine)


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_place_of_a_file_is_refused(mine: Path, tmp_path: Path, name: str) -> None:
    (mine / name).rename(tmp_path / name)
    (mine / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError, match=rf"{name} cannot be read \(a link is not followed\)"):
        Bundle.open(mine)


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(mine: Path) -> None:
    (mine / "card.md").unlink()
    os.mkfifo(mine / "card.md")
    with pytest.raises(BundleError, match=r"card\.md is no regular file"):
        Bundle.open(mine)


def test_a_file_that_is_not_listed_is_refused(mine: Path) -> None:
    (mine / "weights.pt").write_bytes(b"pickle")
    with pytest.raises(BundleError, match=r"'weights\.pt' is not listed in bundle\.json; remove it"):
        Bundle.open(mine)


def test_what_a_desktop_leaves_behind_does_no_harm(mine: Path) -> None:
    (mine / ".DS_Store").write_bytes(b"\0")
    assert Bundle.open(mine).classes == CLASSES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": [*CLASSES, "TB"]}, "bundle.json lists 4 classes, model.onnx gives 3 (logits); export"),
        ({"classes": ["TB", "TB", "Normal"]}, "each there once"),
        ({"healthy": ["Well"]}, "healthy names 'Well', which is no class"),
        ({"format": 2}, "has format 2, this Carina reads format 1; update Carina"),
        ({"surprise": 1}, "surprise: there is no such key"),
        ({"preparation": {"size": 64, "sharpen": 2}}, "preparation"),
        ({"preparation": {"size": 32}}, "not pixels uint8 (N, 1, 32, 32)"),
        ({"opset": 17}, "says opset 17, model.onnx 18"),
        ({"files": {"../../etc/passwd": "0"}}, "is no file of a bundle"),
        ({"files": {}}, "lists no model.onnx"),
        ({"outputs": {}}, "bundle.json says logits is nothing"),
        ({"normalisation": {"mean": 0.5, "std": 0}}, "normalisation.std"),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_fit_is_refused_with_its_fault(
    mine: Path, changes: dict[str, object], message: str
) -> None:
    edit(mine, **changes)
    with pytest.raises(BundleError) as caught:
        Bundle.open(mine)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{mine}: ")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"format": 1}', "\0" * 40])
def test_a_manifest_that_is_nonsense_is_a_bundle_error(mine: Path, text: str) -> None:
    (mine / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.open(mine)


def test_other_training_films_than_the_fingerprint_says_are_refused(mine: Path) -> None:
    edit(mine, data={"catalogue": "0" * 64, "fingerprint": "1" * 64, "images": 0})
    with pytest.raises(BundleError, match=r"training-images\.txt and the data fingerprint"):
        Bundle.open(mine)


def test_the_data_fingerprint_does_not_depend_on_the_order() -> None:
    assert training_images(["b", "a", "b"]) == training_images(["a", "b"])
    assert training_images(["a"]) != training_images(["a", "b"])


def test_a_run_folder_in_place_of_its_bundle_is_understood(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "run" / "bundle")
    with pytest.raises(BundleError, match=r"did you mean .*run/bundle\?"):
        Bundle.open(tmp_path / "run")


def test_a_model_that_reads_another_file_is_refused_although_the_runtime_would_follow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tiny_model()
    weight = next(each for each in model.graph.initializer if each.name == "bias")
    (tmp_path / "secret").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "secret"), ("offset", "0"), ("length", "12")):
        weight.external_data.add(key=key, value=value)
    with pytest.raises(BundleError, match="refers to data outside itself"):
        written(tmp_path, model)
    assert not (tmp_path / "a1").exists()


def test_operators_of_strangers_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    model.graph.node.add(op_type="Run", domain="evil", input=["cam"], output=["x"])
    with pytest.raises(BundleError, match="uses operators of 'evil'"):
        written(tmp_path, model)


@pytest.mark.parametrize("name", ["logits", "embedding", "cam"])
def test_every_output_must_be_there(tmp_path: Path, name: str) -> None:
    model = tiny_model()
    model.graph.output.remove(next(each for each in model.graph.output if each.name == name))
    with pytest.raises(BundleError, match=f"has no output '{name}'"):
        written(tmp_path, model)


def test_a_model_with_another_input_is_refused(tmp_path: Path) -> None:
    model = tiny_model()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    with pytest.raises(BundleError, match=r"takes pixels uint8 .*, more float32 .*, not pixels uint8"):
        written(tmp_path, model)


def test_a_model_whose_batch_is_fixed_is_refused(tmp_path: Path) -> None:
    model = tiny_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(BundleError, match="not pixels uint8"):
        written(tmp_path, model)


def test_a_model_changed_between_opening_and_running_is_refused(mine: Path) -> None:
    opened = Bundle.open(mine)
    first = opened.model()
    (mine / "model.onnx").write_bytes(first + b"\0")
    with pytest.raises(BundleError, match="changed after the bundle was opened"):
        opened.model()


def test_the_bytes_that_were_hashed_are_the_bytes_that_run(mine: Path) -> None:
    opened = Bundle.open(mine)
    (mine / "model.onnx").write_bytes(b"something else by now")
    assert Scorer(opened).bundle is opened  # the session was made of the verified bytes


def test_a_new_bundle_replaces_the_old_one_and_leaves_nothing_behind(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "a1", seed=0)
    first = (tmp_path / "a1" / "model.onnx").read_bytes()
    tiny_bundle(tmp_path / "a1", seed=1)
    assert (tmp_path / "a1" / "model.onnx").read_bytes() != first
    assert [path.name for path in tmp_path.iterdir()] == ["a1"]


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a1").mkdir()
    (tmp_path / "a1" / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="something that is no bundle"):
        tiny_bundle(tmp_path / "a1")
    assert (tmp_path / "a1" / "thesis.tex").read_text() == "years of work"


def test_a_bundle_that_does_not_fit_together_is_not_written_and_the_old_one_stays(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "a1")
    with pytest.raises(BundleError, match=r"lists 3 classes, model\.onnx gives 2"):
        tiny_bundle(tmp_path / "a1", model=tiny_model(classes=2))
    assert Bundle.open(tmp_path / "a1").classes == CLASSES
    assert [path.name for path in tmp_path.iterdir()] == ["a1"]


def test_a_file_that_cannot_be_part_of_a_bundle_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"'\.\./x' is no file of a bundle"):
        write_bundle(tmp_path / "a1", tiny_manifest(), {"../x": b""})


KILLED_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
from carina.errors import BundleError
from carina.scoring.bundle import Bundle, write_bundle

out, old, new = (Path(argument) for argument in sys.argv[1:])

def write(source):
    manifest = Bundle.open(source).manifest
    write_bundle(out, manifest, {name: source / name for name in manifest.files})

def kill_at(moment):
    seen = 0
    def hook(event, values):
        nonlocal seen
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"):
            seen += 1
            if seen == moment:
                swaps = event == "os.rename" and str(values[1]) == str(out)
                os.write(ends[1], b"swap" if swaps else b"else")
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

models = {name: (folder / "model.onnx").read_bytes() for name, folder in (("old", old), ("new", new))}
found, moment, status, ends = [], 0, 1, os.pipe()
while status:
    write(old)
    moment += 1
    child = os.fork()
    if not child:
        kill_at(moment)
        write(new)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if out.exists():
        content = Bundle.open(out).model()
        found.append(next(name for name, model in models.items() if model == content))
    else:
        found.append("none")
    if status and os.read(ends[0], 4) == b"swap":
        found[-1] += "-before-the-second-rename"
write(old)
print(moment, *found)
print(*sorted(path.name for path in out.parent.iterdir()))
"""


def test_a_writer_killed_at_any_moment_leaves_the_old_bundle_the_new_one_or_none(tmp_path: Path) -> None:
    old, new = tiny_bundle(tmp_path / "old", seed=0), tiny_bundle(tmp_path / "new", seed=1)
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", KILLED_EVERYWHERE, str(tmp_path / "run" / "out"), str(old), str(new)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    states, left = done.stdout.splitlines()
    moments, *found = states.split()
    assert int(moments) > 20
    assert found[0] == "old"
    assert found[-1] == "new"
    assert set(found) == {"old", "none-before-the-second-rename", "new"}, (
        "there is none between the two renames"
    )
    assert left == "out", "the next writer clears what killed ones left"
