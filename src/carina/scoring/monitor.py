"""What a site check found, as a file: it takes "likely clear" back without anybody retyping a word.

Knows the file and what follows from it, not how a site is checked (:mod:`carina.evaluation.site_check`).
A finding belongs to one model and one site; that of another is refused, never taken for this one.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carina.errors import ClaimError, OutputError
from carina.folders import check_outside_bundles
from carina.scoring.bundle import Bundle
from carina.scoring.manifest import MODEL, first_fault

Verdict = Literal["broken", "shifted", "too few to tell", "another mixture", "nothing seen"]

_MEANS: dict[Verdict, str] = {
    "broken": "found that thresholds do not keep their promise",
    "shifted": "found that films are unlike those the thresholds were chosen on",
    "too few to tell": "had too few films to tell whether the thresholds hold",
}


class Finding(BaseModel):
    """One site check. ``model`` is the sha256 of the model.onnx that was asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    created: str = Field(max_length=40)  # ISO 8601, UTC
    model: str
    site: str
    films: int = Field(ge=0)
    verdict: Verdict
    lines: tuple[str, ...]  # what a person was told


def check_place(path: Path) -> None:
    """Raises ``OutputError`` where no finding can be written; asked before the films are scored."""
    check_outside_bundles(path)
    if path.suffix.lower() != ".json":
        raise OutputError(f"{path}: a finding is written as .json; choose this ending")


def write_finding(finding: Finding, path: Path) -> None:
    """Write the file, whole or not at all. Raises ``OutputError``."""
    check_place(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(finding.model_dump_json(indent=2) + "\n", "utf-8")
        part.replace(path)
    except OSError as error:
        fault = os.strerror(error.errno) if error.errno else str(error)
        raise OutputError(f"{path}: cannot be written: {fault}; make room or name another place") from error
    finally:
        part.unlink(missing_ok=True)


def withdrawal(path: str | os.PathLike[str], bundle: Bundle, site: str) -> str | None:
    """Why "likely clear" is taken back by the finding at ``path``; None where nothing speaks against it.

    Another share of disease does not: a sensitivity does not depend on it. A check that cannot tell takes
    it back as well. Raises ``ClaimError`` where the file is no finding, or one about another model or site.
    """
    try:
        finding = Finding.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise ClaimError(
            f"{path}: cannot be read ({error.strerror}); run: carina site-check … --out"
        ) from error
    except ValidationError as error:
        raise ClaimError(
            f"{path}: {first_fault(error)}; write it again: carina site-check … --out"
        ) from error
    if finding.model != bundle.manifest.files[MODEL] or finding.site != site:
        raise ClaimError(
            f"{path}: speaks of another model or of the site {finding.site!r}, not of {site!r} with "
            f"{bundle.root}; check these: carina site-check … --out"
        )
    means = _MEANS.get(finding.verdict)
    return None if means is None else f"the site check of {finding.created} {means}"
