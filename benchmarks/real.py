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
import subprocess
import sys
import time
from collections.abc import Sequence
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
    day = time.strftime("%Y-%m-%d")
    if not found:
        raise SystemExit(f"{data}: none of {', '.join(SETS)} is there; set CARINA_REAL_DATA")
    print(f"sets: {', '.join(found)}; missing: {', '.join(sorted(set(SETS) - set(found))) or 'none'}")
    six = job(args, "six", [f"{name}={data / name}" for name in found], ())
    pediatric = ("--labels", str(ROOT / "recipes" / "labels-pediatric.toml"))
    children = None
    if "chest_xray" in found:
        children = job(args, "children", [f"chest_xray={data / 'chest_xray'}"], pediatric)
    text = "\n\n".join(section(six, children, day))
    write_section(ROOT / "docs" / "results.md", "real", text)
    print(text)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("CARINA_REAL_DATA", "data"))
    parser.add_argument(
        "--backbone", default=os.environ.get("CARINA_BACKBONE"), help="overrides the recipe's"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "real")
    return parser.parse_args()


def job(
    args: argparse.Namespace, name: str, sources: Sequence[str], compile_options: Sequence[str]
) -> dict[str, Any]:
    """Compile, train, evaluate on the test split; answers with what was written and how long it took."""
    folder = args.out / name
    catalogue, run = folder / "catalogue", folder / "run"
    override = ("--set", f"model.backbone={args.backbone}") if args.backbone else ()
    seconds = {
        "compile": carina("compile", *sources, *compile_options, "--out", catalogue),
        "train": carina("train", catalogue, "--recipe", QUICK, *override, "--out", run),
        "evaluate": carina(
            "evaluate", run / "bundle", catalogue, "--split", "test", "--out", folder / "evaluation"
        ),
    }
    return {
        "seconds": seconds,
        "catalogue": json.loads((catalogue / "catalogue.json").read_text()),
        "manifest": json.loads((run / "bundle" / "bundle.json").read_text()),
        "metrics": json.loads((folder / "evaluation" / "metrics.json").read_text()),
    }


def carina(*arguments: object) -> float:
    """Run one command and answer with its wall seconds."""
    line = [str(argument) for argument in arguments]
    print(f"\n$ carina {' '.join(line)}", flush=True)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "carina", *line], check=True)
    return time.perf_counter() - start


def section(six: dict[str, Any], children: dict[str, Any] | None, day: str) -> list[str]:
    """The paragraphs and tables of ``docs/results.md``."""
    recipe = six["manifest"]["recipe"]
    backbone = str(recipe["model"]["backbone"]).rsplit("/", 1)[-1]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, no GPU"
    parts = [
        f"Measured on {day}: {machine}; `recipes/quick.toml`, {backbone}.",
        "### Six classes, all sets",
        counts(six["catalogue"]),
        copies(six["catalogue"]),
        minutes(six["seconds"]),
        "On the test split (no patient, no near copy on two sides); 95 % intervals, bootstrapped by patient:",
        headline(six["metrics"]["metrics"]),
        f"> {six['metrics']['verdict']['sentence']}",
        classes(six["metrics"]["metrics"]),
    ]
    if children is not None:
        metrics = children["metrics"]["metrics"]
        parts += [
            "### Children: pneumonia against normal, `chest_xray/train` alone",
            minutes(children["seconds"]),
            headline(metrics),
            f"> {children['metrics']['verdict']['sentence']}",
        ]
    return parts


def counts(catalogue: dict[str, Any]) -> str:
    """Source × class, films kept; the last columns are what was not."""
    names = catalogue["classes"]
    head = ["source", *names, "films", "merged or left out"]
    rows = []
    for source, row in catalogue["counts"].items():
        left = sum(catalogue["dropped"].get(source, {}).values())
        rows.append([source, *(row.get(name, 0) for name in names), sum(row.values()), left])
    rows.append(["all", *(sum(row[i] for row in rows) for i in range(1, len(head)))])
    return markdown(head, rows)


def copies(catalogue: dict[str, Any]) -> str:
    """One sentence on copies."""
    merged = sum(row.get("exact_copy", 0) for row in catalogue["dropped"].values())
    return (
        f"{catalogue['images']} films of {catalogue['patients']} patients. {merged} exact copies merged; "
        f"{catalogue['near_films']} films stand in {catalogue['near_groups']} groups of near copies; "
        f"{catalogue['conflict_groups']} groups with conflicting labels were left out."
    )


def minutes(seconds: dict[str, float]) -> str:
    """How long each command took."""
    return "Wall time: " + ", ".join(f"{name} {value / 60:.1f} min" for name, value in seconds.items()) + "."


def headline(metrics: dict[str, Any]) -> str:
    """Healthy against diseased first, recall the first row."""
    found = metrics["detection"]
    rows = [
        ["recall of disease", interval(found["sensitivity"]), behind(found["sensitivity"], "diseased")],
        ["specificity", interval(found["specificity"]), behind(found["specificity"], "healthy")],
        ["AUC, diseased against healthy", interval(metrics["disease_auc"], percent=False), ""],
        [f"accuracy, {len(metrics['classes'])} classes", interval(metrics["accuracy"]), ""],
    ]
    return markdown(["", "value (95 % interval)", "behind it"], rows)


def classes(metrics: dict[str, Any]) -> str:
    """Recall and precision of each class."""
    rows = [
        [each["name"], each["films"], interval(each["recall"]), interval(each["precision"])]
        for each in metrics["per_class"]
    ]
    return markdown(["class", "films", "recall", "precision"], rows)


def interval(rate: dict[str, Any], *, percent: bool = True) -> str:
    """``0.93 (0.90–0.95)``, in per cent where it is a rate."""
    if rate["value"] is None:
        return str(rate.get("why") or "unknown")
    scale, digits, unit = (100, 1, " %") if percent else (1, 3, "")
    value, low, high = (f"{rate[key] * scale:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value}{unit} ({low}–{high})"


def behind(rate: dict[str, Any], kind: str) -> str:
    """The films and patients a rate stands on."""
    return f"{rate['films']} {kind} films of {rate['patients']} patients"


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; numbers to the right."""
    right = [bool(rows) and isinstance(rows[0][i], int) for i in range(len(head))]
    lines = [head, ["---:" if number else "---" for number in right], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write_section(path: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of ``name`` in ``path``."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    page = path.read_text("utf-8")
    if start not in page or end not in page:
        raise SystemExit(f"{path}: has no section {start}")
    before, after = page.split(start)[0], page.split(end)[1]
    path.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", "utf-8")


if __name__ == "__main__":
    main()
