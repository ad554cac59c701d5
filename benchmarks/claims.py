"""Promises on real films: what operating points promise, and what other films of the same place say.

    CARINA_REAL_DATA=FOLDER python benchmarks/claims.py [--backbone NAME|local-dir:PATH] [--out bench/claims]

Each job compiles one public set with a three-way split by patient (train / calibrate / test), trains
a small network, calibrates on the second part, and holds the promises against the third:

* **shenzhen**: tuberculosis against normal; WHO asks a triage test for at least 90 % at 70 %;
* **children**: pneumonia against normal, in ``chest_xray/train``;
* **elsewhere**: the thresholds of Shenzhen on NIH films, where they must be seen to fail.

Every step is a ``carina`` command; the table goes into ``docs/results.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from real import ROOT, carina, markdown, write_section

from carina.evaluation.wording import METHODS

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
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
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
        "### Pneumonia against normal in children, `chest_xray/train`",
        *said(children),
        "### The thresholds of Shenzhen on NIH films (any finding against none)",
        ELSEWHERE,
        points(elsewhere["metrics.json"]["claims"]),
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


def counted(found: dict[str, Any]) -> str:
    """``96.2 % (91.3–98.7), 126 of 131``."""
    value, low, high = (100 * found[key] for key in ("value", "low", "high"))
    return f"{value:.1f} % ({low:.1f}–{high:.1f}), {found['hits']} of {found['people']}"


if __name__ == "__main__":
    main()
