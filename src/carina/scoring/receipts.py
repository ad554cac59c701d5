"""Whether a bundle is the one that was verified before: a receipt for a verification.

Hashing every file of a bundle takes longer than scoring a film. So a verified bundle leaves a receipt
among what Carina keeps for the user: for each file its inode, size and times of last change. As long as all
of them are the same, the files are; the time of the last status change (``st_ctime``) is the kernel's and
cannot be set back. What changed in any way has no receipt, and is verified again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from typing import Any

from carina.scoring import kept
from carina.scoring.contents import LITTER

_FORM = 3
_SETTLED = 1_500_000_000  # ns: a file changed later than this before the verification may change unseen


@dataclass(frozen=True, slots=True)
class Receipt:
    """What scoring needs of a manifest: enough to run the model without reading all of it again."""

    classes: tuple[str, ...]
    healthy: frozenset[str]
    preparation: dict[str, Any]
    model: str  # sha256 of the model
    name: str
    features: int  # numbers of the embedding
    embeddings: str | None  # sha256 of the training films' embeddings
    sections: dict[str, Any]  # what the gate asks of the manifest


Stamps = dict[str, list[int]]  # file → inode facts


def stamps(root: str | os.PathLike[str]) -> Stamps | None:
    """The inode facts of all files in a bundle's folder; ``None`` where one cannot be asked."""
    try:
        with os.scandir(root) as entries:
            found = {
                entry.name: entry.stat(follow_symlinks=False) for entry in entries if entry.name not in LITTER
            }
    except OSError:
        return None
    return {
        name: [facts.st_mode, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
        for name, facts in found.items()
    }


def issue(root: str | os.PathLike[str], before: Stamps | None, receipt: Receipt) -> None:
    """Keep a receipt for a bundle just verified, whose facts were ``before`` when that began."""
    now = time.time_ns()
    if (
        before is None
        or before != stamps(root)
        or any(facts[5] > now - _SETTLED for facts in before.values())
    ):
        return
    content = {
        "form": _FORM,
        "stamps": before,
        "classes": receipt.classes,
        "healthy": sorted(receipt.healthy),
        "preparation": receipt.preparation,
        "model": receipt.model,
        "name": receipt.name,
        "features": receipt.features,
        "embeddings": receipt.embeddings,
        "sections": receipt.sections,
    }
    kept.write(_name(root), json.dumps(content).encode())


def receipt(root: str | os.PathLike[str]) -> Receipt | None:
    """The receipt of the bundle at ``root``; ``None`` unless all its files are as they were."""
    raw = kept.read(_name(root))
    if raw is None:
        return None
    content = json.loads(raw)  # its hash was right, so it is what `issue` wrote
    if content.get("form") != _FORM or content["stamps"] != stamps(root):
        return None
    rest = {
        key: content[key] for key in ("preparation", "model", "name", "features", "embeddings", "sections")
    }
    return Receipt(classes=tuple(content["classes"]), healthy=frozenset(content["healthy"]), **rest)


def _name(root: str | os.PathLike[str]) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:32] + ".receipt"
