"""The main road on real films, and the table in ``docs/results.md``.

    CARINA_REAL_DATA=FOLDER python benchmarks/real.py [--backbone timm-name|local-dir:PATH] [--out bench/real]

``FOLDER`` holds public sets in their own layouts, one folder each (``chest_xray``, ``nih``,
``shenzhen``, ``hannover``, ``covid_cxnet``, ``figure1``, ``darkcovidnet``; those that are missing are
left out and said so). Every step is a ``carina`` command, printed before it runs; the figures are read
from the files these commands write. Two jobs are done:

* **six classes**: all sets, labels mapped as ``src/carina/data/labels.toml`` says, ``recipes/quick.toml``;
* **children**: pneumonia against normal, trained on ``chest_xray/train`` alone
  (``recipes/labels-pediatric.toml``), split by patient: the first yardstick (AUC at least 0.985).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SETS = ("chest_xray", "nih", "shenzhen", "hannover", "covid_cxnet", "figure1", "darkcovidnet")
QUICK = ROOT / "recipes" / "quick.toml"


def main() -> None:
    """Run both jobs and write their section of ``docs/results.md``."""
    args = arguments()
    data = Path(args.data)
    found = [name for name in SETS if (data / name).is_dir()]
    if not found:
        raise SystemExit(f"{data}: none of {', '.join(SETS)} is there; set CARINA_REAL_DATA")
    print(f"sets: {', '.join(found)}; missing: {', '.join(sorted(set(SETS) - set(found))) or 'none'}")
    six = job(args, "six", [f"{name}={data / name}" for name in found], ())
    pediatric = ("--labels", str(ROOT / "recipes" / "labels-pediatric.toml"))
    children = job(args, "children", [f"chest_xray={data / 'chest_xray'}"], pediatric) if "chest_xray" in found else None
    text = section(six, children, args.backbone)
    write_section(ROOT / "docs" / "results.md", "real", text)
    print(text)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CARINA_REAL_DATA", "data"))
    parser.add_argument("--backbone", default=os.environ.get("CARINA_BACKBONE"), help="overrides the recipe's")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "real")
    return parser.parse_args()


def job(args: argparse.Namespace, name: str, sources: Sequence[str], compile_options: Sequence[str]) -> dict[str, Any]:
    """Compile, train, evaluate on the test split; answers with what the commands wrote and how long they took."""
    folder = args.out / name
    catalogue, run = folder / "catalogue", folder / "run"
    override = ("--set", f"model.backbone={args.backbone}") if args.backbone else ()
    seconds = {
        "compile": carina("compile", *sources, *compile_options, "--out", catalogue),
        "train": carina("train", catalogue, "--recipe", QUICK, *override, "--out", run),
        "evaluate": carina("evaluate", run / "bundle", catalogue, "--split", "test", "--out", folder / "evaluation"),
    }
    return {
        "seconds": seconds,
        "catalogue": json.loads((catalogue / "catalogue.json").read_text()),
        "metrics": json.loads((folder / "evaluation" / "metrics.json").read_text()),
    }


def carina(*arguments: object) -> float:
    """Run one command and answer with its wall seconds."""
    line = [str(argument) for argument in arguments]
    print(f"\n$ carina {' '.join(line)}", flush=True)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "carina", *line], check=True)
    return time.perf_counter() - start
