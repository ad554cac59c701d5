"""Promises on real films: what operating points promise, and what other films of the same place say.

    CARINA_REAL_DATA=FOLDER python benchmarks/claims.py [--backbone NAME|local-dir:PATH] [--out bench/claims]

Each job compiles one public set with a three-way split by patient (train / calibrate / test), trains
a small network, calibrates on the second part, and holds the promises against the third:

* **shenzhen**: tuberculosis against normal; WHO asks a triage test for at least 90 % at 70 %;
* **children**: pneumonia against normal, in ``chest_xray/train``;
* **elsewhere**: the thresholds of Shenzhen on NIH films, where they must be seen to fail, by labels
  (evaluate) and without them (site-check);
* **refused**: true films, true films gone wrong and pictures that are no chest film, refused by the look of
  the picture, by the distance from the training films, or by either.

Every step is a ``carina`` command; the table goes into ``docs/results.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from real import ROOT, carina, markdown, write_section

from carina.data.catalogue import Catalogue
from carina.evaluation.site_check import site_check as check
from carina.evaluation.wording import METHODS
from carina.images.phantom.foreign import KINDS as FOREIGN
from carina.images.phantom.foreign import foreign
from carina.images.phantom.scenes import KINDS as SCENES
from carina.images.phantom.scenes import SPOILT, scene, spoilt
from carina.images.prepare import Preparation, load, prepare
from carina.scoring.abstain import Gate, sane
from carina.scoring.scorer import Scorer

TARGETS = (0.90, 0.95, 0.98, 0.99)
RECIPE = """
[data]
batch = 32

[model]
backbone = "mobilenetv2_100"
pretrained = true
drop_rate = 0.1

[train]
label_smoothing = 0.05

[[stage]]
size = {size}
frozen = true
epochs = 1
lr = 3e-3

[[stage]]
size = {size}
epochs = {epochs}
lr = [3e-4, 2e-3]
"""
DISEASED = """
[shenzhen]
1 = "Diseased"
0 = "Normal"

[nih]
"No Finding" = "Normal"
"*" = "Diseased"
"""

REFUSED = (
    "By the gate of the Shenzhen bundle, at a stated share of false refusals of 2 %. Films of NIH are true "
    "chest films, but of another hospital: what is refused there by distance is new to the model."
)
ELSEWHERE = (
    "Another hospital, another population, other diseases: what was promised does not hold, and the tool "
    "says so. Calibrate where you work."
)


def main() -> None:
    """Run the jobs and write their section of ``docs/results.md``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("CARINA_REAL_DATA", "data"))
    parser.add_argument("--backbone", default=os.environ.get("CARINA_BACKBONE"))
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "claims")
    parser.add_argument("--refused", action="store_true", help="Measure refusals alone, with what is there.")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.refused:
        print(refusals(args.out / "shenzhen", args.out / "elsewhere" / "catalogue"))
        return
    labels = args.out / "diseased.toml"
    labels.write_text(DISEASED, "utf-8")
    shares = ("--valid", 0.4, "--test", 0.3)
    shenzhen = job(args, "shenzhen", ("--labels", labels, *shares), size=128, epochs=12)
    pediatric = ROOT / "recipes" / "labels-pediatric.toml"
    children = job(args, "chest_xray", ("--labels", pediatric, *shares), size=96, epochs=2)
    elsewhere = other_hospital(args, labels)
    parts = [
        f"Measured on {time.strftime('%Y-%m-%d')}. Split by patient: train, calibrate, test.",
        "### Tuberculosis against normal, Shenzhen",
        *said(shenzhen),
        who_bar(shenzhen["metrics.json"]["claims"]["points"]),
        "### Pneumonia against normal in children, `chest_xray/train`",
        *said(children),
        "### The thresholds of Shenzhen on NIH films (any finding against none)",
        ELSEWHERE,
        points(elsewhere["metrics.json"]["claims"]),
        "Without labels, `carina site-check` says of the same films:",
        "```\n" + site_check(args) + "\n```",
        "### Films and other pictures refused",
        REFUSED,
        refusals(args.out / "shenzhen", args.out / "elsewhere" / "catalogue"),
    ]
    write_section(ROOT / "docs" / "results.md", "claims", "\n\n".join(parts))


def job(
    args: argparse.Namespace, name: str, options: tuple[object, ...], *, size: int, epochs: int
) -> dict[str, Any]:
    """Compile, train, calibrate, evaluate on the test part; answers with the files that were written."""
    folder = args.out / name
    catalogue, run, bundle = folder / "catalogue", folder / "run", folder / "calibrated"
    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(RECIPE.format(size=size, epochs=epochs), "utf-8")
    override = ("--set", f"model.backbone={args.backbone}") if args.backbone else ()
    carina("compile", f"{name}={args.data / name}", *options, "--out", catalogue)
    carina("train", catalogue, "--recipe", folder / "recipe.toml", *override, "--out", run)
    targets = [word for target in TARGETS for word in ("--target-sensitivity", target)]
    carina("calibrate", run / "bundle", catalogue, *targets, "--site", name, "--out", bundle)
    carina("evaluate", bundle, catalogue, "--split", "test", "--out", folder / "evaluation")
    return {
        "catalogue.json": json.loads((catalogue / "catalogue.json").read_text()),
        "bundle.json": json.loads((bundle / "bundle.json").read_text()),
        "metrics.json": json.loads((folder / "evaluation" / "metrics.json").read_text()),
    }


