"""The report's schedules as whole jobs on real films: Carina beside fastai 2.8, the same films held out.

    python benchmarks/schedules.py CATALOGUE [--films 1000] [--held 600] --backbone local-dir:PATH

``CATALOGUE`` is one that ``carina compile`` wrote. ``--films`` of its training films and ``--held`` of its
validation films are drawn (seeded, classes in proportion) and laid out for fastai as ``train/CLASS`` and
``valid/CLASS``; Carina gets the same files as a catalogue. Both start from files with nothing decoded, from
the same pretrained weights of the same timm network, with the same epochs, rates, batches and sizes,
stretched to squares, and each with its own mild augmentation without flips:

* ``rows 1-2``: row 2 of ``recipes/report.toml``: 224 px, the head, then all layers;
* ``64 to 128``: its row 11: 64 px, the head and then all layers; the same at 128 px.

Carina computes what the frozen body sees once (``frozen_views = 1``); fastai has no like of it. Printed are
the seconds of each, their ratio, both accuracies on the films held out, and their difference with its 95 %
interval, paired by film and drawn by patient. Jobs run in turn, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROWS = {
    "rows 1-2": "2",
    "64 to 128": "11",
}  # of recipes/report.toml; each holds the stages of those it goes on from


def main() -> None:
    """Run the schedules in turn and print the ratios; with ``--job`` run one and print its figures."""
    args = arguments()
    if args.job:
        print("RESULT " + json.dumps(JOBS[args.job](args)), flush=True)
        return
    lay_out(args)
    counts = {side: sum(1 for _ in (args.out / "films" / side).glob("*/*")) for side in ("train", "valid")}
    print(f"{counts['train']} films to learn from, {counts['valid']} held out; {args.backbone}")
    found: dict[str, Any] = {"films": counts, "backbone": Path(args.backbone).name, "schedules": {}}
    for schedule in args.only:
        rounds: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for _ in range(args.rounds):
            for name in JOBS:
                rounds[name].append(job(args, name, schedule))
        found["schedules"][schedule] = rounds | {"difference": told(args, schedule, rounds)}
    (args.out / "schedules.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("--films", type=int, default=1000)
    parser.add_argument("--held", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(ROWS))
    parser.add_argument("--backbone", required=True, help="local-dir:PATH, weights as timm writes them")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "schedules")
    parser.add_argument("--job", choices=["carina", "fastai"], help=argparse.SUPPRESS)
    parser.add_argument("--schedule", choices=list(ROWS), help=argparse.SUPPRESS)
    return parser.parse_args()


def lay_out(args: argparse.Namespace) -> None:
    """Draw the films; write Carina's catalogue of them, and fastai's folders of links to the same files."""
    import numpy as np

    from carina.data import catalogue as catalogues

    whole = catalogues.Catalogue.open(args.catalogue)
    rng = np.random.default_rng(0)
    rows = []
    for side, wanted in (("train", args.films), ("valid", args.held)):
        films = whole.table(side).to_pylist()
        share = min(1.0, wanted / len(films))
        for name in whole.classes:
            own = [film for film in films if film["class"] == name]
            rows += [own[place] for place in rng.permutation(len(own))[: max(1, round(share * len(own)))]]
    shutil.rmtree(args.out, ignore_errors=True)
    healthy = list(whole.healthy)
    catalogues.write(args.out / "catalogue", rows, {"classes": list(whole.classes), "healthy": healthy}, {})
    for row in rows:
        folder = args.out / "films" / row["split"] / row["class"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row['image_id']}{Path(row['path']).suffix}").symlink_to(row["path"])


def job(args: argparse.Namespace, name: str, schedule: str) -> dict[str, Any]:
    """One schedule of one contender in a fresh process; raises SystemExit with its last words."""
    line = [sys.executable, __file__, str(args.catalogue), "--job", name, "--schedule", schedule]
    line += ["--out", str(args.out), "--backbone", args.backbone]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    result = next((text for text in done.stdout.splitlines() if text.startswith("RESULT ")), None)
    if done.returncode or result is None:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    return dict(json.loads(result.removeprefix("RESULT ")))


def told(args: argparse.Namespace, schedule: str, rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Print one schedule: seconds, ratio, accuracies and whether they differ by more than chance."""
    from dataclasses import asdict

    import numpy as np

    from carina.data.catalogue import Catalogue
    from carina.evaluation.compare import said
    from carina.evaluation.paired import share_differences

    films = Catalogue.open(args.out / "catalogue").table("valid").to_pylist()
    right = {}
    for name, found in rounds.items():
        named = found[0]["named"]
        right[name] = np.array([named[film["image_id"]] == film["class"] for film in films])
        seconds = statistics.median(each["seconds"] for each in found)
        times = ", ".join(f"{each['seconds']:.0f}" for each in found)
        print(
            f"{schedule:<10} {name:<7} {seconds:7.1f} s ({times})  accuracy {right[name].mean():.1%}  "
            f"{found[0]['precision']}"
        )
    ratio = statistics.median(
        theirs["seconds"] / ours["seconds"]
        for theirs, ours in zip(rounds["fastai"], rounds["carina"], strict=True)
    )
    patients = np.array([film["patient"] for film in films])
    everyone = np.ones(len(films), dtype=np.bool_)
    (difference,) = share_differences(patients, [("accuracy", right["fastai"], right["carina"], everyone)])
    print(f"{schedule:<10} {ratio:.1f} × as fast as fastai; accuracy {said(difference)}", flush=True)
    return {"ratio": ratio, "accuracy": asdict(difference)}


