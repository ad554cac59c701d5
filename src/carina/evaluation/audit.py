"""Audit a catalogue, and the figures of a bundle on it: ``audit.json`` and ``audit.html``.

The work is in ``carina.data.confounding``; here a bundle is asked about the same films, and both are put
on one page. ``audit.json`` goes into the catalogue as well, where training and evaluation find it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carina.data.catalogue import Catalogue
from carina.data.confounding import lookaway
from carina.data.confounding.audit import Audit, full_audit, picture_baselines, write_audit
from carina.data.confounding.baselines import Baseline
from carina.data.confounding.verdict import area
from carina.data.pixels import PixelCache
from carina.errors import DataError, MissingExtra, OutputError
from carina.evaluation.answers import cached, embeddings
from carina.folders import check_outside_bundles
from carina.images.prepare import Preparation
from carina.records import Progress
from carina.scoring.bundle import Bundle
from carina.scoring.scorer import Scorer

try:
    from carina.evaluation import audit_page
    from carina.evaluation.audit_page import Remedied
    from carina.evaluation.probe import ModelFigures, model_figures
    from carina.evaluation.selection import truth
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("jinja2", "matplotlib", "scipy", "sklearn"):
        raise
    raise MissingExtra("carina audit", "report") from error

Tell = Callable[[Progress], None] | None
PAGE = "audit.html"


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What was found, and where it was written."""

    out: Path
    audit: Audit
    model: ModelFigures | None
    remedied: Remedied | None = None

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """What a terminal shows: accuracy and the area of each class, a row for each thing that is asked."""
        rows = [
            (
                audit_page.NAMES[each.key],
                "" if each.accuracy is None else f"{100 * each.accuracy:.1f} %",
                *(_area(each.rows.get(name)) for name in self.audit.classes),
                each.why or "",
            )
            for each in self.audit.baselines
        ]
        if self.remedied is not None:
            after = {audit_page.NAMES[each.key]: each for each in self.remedied.baselines}
            rows = [line for row in rows for line in (row, *self._after(after.get(row[0])))]
        if self.model is not None:
            cells = (_area(self.model.rows.get(name)) for name in self.audit.classes)
            told = f"{100 * self.model.accuracy:.1f} %"
            rows.insert(0, (f"the model ({self.model.split})", told, *cells, ""))
        head = ("who sees only", "accuracy", *self.audit.classes, "")
        return head, rows

    def _after(self, each: Baseline | None) -> list[tuple[str, ...]]:
        """The row below that of a baseline: the same on the films as the remedies leave them."""
        if each is None or each.accuracy is None:
            return []
        cells = (_area(each.rows.get(name)) for name in self.audit.classes)
        return [("  after the remedies", f"{100 * each.accuracy:.1f} %", *cells, "")]

    def lines(self) -> list[str]:
        """The verdict, and what could not be told."""
        said = [self.audit.verdict.sentence]
        if self.remedied is not None:
            said.append(
                f"Remedies ({self.remedied.words}) change what the pictures give away, not what source and "
                "header do; the verdict is of the films as they are."
            )
        if self.audit.verdict.untold:
            said.append(f"Could not be told: {'; '.join(self.audit.verdict.untold)}.")
        return said


def audit(
    catalogue: Catalogue | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    model: Bundle | str | os.PathLike[str] | None = None,
    split: str = "test",
    preparation: Preparation | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Tell = None,
) -> AuditResult:
    """Audit the films of ``catalogue`` and, on those of ``split``, the bundle ``model``.

    What the pictures give away is measured a second time on films prepared by the remedies of
    ``preparation`` (default: those of ``model``), where it has any. The verdict is of the films as they
    are. Raises ``MissingExtra`` without the ``report`` extra, ``CatalogueError``, ``BundleError`` and
    ``CacheError`` for what cannot be opened or read, ``DataError`` when bundle and catalogue do not fit
    together and ``OutputError`` when the results cannot be written.
    """
    catalogue = catalogue if isinstance(catalogue, Catalogue) else Catalogue.open(Path(catalogue))
    folder = _folder(Path(out))
    bundle = None if model is None else model if isinstance(model, Bundle) else Bundle.open(model)
    if bundle is not None:
        truth(catalogue.table(split), bundle, catalogue)  # complains before minutes of work, not after
    cache = PixelCache.build(catalogue, lookaway.PREPARATION, workers=workers, progress=progress)
    found = full_audit(catalogue, cache, seed=seed, progress=progress)
    if preparation is None and bundle is not None:
        preparation = bundle.preparation
    remedied = _remedied(catalogue, preparation, seed, workers, progress)
    figures = None if bundle is None else _figures(bundle, catalogue, split, progress)
    content = found.to_dict() | {
        "model": None if figures is None else asdict(figures),
        "remedied": None if remedied is None else remedied.to_dict(),
    }
    page = audit_page.render(found, figures, _examples(catalogue, cache), remedied, title=catalogue.root.name)
    _write(folder, page, content)
    if folder.resolve() != catalogue.root.resolve():
        with suppress(OutputError):  # a catalogue may lie where nobody may write
            write_audit(catalogue.root, found.to_dict())
    return AuditResult(folder, found, figures, remedied)


def _remedied(
    catalogue: Catalogue, preparation: Preparation | None, seed: int, workers: int | None, tell: Tell
) -> Remedied | None:
    """The baselines of the pictures after the remedies; None where there are none."""
    if preparation is None or preparation == preparation.plain:
        return None
    asked = replace(preparation, size=lookaway.PREPARATION.size, fit=lookaway.PREPARATION.fit)
    cache = PixelCache.build(catalogue, asked, workers=workers, progress=tell)
    return Remedied(
        asked.to_dict(), picture_baselines(catalogue, cache, seed=seed), _examples(catalogue, cache)
    )


def _folder(out: Path) -> Path:
    check_outside_bundles(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be made ({error.strerror}); name another folder with --out"
        ) from error
    return out


def _figures(bundle: Bundle, catalogue: Catalogue, split: str, tell: Tell) -> ModelFigures:
    films = catalogue.table(split)
    given = list(embeddings(Scorer(bundle), films, cached(catalogue, bundle.preparation), tell))
    if all(answer is None for answer in given):
        raise DataError(f"{catalogue.root}: none of the {len(given)} films of {split} could be scored")
    return model_figures(bundle.manifest.name, split, films, bundle.classes, sorted(bundle.healthy), given)


def _examples(catalogue: Catalogue, cache: PixelCache) -> list[tuple[str, NDArray[np.uint8]]]:
    """One film of each class, (S, S)."""
    names, hashes = (catalogue.films[column].to_pylist() for column in ("class", "sha256"))
    first = {name: hashes[names.index(name)] for name in catalogue.classes if name in names}
    return list(zip(first, cache.array(list(first.values())), strict=True))


def _write(folder: Path, page: str, content: dict[str, Any]) -> None:
    try:
        (folder / PAGE).write_text(page, "utf-8")
    except OSError as error:
        raise OutputError(
            f"{folder}: {PAGE} cannot be written ({error.strerror}); free space or name another folder"
        ) from error
    write_audit(folder, content)  # last: its presence means that the page is whole


def _area(figure: Any) -> str:
    return "" if figure is None or figure.value is None else area(figure.value)
