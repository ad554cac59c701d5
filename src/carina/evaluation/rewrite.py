"""A bundle with one more section: written anew in one piece, its card with it, the model untouched.

A bundle is never changed in place by halves. The new one has the same files under the same hashes, but
for the card, which follows from the manifest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carina.errors import BundleError, OutputError
from carina.evaluation.card import card_files
from carina.folders import check_can_write
from carina.scoring.bundle import Bundle, check_may_write, write_bundle
from carina.scoring.manifest import CARD, CARD_JSON, MANIFEST, MODEL
from carina.scoring.operating import SECTION


def rewrite(bundle: Bundle, out: Path, sections: Mapping[str, Mapping[str, Any]]) -> Bundle:
    """The bundle at ``out`` with these sections beside those it has (which they replace).

    Raises ``OutputError`` where it cannot be written, ``BundleError`` where a file changed meanwhile.
    """
    manifest = bundle.manifest.model_copy(update={"sections": {**bundle.manifest.sections, **sections}})
    cards = card_files(manifest)
    kept = {name: sha256 for name, sha256 in bundle.manifest.files.items() if name not in (CARD, CARD_JSON)}
    try:
        written = write_bundle(out, manifest, {**{name: bundle.root / name for name in kept}, **cards})
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}); free space or name another folder"
        ) from error
    if any(written.manifest.files[name] != sha256 for name, sha256 in kept.items()):
        raise BundleError(f"{bundle.root}: a file changed while it was copied; write it again")
    return written


def beside(bundle: Bundle, site: str) -> Path:
    """Where a bundle with points for ``site`` is written unless a place is named: ``BUNDLE-SITE``."""
    root = bundle.root if bundle.root.name not in ("", "..") else bundle.root.resolve()
    ending = re.sub(r"[^\w.-]+", "-", site)
    return root.with_name(f"{root.name}-{ending}")


def check_place(bundle: Bundle, out: Path, site: str | None = None) -> None:
    """Raises ``OutputError`` for a folder in the bundle, or one that cannot be written; asked beforehand.

    Also where what stands there would be lost: another model, or points for other sites than ``bundle`` has
    and ``site``, which is written.
    """
    if out.resolve() != bundle.root.resolve() and out.resolve().is_relative_to(bundle.root.resolve()):
        raise OutputError(f"{out}: lies in the bundle; name a folder outside it, or the bundle itself")
    check_can_write(out)
    check_may_write(out)
    _check_loses_nothing(bundle, out, site)


def _check_loses_nothing(bundle: Bundle, out: Path, site: str | None) -> None:
    if out.resolve() == bundle.root.resolve() or not (out / MANIFEST).is_file():
        return
    try:
        there = Bundle.open(out)
    except BundleError:  # nothing can be done with it
        return
    if there.manifest.files[MODEL] != bundle.manifest.files[MODEL]:
        raise OutputError(f"{out}: another model stands there; name another folder, or remove that one")
    mine = bundle.manifest.sections.get(SECTION, {})
    lost = sorted(set(there.manifest.sections.get(SECTION, {})) - set(mine) - {site})
    if lost:
        raise OutputError(
            f"{out}: has operating points for {lost[0]!r}, which {bundle.root} has not and which would be "
            f"lost; begin with {out}, or name another folder"
        )
