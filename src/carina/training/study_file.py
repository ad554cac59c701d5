"""A study: many recipes in one TOML file, and what was reported for each before.

    name = "report"
    [data] [model] [train]     what all rows share, as in a recipe
    [mix]                      films of each class in the population that accuracy is weighted to
    [[row]]                    a name, what it tries, its own keys over the shared ones, its stages
    [row.reported]             figures that somebody else stated for this row; only what they stated

A row that says ``after = "NAME"`` goes on where that row ends: it has that row's keys and stages, and then
its own. Knows nothing of torch, catalogues or runs.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carina.errors import RecipeError
from carina.training.recipe import Recipe, overridden, override, parse_recipe, read_toml, shipped

SHARED = ("data", "model", "train")
_NAME = re.compile(r"[\w.+-]+")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reported(_Strict):
    """What somebody else stated for a row, in their own words; None: not known."""

    images: Annotated[int, Field(gt=0)] | None = None
    body: str | None = None
    size: str | None = None
    lr: str | None = None
    minutes: Annotated[float, Field(ge=0)] | None = None
    epochs: Annotated[int, Field(gt=0)] | None = None
    augmentation: str | None = None
    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None

    def known(self) -> dict[str, Any]:
        """The figures that are known."""
        return self.model_dump(exclude_none=True)


class _RowKeys(_Strict):
    name: str
    says: str = ""
    after: str | None = None
    against: str | None = None
    reported: Reported = Reported()
    data: dict[str, Any] = {}
    model: dict[str, Any] = {}
    train: dict[str, Any] = {}
    stage: Annotated[list[dict[str, Any]], Field(min_length=1)]


class _StudyKeys(_Strict):
    name: str = ""
    title: str = ""
    note: str = ""
    reported: Reported = Reported()
    mix: dict[str, Annotated[int, Field(gt=0)]] = {}
    data: dict[str, Any] = {}
    model: dict[str, Any] = {}
    train: dict[str, Any] = {}
    row: Annotated[list[_RowKeys], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One row: a whole recipe, what it tries, and what was reported. ``against`` names the row to beat."""

    name: str
    says: str
    recipe: Recipe
    reported: Reported
    against: str | None


@dataclass(frozen=True, slots=True)
class Study:
    """The rows in order. ``mix`` is empty where accuracy is not to be weighted."""

    name: str
    title: str
    note: str
    reported: Reported  # of the whole: minutes in all, the best accuracy
    mix: Mapping[str, int]
    rows: tuple[StudyRow, ...]


def load_study(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Study:
    """Read and check a study; ``overrides`` (``key=value``) apply to each row's recipe.

    Those that begin with ``row.N.`` apply to the N-th row of the file (from 1) and to what goes on after it.
    A bare name (``report``) is a study that comes with Carina. Raises RecipeError, naming the file, the
    row, the key, and what to write instead.
    """
    path = shipped(Path(path))
    keys = read_toml(path, "study", ("report", "report-small"))
    keys.setdefault("name", path.stem)
    return parse_study(keys, overrides, origin=str(path))


def parse_study(keys: Mapping[str, Any], overrides: Sequence[str] = (), *, origin: str = "study") -> Study:
    """Check plain data as a study; ``origin`` is how messages call it. Raises RecipeError."""
    if "stage" in keys:
        raise RecipeError(
            f"{origin}: a [[stage]] outside of a row; a study has rows: write it under [[row]] as "
            "[[row.stage]], or train the file as a recipe with `carina train`"
        )
    of_rows = [change for change in overrides if change.startswith("row.")]
    of_all = [change for change in overrides if change not in of_rows]
    keys = copy.deepcopy(dict(keys))
    for change in of_rows:
        override(keys, change)
    try:
        checked = _StudyKeys.model_validate(keys)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in fault["loc"])
        raise RecipeError(f"{origin}: {where}: {_said(fault)}") from None
    shared = {part: dict(getattr(checked, part)) for part in SHARED}
    written: dict[str, dict[str, Any]] = {}
    rows = []
    for row in checked.row:
        whole = _whole(row, shared, written, origin)
        recipe = parse_recipe({"name": row.name, **whole}, origin=f"{origin}: row {row.name}")
        against = row.against or row.after
        if against is not None and against not in written:
            raise RecipeError(f"{origin}: row {row.name}: {against!r} is no row before it; {_known(written)}")
        written[row.name] = whole
        rows.append(StudyRow(row.name, row.says, overridden(recipe, of_all), row.reported, against))
    return Study(checked.name, checked.title, checked.note, checked.reported, checked.mix, tuple(rows))


def _whole(
    row: _RowKeys, shared: Mapping[str, Any], written: Mapping[str, Mapping[str, Any]], origin: str
) -> dict[str, Any]:
    """The keys of a row's recipe: the shared ones or those of the row before it, then its own."""
    if not _NAME.fullmatch(row.name):
        raise RecipeError(
            f"{origin}: row {row.name!r}: a name is letters, digits, dots, dashes; it names a folder"
        )
    if row.name in written:
        raise RecipeError(f"{origin}: two rows are called {row.name!r}; name each once")
    if row.after is not None and row.after not in written:
        raise RecipeError(
            f"{origin}: row {row.name}: after = {row.after!r} is no row before it; {_known(written)}"
        )
    base = shared if row.after is None else written[row.after]
    own = {part: getattr(row, part) for part in SHARED}
    if row.after is not None and any(own.values()):
        part = next(part for part, values in own.items() if values)
        raise RecipeError(
            f"{origin}: row {row.name}: [row.{part}] cannot change after other stages were trained without "
            f"it; leave it out, or write the stages of {row.after!r} here instead of after"
        )
    return {part: {**base[part], **own[part]} for part in SHARED} | {
        "stage": [*base.get("stage", ()), *row.stage]
    }


def _known(written: Mapping[str, Any]) -> str:
    return f"before it stand {', '.join(written)}" if written else "it is the first row"


def _said(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "extra_forbidden":
        return f"unknown key; known here: {', '.join(_RowKeys.model_fields)}"
    if fault["type"] == "missing":
        return "missing; add it"
    text = str(fault["msg"])
    return text[:1].lower() + text[1:]
