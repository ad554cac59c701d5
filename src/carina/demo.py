"""The demonstration: which commands it consists of, and the folder it may replace.

Every step is a command line that a user could type; the ``demo`` verb prints and runs them in order.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from shlex import quote

from carina import programs
from carina.errors import CarinaError
from carina.folders import check_can_write

MARK = ".carina-demo"


def start_over(out: Path) -> None:
    """Make ``out`` an empty folder; replaces an earlier demonstration and nothing else.

    Raises ``CarinaError`` when ``out`` holds anything that a demonstration did not write, or is no place to
    write.
    """
    check_can_write(out)
    if (out / MARK).is_file():
        shutil.rmtree(out)
    elif out.exists() and any(out.iterdir()):
        raise CarinaError(f"{out}: exists and is no earlier demonstration; name another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).write_text("This folder is replaced by the next `carina demo`.\n", encoding="utf-8")


def steps(out: Path, *, per_class: int) -> tuple[tuple[str, ...], ...]:
    """The command lines of the demonstration, without the leading ``carina``."""
    films, catalogue, run, bundle = out / "films", out / "catalogue", out / "run", out / "run" / "bundle"
    sources = [films / name for name in ("hospital_a", "hospital_b", "hospital_c")]
    scores = ("--out", out / "scores.csv", "--heatmaps", out / "heatmaps")
    lines: tuple[tuple[object, ...], ...] = (
        ("phantoms", "--out", films, "--per-class", per_class),
        ("compile", *sources, "--out", catalogue),
        ("train", catalogue, "--recipe", "demo", "--out", run),
        ("evaluate", bundle, catalogue, "--split", "test", "--out", out / "evaluation"),
        ("score", films / "unseen" / "films", "--model", bundle, *scores),
    )
    return tuple(tuple(str(word) for word in line) for line in lines)


def serving_lines(out: Path) -> tuple[str, ...]:
    """The command lines that serve the demonstration's model and send it films, as a user types them."""
    ours, storescu = programs.carina(), programs.dcmtk("storescu")
    data, films = quote(str(out / "data")), quote(str(out / "films" / "unseen" / "films"))
    return (
        f"{ours} serve --model {quote(str(out / 'run' / 'bundle'))} --data {data}",
        f"{ours} user add NAME --role admin --data {data}",
        f"{storescu} -aec CARINA +sd +r +sp '*.dcm' 127.0.0.1 11112 {films}",
        f"{ours} worklist --data {data}",
    )
