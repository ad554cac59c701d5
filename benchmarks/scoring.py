"""How fast a bundle scores, beside what a careful user would write; the table of ``docs/results.md``.

    python benchmarks/scoring.py [--films 200] [--rounds 5] [--xrv-python PYTHON] [--write]

Everything is made here: synthetic films, a network with random weights (speed does not depend on what it has
learnt). Contestants run in processes of their own, in turn, so that a noisy neighbour meets all of them; a
ratio is the median of the ratios of single rounds, its spread their quartiles. ``--xrv-python`` names the
interpreter of another environment that has torchxrayvision; without it that row says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
SIZE = 224
WARM = 4  # films before the clock starts


def main() -> None:
    """Run what was asked for: one contestant, or all of them."""
    args = arguments()
    if args.contestant:
        print(json.dumps(CONTESTANTS[args.contestant](Path(args.folder), args.threads)))
        return
    with tempfile.TemporaryDirectory(prefix="carina-bench-") as name:
        folder = Path(name)
        make_films(folder, args.films)
        make_bundles(folder)
        text = "\n\n".join(
            (
                head(args),
                *(each(folder, args) for each in (folders, cold, decoding)),
            )
        )
    print(text)
    if args.write:
        from real import write_section

        write_section(HERE.parent / "docs" / "results.md", "scoring", text)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=60, help="JPEG files in the folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--xrv-python", help="interpreter of an environment with torchxrayvision")
    parser.add_argument("--write", action="store_true", help="write the section of docs/results.md")
    parser.add_argument("--contestant", choices=sorted(CONTESTANTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def head(args: argparse.Namespace) -> str:
    """On what it was measured."""
    import onnxruntime

    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = next((line.split(": ")[1] for line in told.splitlines() if line.startswith("model name")), "?")
    vnni = "with VNNI" if "vnni" in told else "without VNNI (int8 gains least there)"
    vnni += ", with AMX" if "amx_tile" in told else ""
    return (
        f"{args.threads} cores of {name}, {vnni}; Python {platform.python_version()}, ONNX Runtime "
        f"{onnxruntime.__version__}; {args.films} films, {args.rounds} rounds in turn; load at the start "
        f"{os.getloadavg()[0]:.1f}.\n"
        f"`python benchmarks/scoring.py --films {args.films} --rounds {args.rounds}`"
    )


# Films and bundles


def shades(height: int, width: int, seed: int) -> np.ndarray:
    """Something as smooth and as noisy as a film, (height, width) float in [0, 1]."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.random((height // 60, width // 60)).astype(np.float32))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(smooth * 0.8 + 0.1 + rng.normal(0, 0.012, (height, width)), 0, 1)


def make_films(folder: Path, count: int) -> None:
    """JPEG films of 1500 × 1200 in ``jpeg``; 24 different ones, repeated."""
    (folder / "jpeg").mkdir()
    for number in range(count):
        path = folder / "jpeg" / f"{number:05}.jpg"
        if number < 24:
            gray = np.rint(255 * shades(1200, 1500, number)).astype(np.uint8)
            Image.fromarray(gray).save(path, quality=90)
        else:
            os.link(folder / "jpeg" / f"{number % 24:05}.jpg", path)


def make_bundles(folder: Path) -> None:
    """``float32``, ``int8`` and, where OpenVINO is, those for it: the same network; the others are not
    checked, as nothing was learnt."""
    from random_bundle import random_bundle

    from carina.evaluation.int8 import for_runtime, to_int8
    from carina.evaluation.quantize import runtime_section
    from carina.images.prepare import Preparation, load
    from carina.scoring.bundle import Bundle, write_bundle

    bundle = Bundle.open(random_bundle(folder / "float32", size=SIZE))
    paths = sorted((folder / "jpeg").iterdir())[:24]
    squares = np.stack([load(path, Preparation(SIZE))[0] for path in paths])
    files: dict[str, Any] = {name: bundle.root / name for name in bundle.manifest.files}
    float32 = bundle.model()
    files["model.onnx"] = int8 = to_int8(float32, squares, bundle.root)
    write_bundle(folder / "int8", bundle.manifest, files)
    for form, model in (("openvino-bfloat16", float32), ("openvino-int8", int8)) if has_openvino() else ():
        files["model.onnx"] = for_runtime(model, form)
        manifest = bundle.manifest.model_copy(update={"sections": runtime_section(form)})
        write_bundle(folder / form, manifest, files)


def has_openvino() -> bool:
    """Whether the extra is there, and its numbers in this processor."""
    try:
        import openvino
    except ModuleNotFoundError:
        return False
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


