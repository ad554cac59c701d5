"""The demonstration: which commands it consists of, and the folder it may replace.

Every step is a command line that a user could type; the ``demo`` verb prints and runs them in order.
"""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

from carina.errors import CarinaError

MARK = ".carina-demo"


def start_over(out: Path) -> None:
    """Make ``out`` an empty folder; replaces an earlier demonstration and nothing else.

    Raises ``CarinaError`` when ``out`` holds anything that a demonstration did not write.
    """
    if out.exists() and not (out / MARK).is_file():
        if not out.is_dir() or any(out.iterdir()):
            raise CarinaError(f"{out}: exists and is no earlier demonstration; name another folder with --out")
    elif out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).write_text("This folder is replaced by the next `carina demo`.\n", encoding="utf-8")


def steps(out: Path, *, per_class: int) -> tuple[tuple[str, ...], ...]:
    """The command lines of the demonstration, without the leading ``carina``."""
    films, catalogue, run = out / "films", out / "catalogue", out / "run"
    bundle = run / "bundle"
    recipe = files("carina") / "recipes" / "demo.toml"
    return (
        ("phantoms", "--out", f"{films}", "--per-class", str(per_class)),
        ("compile", f"{films / 'hospital_a'}", f"{films / 'hospital_b'}", f"{films / 'hospital_c'}", "--out", f"{catalogue}"),
        ("train", f"{catalogue}", "--recipe", f"{recipe}", "--out", f"{run}"),
        ("evaluate", f"{bundle}", f"{catalogue}", "--split", "test", "--out", f"{out / 'evaluation'}"),
        ("score", f"{films / 'unseen' / 'films'}", "--model", f"{bundle}", "--out", f"{out / 'scores.csv'}",
         "--heatmaps", f"{out / 'heatmaps'}"),
    )  # fmt: skip
