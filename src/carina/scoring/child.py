"""What a decoding process does for the scorer: a file in; its prepared square, its facts and its look out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from carina.children.wire import Message
from carina.images import prepare
from carina.scoring.frontal import looks


def load(head: dict[str, Any], data: bytes) -> Message:
    """Read and prepare the film at ``head["path"]``, or in ``data`` where there is no path."""
    preparation = prepare.Preparation.from_dict(head["preparation"])
    source = data if head["path"] is None else Path(head["path"])
    square, facts = prepare.load(source, preparation, name=head["name"])
    return {"facts": dataclasses.asdict(facts), "looks": looks(square).to_dict()}, square.tobytes()