# Contestants: each scores the folder and tells seconds, films and the peak of memory


def torch_one_by_one(folder: Path, threads: int) -> dict[str, float]:
    """A loop: PIL, torchvision's transforms, batch 1."""
    import torch

    network, transform = torch_network(threads)
    paths = sorted((folder / "jpeg").iterdir())

    def score(path: Path) -> None:
        with Image.open(path) as image, torch.inference_mode():
            network(transform(image.convert("RGB"))[None]).softmax(1)

    return timed(lambda: [score(path) for path in paths], warm=lambda: [score(p) for p in paths[:WARM]])


def torch_loader(folder: Path, threads: int) -> dict[str, float]:
    """The same with a DataLoader of two workers and batch 32."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    network, transform = torch_network(threads)
    paths = sorted((folder / "jpeg").iterdir())

    class Films(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            with Image.open(paths[index]) as image:
                return transform(image.convert("RGB"))

    def score() -> None:
        with torch.inference_mode():
            for batch in DataLoader(Films(), batch_size=32, num_workers=2):
                network(batch).softmax(1)

    return timed(score, warm=lambda: network(torch.zeros(2, 3, SIZE, SIZE)))


def torch_network(threads: int) -> tuple[Any, Any]:
    """ResNet18 and the transform that its documentation shows."""
    import torch
    import torchvision

    torch.set_num_threads(threads)
    network = torchvision.models.resnet18(weights=None, num_classes=4).eval()
    steps = torchvision.transforms
    normal = steps.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return network, steps.Compose([steps.Resize((SIZE, SIZE)), steps.ToTensor(), normal])


def carina_float32(folder: Path, threads: int) -> dict[str, float]:
    """``score_films`` with a table; decoding processes and the check that it is a film included."""
    return carina_folder(folder, threads, "float32")


def carina_int8(folder: Path, threads: int) -> dict[str, float]:
    """The same in 8-bit whole numbers."""
    return carina_folder(folder, threads, "int8")


def openvino_bfloat16(folder: Path, threads: int) -> dict[str, float]:
    """The same in bfloat16, by OpenVINO."""
    return carina_folder(folder, threads, "openvino-bfloat16")


def openvino_int8(folder: Path, threads: int) -> dict[str, float]:
    """The same in 8-bit whole numbers, by OpenVINO."""
    return carina_folder(folder, threads, "openvino-int8")


def carina_folder(folder: Path, threads: int, bundle: str) -> dict[str, float]:
    from carina.scoring.bundle import Bundle
    from carina.scoring.run import score_films

    opened, out = Bundle.open(folder / bundle), folder / f"{bundle}.csv"
    first = sorted((folder / "jpeg").iterdir())[:WARM]

    def score(paths: Any) -> None:
        score_films(paths, opened, out=out, threads=threads)

    return timed(lambda: score(folder / "jpeg"), warm=lambda: score(first))


def limit(folder: Path, threads: int) -> dict[str, float]:
    """What the network alone can do: prepared films that lie in memory."""
    from carina.scoring.scorer import Scorer

    scorer = Scorer(folder / "float32", threads=threads)
    count = len(list((folder / "jpeg").iterdir()))
    films = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE), dtype=np.uint8)
    return timed(lambda: scorer.predict(films), warm=lambda: scorer.predict(films[:WARM]))


def timed(work: Callable[[], Any], *, warm: Callable[[], Any]) -> dict[str, float]:
    """Seconds of ``work`` after ``warm``, and the peak of memory of this process and its helpers in MB."""
    warm()
    peak = Peak()
    peak.start()
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "mb": peak.stop()}


class Peak(threading.Thread):
    """The most memory that this process and its children held together, asked twenty times a second.

    ``ru_maxrss`` will not do: a process inherits that of the one which started it.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended, self._most = threading.Event(), 0.0

    def run(self) -> None:
        while not self._ended.wait(0.05):
            self._most = max(self._most, sum(map(resident, (os.getpid(), *children(os.getpid())))))

    def stop(self) -> float:
        """The peak in MB."""
        self._ended.set()
        self.join()
        return max(self._most, resident(os.getpid()))


def children(pid: int) -> list[int]:
    """The processes that ``pid`` started and that live."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def resident(pid: int) -> float:
    """Memory of a process in MB, what it shares with others divided among them; 0 where it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1000
    return 0.0


CONTESTANTS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    each.__name__: each
    for each in (
        torch_one_by_one,
        torch_loader,
        carina_float32,
        carina_int8,
        openvino_bfloat16,
        openvino_int8,
        limit,
    )
}