def other_hospital(args: argparse.Namespace, labels: Path) -> dict[str, Any]:
    """The calibrated bundle of Shenzhen on all NIH films."""
    folder = args.out / "elsewhere"
    sides = ("--valid", 0, "--test", 0.9)
    carina("compile", f"nih={args.data / 'nih'}", "--labels", labels, *sides, "--out", folder / "catalogue")
    bundle = args.out / "shenzhen" / "calibrated"
    carina("evaluate", bundle, folder / "catalogue", "--split", "test", "--out", folder / "evaluation")
    return {"metrics.json": json.loads((folder / "evaluation" / "metrics.json").read_text())}


def site_check(args: argparse.Namespace) -> str:
    """What the site check says of the other hospital's films, as if nobody had labelled them."""
    bundle = args.out / "shenzhen" / "calibrated"
    films = sorted((args.data / "nih").rglob("*.png"))
    paths = films[:: max(1, len(films) // 200)]
    return "\n".join(check(bundle, paths, site="shenzhen").lines())


def refusals(shenzhen: Path, elsewhere: Path, *, each: int = 40) -> str:
    """Shares of films and other pictures that the gate of the Shenzhen bundle refuses."""
    scorer = Scorer(shenzhen / "calibrated")
    gate, square = Gate.of(scorer.bundle), scorer.bundle.preparation
    home = _films(Catalogue.open(shenzhen / "catalogue"), square)
    groups = {"true films, test part": home, "true films of NIH": _films(Catalogue.open(elsewhere), square)}
    groups |= {
        f"true films, {how}": [prepare(spoilt(film, how), square) for film in home[::2]] for how in SPOILT
    }
    drawn = {"radiographs of other parts, drawn": (foreign, FOREIGN), "no radiograph": (scene, SCENES)}
    for name, (draw, kinds) in drawn.items():
        groups[name] = [
            prepare(draw(kind, seed=90_000 + number, size=256), square)
            for kind in kinds
            for number in range(each)
        ]
    rows = []
    for name, films in groups.items():
        outputs = scorer.predict(np.stack(films))
        looks = np.array([sane(film, cropped=gate.cropped, limit=gate.oddest) is not None for film in films])
        far = np.zeros(len(films), dtype=bool)
        if gate.reference is not None and gate.threshold is not None:
            far = gate.reference.distances(outputs.embedding) > gate.threshold
        rows.append([name, len(films), *(f"{part.mean():.1%}" for part in (looks, far, looks | far))])
    return markdown(["pictures", "number", "by look", "by distance", "refused"], rows)


def _films(catalogue: Catalogue, square: Preparation) -> list[NDArray[np.uint8]]:
    """The prepared films of the test part, (S, S) uint8 each."""
    return [load(path, square)[0] for path in catalogue.table("test")["path"].to_pylist()[:300]]


def said(found: dict[str, Any]) -> list[str]:
    """Which people, the points, and the probabilities before and after."""
    (site,) = found["bundle.json"]["sections"]["operating_points"].values()
    claims, metrics = found["metrics.json"]["claims"], found["metrics.json"]["metrics"]
    first = site["points"][0]
    area = metrics["disease_auc"]
    carried = {point["target"] for point in site["points"]}
    refused = ", ".join(f"{target:.0%}" for target in TARGETS if target not in carried)
    people = first["sensitivity"]["people"], first["specificity"]["people"]
    before, after = claims["reliability"], claims["corrected"]
    behind = (
        f"{found['bundle.json']['data']['images']} training films; calibrated on {people[0]} diseased and "
        f"{people[1]} healthy people. Test: area under ROC {area['value']:.3f} "
        f"({area['low']:.3f}–{area['high']:.3f})."
    )
    probabilities = (
        f"Calibration error on the test part {before['ece']:.3f} → {after['ece']:.3f} (chance alone stays "
        f"below {after['ece_by_chance']:.3f}), Brier score {before['brier']:.3f} → {after['brier']:.3f}, by "
        f"{METHODS[claims['method']]}."
    )
    cannot = f" Refused, because so few people cannot show it: {refused}." if refused else ""
    return [behind + cannot, points(claims), probabilities]


def points(claims: dict[str, Any]) -> str:
    """What was promised and what is found."""
    rows = [
        [
            f"{point['target']:.0%}",
            f"{100 * point['promised']:.1f} %",
            counted(point["sensitivity"]),
            point["verdict"],
            counted(point["specificity"]),
            f"{point['below'] / point['films']:.0%}",
        ]
        for point in claims["points"]
    ]
    head = [
        "target",
        "shown at least",
        "found on test (95 % interval)",
        "promise",
        "specificity",
        "films below",
    ]
    return markdown(head, rows)


def who_bar(points: list[dict[str, Any]]) -> str:
    """Where the points stand against what WHO asks of a test that triages for tuberculosis."""
    asked = (
        "WHO asks a test that triages for tuberculosis for a sensitivity of at least 90 % at a specificity "
        "of at least 70 %"
    )
    shown = [point for point in points if point["sensitivity"]["value"] >= 0.9]
    if not shown:
        return f"**{asked}: no point here reaches the sensitivity.**"
    best = max(shown, key=lambda point: float(point["specificity"]["value"]))
    hits, spared = (counted(best[side]) for side in ("sensitivity", "specificity"))
    met = "met" if best["specificity"]["value"] >= 0.7 else "not met: too many false alarms"
    return f"**{asked}. Here: {hits}; specificity {spared}: {met}.**"


def counted(found: dict[str, Any]) -> str:
    """``96.2 % (91.3–98.7), 126 of 131``."""
    value, low, high = (100 * found[key] for key in ("value", "low", "high"))
    return f"{value:.1f} % ({low:.1f}–{high:.1f}), {found['hits']} of {found['people']}"


if __name__ == "__main__":
    main()