def recipe_of(args: argparse.Namespace) -> Any:
    """The row's recipe with the weights of this run; what a frozen body sees is computed once."""
    from carina.training.study_file import load_study

    alike = ["train.prevalence={}", "train.ema=0", "train.frozen_views=1"]  # fastai's learner has neither
    study = load_study("report", [f"model.backbone={args.backbone}", *alike])
    return next(row.recipe for row in study.rows if row.name == ROWS[args.schedule])


def carina_job(args: argparse.Namespace) -> dict[str, Any]:
    """Decode once, train all stages, export a verified bundle; then ask it about the films held out."""
    from carina.data.catalogue import Catalogue
    from carina.evaluation.answers import answers, cached
    from carina.records import Progress, Refusal
    from carina.scoring.bundle import Bundle
    from carina.scoring.scorer import Scorer
    from carina.training.devices import chosen_precision
    from carina.training.train import train

    run = args.out / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.rmtree(args.out / "catalogue" / "pixels", ignore_errors=True)
    catalogue = Catalogue.open(args.out / "catalogue")
    trained: list[float] = []

    def tell(event: Progress) -> None:
        if event.stage == "export" and not trained:
            trained.append(time.perf_counter())

    began = time.perf_counter()
    bundle = Bundle.open(train(catalogue, recipe_of(args), run, progress=tell))
    whole = time.perf_counter() - began
    films = catalogue.table("valid")
    named = {}
    for image, (chances, _) in zip(
        films["image_id"].to_pylist(),
        answers(Scorer(bundle), films, cached(catalogue, bundle.preparation), None),
        strict=True,
    ):
        if isinstance(chances, Refusal):
            raise SystemExit(f"{chances.path}: {chances.reason}")
        named[image] = bundle.classes[int(chances.argmax())]
    return {
        "seconds": trained[0] - began,
        "with_bundle": whole,
        "named": named,
        "precision": chosen_precision("auto"),
    }


def fastai_job(args: argparse.Namespace) -> dict[str, Any]:
    """fastai as its tutorials write it: a vision learner on a timm body, frozen, unfrozen, grown."""
    from fastai.vision import all as vision
    from safetensors.torch import load_file

    folder = Path(args.backbone.removeprefix("local-dir:"))
    config = json.loads((folder / "config.json").read_text())
    known = config["pretrained_cfg"]
    recipe = recipe_of(args)
    began = time.perf_counter()
    learner, size = None, 0
    for stage in recipe.stage:
        if stage.size != size:
            size = stage.size
            data = vision.ImageDataLoaders.from_folder(
                args.out / "films",
                train="train",
                valid="valid",
                item_tfms=vision.Resize(size, method=vision.ResizeMethod.Squish),
                batch_tfms=[
                    *vision.aug_transforms(do_flip=False),
                    vision.Normalize.from_stats(known["mean"], known["std"]),
                ],
                bs=recipe.data.batch,
                num_workers=os.cpu_count(),
            )
            if learner is None:
                learner = vision.vision_learner(
                    data,
                    config["architecture"],
                    pretrained=False,
                    metrics=vision.accuracy,
                    **config.get("model_args", {}),
                )
                state = load_file(folder / "model.safetensors")
                learner.model[0].model.load_state_dict(
                    {key: value for key, value in state.items() if not key.startswith(known["classifier"])}
                )
            else:
                learner.dls = data
        learner.freeze() if stage.frozen else learner.unfreeze()
        rate = stage.lr if isinstance(stage.lr, float) else slice(*stage.lr)
        with learner.no_bar(), learner.no_logging():
            learner.fit_one_cycle(stage.epochs, rate)
    seconds = time.perf_counter() - began
    assert learner is not None
    with learner.no_bar():
        chances, _ = learner.get_preds(dl=learner.dls.valid)
    names = learner.dls.vocab
    files = [Path(item).stem for item in learner.dls.valid.items]
    named = {file: names[int(row)] for file, row in zip(files, chances.argmax(1), strict=True)}
    return {"seconds": seconds, "named": named, "precision": "float32"}


JOBS = {"carina": carina_job, "fastai": fastai_job}

if __name__ == "__main__":
    main()