XRV = """
import sys, time, json, resource, pathlib
import skimage.io, torch, torchvision, torchxrayvision as xrv
torch.set_num_threads(int(sys.argv[2]))
paths = sorted(pathlib.Path(sys.argv[1]).iterdir())
model = xrv.models.DenseNet(num_classes=18, in_channels=1).eval()
steps = torchvision.transforms.Compose([xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(224)])
def score(path):
    image = xrv.datasets.normalize(skimage.io.imread(path), 255)
    with torch.inference_mode():
        model(torch.from_numpy(steps(image[None]))[None])
for path in paths[:4]: score(path)
began = time.perf_counter()
for path in paths: score(path)
mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
print(json.dumps({"seconds": time.perf_counter() - began, "mb": mb}))
"""


# Tables


def folders(folder: Path, args: argparse.Namespace) -> str:
    """A folder of JPEG files."""
    there = [name for name in CONTESTANTS if has_openvino() or not name.startswith("openvino")]
    lines = {name: [sys.executable, __file__, "--contestant", name] for name in there}
    for line in lines.values():
        line += ["--folder", str(folder), "--threads", str(args.threads)]
    if args.xrv_python:
        lines["xrv"] = [args.xrv_python, "-c", XRV, str(folder / "jpeg"), str(args.threads)]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in lines}
    for _ in range(args.rounds):
        for name, line in lines.items():
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr[-2000:]}")
            runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    rows = ["| folder of JPEG, 1500 × 1200 → 224 | films/s | peak memory, MB |", "|---|---|---|"]
    for name, found in runs.items():
        speed = statistics.median(args.films / each["seconds"] for each in found)
        rows.append(f"| {WORDS[name]} | {speed:.1f} | {statistics.median(e['mb'] for e in found):.0f} |")
    rows += ["", "| ratio | median | quartiles | target |", "|---|---|---|---|"]
    for mine, other, target in RATIOS:
        if mine not in runs or other not in runs:
            why = "torchxrayvision needs an environment of its own (`--xrv-python`)"
            why = "the extra `openvino` is not installed" if mine.startswith("openvino") else why
            rows.append(f"| {WORDS[mine]} / {WORDS[other]} | not measured: {why} | | {target} |")
            continue
        pairs = zip(runs[mine], runs[other], strict=True)
        rows.append(ratio_row(mine, other, [b["seconds"] / a["seconds"] for a, b in pairs], target))
    memory = [
        b["mb"] / a["mb"] for a, b in zip(runs["carina_float32"], runs["torch_one_by_one"], strict=True)
    ]
    rows.append(f"| memory of the torch loop / of Carina | {spread(memory)} | ≥ 3 |")
    return "\n".join(rows)


WORDS = {
    "torch_one_by_one": "torch, PIL, batch 1",
    "torch_loader": "torch, DataLoader, batch 32",
    "carina_float32": "Carina, float32",
    "carina_int8": "Carina, int8",
    "openvino_bfloat16": "Carina, bfloat16 by OpenVINO",
    "openvino_int8": "Carina, int8 by OpenVINO",
    "limit": "the network alone, on films in memory",
    "xrv": "torchxrayvision as documented (DenseNet121)",
}
RATIOS = (
    ("carina_float32", "torch_one_by_one", "≥ 2.4"),
    ("carina_float32", "torch_loader", "≥ 1.9"),
    ("carina_int8", "torch_one_by_one", "≥ 6"),
    ("carina_int8", "torch_loader", "≥ 5"),
    ("carina_int8", "xrv", "≥ 12"),
    ("openvino_bfloat16", "torch_one_by_one", ""),
    ("openvino_bfloat16", "torch_loader", ""),
    ("openvino_int8", "torch_one_by_one", "≥ 6"),
    ("openvino_int8", "torch_loader", "≥ 5"),
    ("openvino_int8", "xrv", "≥ 12"),
    ("carina_float32", "limit", "≥ 0.9"),
)


def ratio_row(mine: str, other: str, ratios: list[float], target: str) -> str:
    """One row: how many times as fast the first is."""
    return f"| {WORDS[mine]} / {WORDS[other]} | {spread(ratios)} | {target} |"


def spread(values: list[float]) -> str:
    """Median and quartiles, as two cells."""
    low, high = np.quantile(values, [0.25, 0.75])
    return f"{statistics.median(values):.2f} | {low:.2f} to {high:.2f}"


TORCH_SCRIPT = """
import sys, timm, torch
from PIL import Image
from torchvision import transforms
network = timm.create_model("resnet18", num_classes=4).eval()
steps = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor()])
with torch.inference_mode():
    print(network(steps(Image.open(sys.argv[1]).convert("RGB"))[None]).softmax(1))
"""


