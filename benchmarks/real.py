"""The main road on real films, and the table in ``docs/results.md``.

    CARINA_REAL_DATA=FOLDER CARINA_BACKBONE=local-dir:PATH python benchmarks/real.py [--out bench/real]

``FOLDER`` holds public sets in their own layouts, one folder each (``chest_xray``, ``nih``,
``shenzhen``, ``hannover``, ``covid_cxnet``, ``figure1``, ``darkcovidnet``; ``carina sources NAME`` says
where each is had). ``CARINA_BACKBONE`` is needed without internet: a folder with the weights of
mobilenetv2_100 as timm writes them. What will run, and what is left out because its set is not there, is
said before anything runs. With sets missing, the table goes to ``OUT/results.md``, and
``docs/results.md`` keeps the figures of all of them. Exit code 1: nothing to run, or a command failed.

Every step is a ``carina`` command, printed before it runs; the figures are read
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
    data, found = sets_in(args.data)
    missing = [name for name in SETS if name not in found]
    day = time.strftime("%Y-%m-%d")
    announce(args, data, found, missing)
    check_backbone(args.backbone)
    six = job(args, "six", [f"{name}={data / name}" for name in found], ())
    pediatric = ("--labels", str(ROOT / "recipes" / "labels-pediatric.toml"))
    children = None
    if "chest_xray" in found:
        children = job(args, "children", [f"chest_xray={data / 'chest_xray'}"], pediatric)
    text = "\n\n".join(section(six, children, day))
    print(text)
    if missing:
        (args.out / "results.md").write_text(text + "\n", "utf-8")
        print(f"\n{args.out / 'results.md'}: without {', '.join(missing)}; docs/results.md is left as it is")
    else:
        write_section(ROOT / "docs" / "results.md", "real", text)


def sets_in(folder: str | None) -> tuple[Path, list[str]]:
    """The folder of the sets, and which lie there; where none do, the program ends with what to set."""
    names = ", ".join(SETS)
    if folder is None:
        raise SystemExit(
            "real.py: no films; set CARINA_REAL_DATA to a folder that holds public sets, one folder each: "
            f"{names} (carina sources NAME says where each is had)"
        )
    data = Path(folder).expanduser()
    found = [name for name in SETS if (data / name).is_dir()]
    if not found:
        raise SystemExit(f"real.py: {data}: none of {names} is there; set CARINA_REAL_DATA to where they are")
    return data, found


def announce(args: argparse.Namespace, data: Path, found: Sequence[str], missing: Sequence[str]) -> None:
    """Say what will run, and what will not."""
    children = "runs" if "chest_xray" in found else "is skipped: it needs chest_xray"
    print(f"sets in {data}: {', '.join(found)}")
    print(f"not there, so left out: {', '.join(missing) or 'none'}")
    print(f"six classes: runs\nchildren, pneumonia against normal: {children}")
    print(f"backbone: {args.backbone or 'as the recipe quick says, from the internet'}", flush=True)


def check_backbone(backbone: str | None) -> None:
    """Have the weights before films are read for an hour; ends the program with what to set."""
    from carina.errors import CarinaError
    from carina.training.recipe import load_recipe
    from carina.training.weights import build

    recipe = load_recipe(QUICK, [f"model.backbone={backbone}"] if backbone else [])
    try:
        build(recipe.model, 2, size=recipe.stage[0].size, seed=0)
    except CarinaError as error:
        raise SystemExit(
            f"real.py: {error}\nWithout internet, set CARINA_BACKBONE=local-dir:PATH to a folder with the "
            "config.json and model.safetensors of mobilenetv2_100"
        ) from None


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("CARINA_REAL_DATA"), help="folder of the sets")
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
    done = subprocess.run([sys.executable, "-m", "carina", *line], check=False)
    if done.returncode:
        raise SystemExit(
            f"real.py: carina {line[0]} failed (exit code {done.returncode}); nothing was reported"
        )
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
