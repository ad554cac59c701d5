"""The epochs of a training, read back from ``history.jsonl``.

Knows the file, not the training: a row is whatever the training wrote, one JSON object an epoch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carina.errors import RunError
from carina.scoring.bundle import Bundle


def read_history(bundle: Bundle, run: Path | None) -> tuple[dict[str, Any], ...]:
    """The epochs of a run, oldest first; empty where no run was named and none lies around the bundle.

    A last line that a kill cut short is left out. Raises ``RunError`` for a named run without a
    history, and for a history that is damaged elsewhere.
    """
    name = "history.jsonl"
    if run is not None and not (run / name).is_file():
        raise RunError(
            f"{run}: holds no {name}, so it is no run folder; name the folder that `carina train` wrote"
        )
    places = [run] if run is not None else [bundle.root.parent, bundle.root]
    path = next((place / name for place in places if (place / name).is_file()), None)
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                if number < len(lines):
                    raise RunError(
                        f"{path}: line {number} is damaged; leave it out or train again"
                    ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read ({error}); name another run") from error
    return tuple(rows)