def cold(folder: Path, args: argparse.Namespace) -> str:
    """One film from a cold shell: process start to the end of the process."""
    film, dicom = folder / "jpeg" / "00000.jpg", folder / "film.dcm"
    dicom.write_bytes(dicom_film(None))
    score = [sys.executable, "-m", "carina", "score"]
    lines = {
        "`carina score FILM.jpg`": [*score, str(film), "--model", str(folder / "float32")],
        "`carina score FILM.dcm` (2500 × 2048, 12 bits)": [
            *score,
            str(dicom),
            "--model",
            str(folder / "float32"),
        ],
        "`carina score FILM.jpg`, int8": [*score, str(film), "--model", str(folder / "int8")],
        "torch and timm": [sys.executable, "-c", TORCH_SCRIPT, str(film)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in lines}
    for turn in range(2 * args.rounds + 1):
        for name, line in lines.items():
            began = time.perf_counter()
            subprocess.run(line, capture_output=True, check=True)
            if turn:  # the first leaves the receipt and the graph
                seconds[name].append(time.perf_counter() - began)
    rows = [
        "| one film, process start to answer | seconds, median | quartiles | target |",
        "|---|---|---|---|",
    ]
    for name, found in seconds.items():
        rows.append(f"| {name} | {spread(found)} | {'≤ 0.35' if 'carina' in name else ''} |")
    first, last = (seconds[name] for name in (next(iter(lines)), "torch and timm"))
    ratios = [theirs / ours for ours, theirs in zip(first, last, strict=True)]
    rows.append(f"| torch and timm / Carina | {spread(ratios)} | ≥ 10 |")
    return "\n".join(rows)


def decoding(folder: Path, args: argparse.Namespace) -> str:
    """One film → the square, on one core; processor time, so that neighbours count less."""
    from carina.images.prepare import Preparation, load, prepare
    from carina.images.read import read

    preparation = Preparation(SIZE, "stretch")
    jpeg = (folder / "jpeg" / "00000.jpg").read_bytes()
    contests = {
        "JPEG 1500 × 1200": (jpeg, pillow_way, "≥ 3.8"),
        "DICOM 2500 × 2048, uncompressed": (dicom_film(None), pydicom_way, "≥ 7"),
        "DICOM, JPEG lossless": (dicom_film("1.2.840.10008.1.2.4.70"), pydicom_way, "≥ 4"),
        "DICOM, JPEG 2000": (dicom_film("1.2.840.10008.1.2.4.90"), pydicom_way, "≥ 4"),
    }
    rows = [
        f"| to {SIZE} px, one core | ms | ratio to the usual way | quartiles | gray levels apart | target |",
        "|---|---|---|---|---|---|",
    ]
    for name, (data, usual, target) in contests.items():
        ours, ratios = [], []
        for turn in range(2 * args.rounds + 1):
            mine, theirs = processor(load, data, preparation), processor(usual, data)
            if turn:
                ours.append(mine)
                ratios.append(theirs / mine)
        apart = np.abs(
            load(data, preparation)[0].astype(int) - prepare(read(data).pixels, preparation)
        ).mean()
        rows.append(
            f"| {name} | {1000 * statistics.median(ours):.1f} | {spread(ratios)} | {apart:.2f} | {target} |"
        )
    return "\n".join(rows)


def processor(work: Callable[..., Any], *given: Any) -> float:
    """Seconds of the processor."""
    began = time.process_time()
    work(*given)
    return time.process_time() - began


def pillow_way(data: bytes) -> Any:
    import io

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE)))


def pydicom_way(data: bytes) -> Any:
    import io

    import pydicom
    from pydicom.pixels import apply_voi_lut

    ds = pydicom.dcmread(io.BytesIO(data))
    shown = apply_voi_lut(ds.pixel_array, ds).astype(np.float32)
    shown = (shown - shown.min()) / (shown.max() - shown.min()) * 255
    return np.asarray(Image.fromarray(shown.astype(np.uint8)).convert("RGB").resize((SIZE, SIZE)))


def dicom_film(syntax: str | None) -> bytes:
    """A film of 12 bits with a linear window; the encoders are those of the tests."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    import films
    from pydicom.uid import UID, ExplicitVRLittleEndian

    pixels = np.rint(4095 * shades(2500, 2048, 0)).astype(np.uint16)
    chosen = UID(syntax) if syntax else ExplicitVRLittleEndian
    return films.dicom(pixels, chosen, bits=12, WindowCenter=2048, WindowWidth=3400)


if __name__ == "__main__":
    main()
