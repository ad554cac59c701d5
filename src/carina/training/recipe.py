"""A recipe: what is trained, on what, in which stages. Read from TOML and checked key by key.

Knows nothing of torch, catalogues or files other than the recipe's own. A recipe is a value: frozen,
comparable, and printable as the plain data that stands in a run's folder and in a bundle's manifest.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from carina.errors import RecipeError
from carina.images.prepare import MOST_CROP, Preparation
from carina.training.faults import cure_for, in_words
from carina.training.options import NO_AUGMENT, Augment, Copies, Distractor, Option

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]

Metric = Literal[
    "accuracy", "balanced_accuracy", "worst_recall", "recall_disease", "auc_disease", "valid_loss"
]


Prevalence = dict[str, Annotated[float, Field(gt=0, strict=True)]]
MOST_APART = 1e6  # times that one class may be as frequent as another


class DataPart(Option):
    """``[data]``: which films, and how many at a time."""

    batch: Annotated[int, Field(ge=2, le=65536)] = 64  # films per optimiser step, over all devices
    fit: Literal["stretch", "letterbox", "center_crop"] = (
        "stretch"  # bars would tell a film's shape, and so its source
    )
    trim: bool = False  # cut off black margins
    crop: Annotated[float, Field(ge=0, le=MOST_CROP)] = 0.0  # then this share of each of the four sides
    mask_letters: bool = False  # paint over lettering in the margins
    tone: Literal["plain", "equalised", "clahe"] = "plain"  # one film curve for all films
    classes: tuple[str, ...] | None = None  # None: all classes of the catalogue
    workers: Annotated[int, Field(ge=1)] | None = None  # processes that decode films; None: one a core
    per_class: Annotated[int, Field(ge=2)] | None = None  # training films of each class; None: all
    augment: Copies | None = None  # copies of some training films of one class
    distractor: Distractor | None = None  # a class that means nothing

    @field_validator("classes")
    @classmethod
    def _two_classes(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if classes is not None and (len(classes) < 2 or len(set(classes)) < len(classes)):
            raise ValueError("name at least two classes, each once")
        return classes

    def preparation(self, size: int) -> Preparation:
        """How films become squares of ``size`` pixels."""
        return Preparation(
            size, self.fit, trim=self.trim, crop=self.crop, mask_letters=self.mask_letters, tone=self.tone
        )


class ModelPart(Option):
    """``[model]``: a timm name, ``hf-hub:ORG/NAME`` or ``local-dir:PATH``."""

    backbone: Annotated[str, Field(min_length=1)] = "resnet34"
    pretrained: bool = True
    weights: Annotated[str, Field(min_length=1)] | None = None  # a safetensors file, instead of those
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0  # dropout between pooling and the head


class TrainPart(Option):
    """``[train]``: what holds for all stages."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    optimizer: Literal["adamw"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01  # fastai's default; none on norms and biases
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    prevalence: Prevalence = Field(default_factory=dict)  # films of each class where it will work
    balance: Literal["none", "source"] = "none"  # show the sources of each class equally often
    precision: Precision = "auto"
    augment: Augment = Augment()
    sampling: Literal["all", "balanced"] = "all"  # every film once an epoch, or every class as often
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0  # alpha; 0.2 is usual, 0 is off
    cutmix: Annotated[float, Field(ge=0, le=10)] = 0.0  # alpha; 1 is usual; with both, half of the films each
    clip: Annotated[float, Field(ge=0)] = 0.0  # greatest norm of the gradient; 0: none
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0  # decay of the averaged weights, e.g. 0.998; 0: none
    patience: Annotated[int, Field(ge=0)] = 0  # epochs without a gain after which a stage ends; 0: never
    metric: Metric = "accuracy"  # what patience looks at
    frozen_views: Annotated[int, Field(ge=0, le=1000)] = 0  # augmented views a frozen body sees; 0: all
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 5.0  # 0: after every step

    @model_validator(mode="after")
    def _one_balance(self) -> TrainPart:
        if self.balance != "none" and self.sampling != "all":
            raise ValueError("sampling balances the classes and balance the sources within them; choose one")
        return self

    @field_validator("augment", mode="before")
    @classmethod
    def _named_set(cls, value: Any) -> Any:
        match value:
            case "film":
                return {}
            case "none" | False:
                return NO_AUGMENT
            case Mapping() | Augment():
                return value
        raise ValueError(
            'say "film" for the mild set, "none", or a table such as { rotate = 5, shift = 0.04 }'
        )

    @field_validator("prevalence", mode="before")
    @classmethod
    def _numbers_by_class(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError(
                'give a number of films for each class, names with spaces in quotes: { Normal = 80, "Other '
                'Findings" = 20 }; {} is none'
            )
        return value

    @field_validator("prevalence")
    @classmethod
    def _comparable(cls, prevalence: dict[str, float]) -> dict[str, float]:
        if prevalence and max(prevalence.values()) / min(prevalence.values()) > MOST_APART:
            raise ValueError(
                f"one class is more than {MOST_APART:,.0f} times as frequent as another; look again"
            )
        return prevalence

    @model_validator(mode="after")
    def _balanced_once(self) -> TrainPart:
        if self.sampling == "balanced" and self.class_weights == "balanced":
            raise ValueError(
                'sampling = "balanced" and class_weights = "balanced" both make up for rare classes, and '
                "together twice; choose one"
            )
        if self.prevalence and (self.sampling == "balanced" or self.class_weights == "balanced"):
            raise ValueError(
                'prevalence and "balanced" both say how much each class counts; leave one of them out'
            )
        if self.frozen_views and (self.mixup or self.cutmix):
            raise ValueError(
                "frozen_views keeps the features of single films, and mixup and cutmix show mixtures; "
                "leave one out"
            )
        return self


class Stage(Option):
    """One ``[[stage]]``: a size, a frozen body or not, epochs under one one-cycle, a learning rate.

    ``lr`` is one rate, or two: those of the first and the last layer group, with even ratios between
    them. A frozen body has no first layers that learn, so a frozen stage uses the second of the two.

    "find" lets the rate finder choose one before the stage begins; ``ratio`` says how many times slower
    the first layers learn than that, or than one given rate.

    ``freeze_to`` keeps that many of the first layer groups as they are, statistics included (fastai's
    ``freeze_to``): the first layers see edges, which films have as photographs have, and cost the most.
    """

    size: Annotated[int, Field(ge=16, le=2048)] = 224
    frozen: bool = False
    freeze_to: Annotated[int, Field(ge=0)] = 0
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    lr: Literal["find"] | float | tuple[float, float]
    ratio: Annotated[float, Field(ge=1)] = 1.0
    batch: Annotated[int, Field(ge=2, le=65536)] | None = None  # instead of data.batch

    @field_validator("lr", mode="before")
    @classmethod
    def _rate(cls, value: Any) -> Any:
        if value == "find":
            return value
        rates = list(value) if isinstance(value, list | tuple) else [value]
        numbers = all(
            isinstance(r, int | float) and not isinstance(r, bool) and math.isfinite(r) for r in rates
        )
        if not numbers or len(rates) > 2 or not rates:
            raise ValueError('give one rate (3e-3), two: [first layers, last layers], or "find"')
        if min(rates) <= 0:
            raise ValueError("a learning rate is above 0")
        if len(rates) == 2 and rates[0] > rates[1]:
            raise ValueError("the first layers' rate comes first and is the smaller one; swap the two")
        return (
            tuple(map(float, rates))
            if isinstance(value, list | tuple) and len(rates) == 2
            else float(rates[0])
        )

    @model_validator(mode="after")
    def _frozen_once(self) -> Stage:
        if self.frozen and self.freeze_to:
            raise ValueError("frozen = true keeps all layer groups already; leave freeze_to out")
        return self

    @model_validator(mode="after")
    def _one_spread(self) -> Stage:
        if isinstance(self.lr, tuple) and self.ratio != 1:
            raise ValueError("lr gives two rates, and ratio their ratio once more; leave one of them out")
        return self

    @property
    def rates(self) -> tuple[float, float]:
        """The rates of the first and of the last layer group; for 1 as the rate where it is to be found."""
        if isinstance(self.lr, tuple):
            first, last = self.lr
        else:
            last = 1.0 if self.lr == "find" else self.lr
            first = last / self.ratio
        return (last, last) if self.frozen else (first, last)

    def at(self, lr: float) -> Stage:
        """The stage with a rate that was found."""
        return self.model_copy(update={"lr": lr})


class Recipe(Option):
    """Everything that decides the weights, but for the films."""

    name: str = ""
    data: DataPart = DataPart()
    model: ModelPart = ModelPart()
    train: TrainPart = TrainPart()
    stage: tuple[Stage, ...]

    @model_validator(mode="before")
    @classmethod
    def _stages_are_a_list(cls, keys: Any) -> Any:
        if isinstance(keys, Mapping) and isinstance(keys.get("stage"), Mapping):
            raise ValueError("write each stage under [[stage]], with double brackets")
        if isinstance(keys, Mapping) and not keys.get("stage"):
            raise ValueError("no stage; add at least one [[stage]] with epochs and lr")
        return keys

    def batch(self, stage: int) -> int:
        """Films per optimiser step in a stage (counted from 0)."""
        return self.stage[stage].batch or self.data.batch

    def to_dict(self) -> dict[str, Any]:
        """Plain data, every default spelt out: what is written beside a run and into a bundle."""
        return self.model_dump(mode="json", by_alias=True)


def load_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe; ``overrides`` are ``key=value`` with dotted keys (``stage.1.epochs=2``).

    Stages are counted from 1, as they are in everything a person reads.

    A bare name (``quick``) is a recipe that comes with Carina. Raises RecipeError, naming the file or the
    override, the key, and what to write instead.
    """
    path = shipped(Path(path))
    keys = read_toml(path, "recipe", ("quick", "best", "demo", "resnet34"))
    for change in overrides:
        override(keys, change)
    keys.setdefault("name", path.stem)
    return parse_recipe(keys, origin=str(path))


def read_toml(path: Path, what: str, ship: Sequence[str]) -> dict[str, Any]:
    """The content of a recipe or a study; ``ship`` names those that come with Carina. Raises RecipeError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            f"{path}: no such {what}; name a TOML file, or one that comes with Carina ({', '.join(ship)})"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        fault = getattr(error, "strerror", None) or error
        raise RecipeError(f"{path}: cannot be read ({fault}); a {what} is a TOML file in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error


def shipped(path: Path) -> Path:
    """The path itself, or the shipped recipe of this name: in the wheel, or in the checkout."""
    if path.is_file() or path.suffix or len(path.parts) != 1:
        return path
    package = Path(__file__).parent.parent
    for folder in (package / "recipes", package.parent.parent / "recipes"):
        if (folder / f"{path}.toml").is_file():
            return folder / f"{path}.toml"
    return path


def overridden(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """A recipe with ``key=value`` changes. Raises RecipeError."""
    keys = recipe.to_dict()
    for change in overrides:
        override(keys, change)
    return parse_recipe(keys, origin=recipe.name or "recipe") if overrides else recipe


def parse_recipe(keys: Mapping[str, Any], *, origin: str = "recipe") -> Recipe:
    """Check plain data as a recipe; ``origin`` is how messages call it. Raises RecipeError."""
    try:
        return Recipe.model_validate(keys)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        faults.sort(key=lambda fault: fault["type"] != "extra_forbidden")  # a misspelt key is missing too
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise RecipeError(f"{origin}: {_sentence(faults[0])}{more}") from None


def override(keys: dict[str, Any], change: str) -> None:
    """Write one ``key=value`` into keys as they stand in TOML, in place. Raises RecipeError.

    Items of a list are counted from 1: ``stage.2.epochs=12``.
    """
    dotted, equals, text = change.partition("=")
    steps = [step.strip() for step in dotted.split(".")]
    if not equals or not all(steps):
        raise RecipeError(f"--set {change}: write it as key=value, for example stage.1.epochs=2")
    *parents, last = steps
    place: Any = keys
    for step in parents:
        within = isinstance(place, list)
        place = place[_index(place, step, change)] if within else place.setdefault(step, {})
        if not isinstance(place, dict | list):
            raise RecipeError(f"--set {change}: {step} is a single value and has no keys of its own")
    if isinstance(place, list):
        place[_index(place, last, change)] = _value(text.strip())
    else:
        place[last] = _value(text.strip())


def _index(stages: list[Any], step: str, change: str) -> int:
    if not step.isdecimal() or not 1 <= int(step) <= len(stages):
        raise RecipeError(
            f"--set {change}: no item {step} in a list of {len(stages)}; count from 1, as in stage.1.epochs"
        )
    return int(step) - 1


def _value(text: str) -> Any:
    """A value in TOML's writing; whatever is none is taken as a bare string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


_UNION = ("float", "tuple[float,float]", "literal['find']")  # the kinds a rate can be of
_PARTS: dict[str, type[BaseModel]] = {
    "data": DataPart,
    "model": ModelPart,
    "train": TrainPart,
    "stage": Stage,
}
_TABLES: dict[tuple[str, str], type[BaseModel]] = {
    ("train", "augment"): Augment,
    ("data", "augment"): Copies,
    ("data", "distractor"): Distractor,
}


def _names(part: type[BaseModel]) -> list[str]:
    """The keys as they are written in a recipe."""
    return [field.alias or name for name, field in part.model_fields.items()]


def _sentence(fault: Mapping[str, Any]) -> str:
    """One of pydantic's faults in words: where, what, and what to write."""
    steps = [step for step in fault["loc"] if step not in _UNION]
    where, keys = _place(steps)
    wrong = fault["type"]
    if wrong == "extra_forbidden":
        elsewhere = {_heading(name): _names(part) for name, part in _PARTS.items()}
        return f"{where}unknown key {str(steps[-1])!r}; {cure_for(str(steps[-1]), keys, elsewhere)}"
    if wrong == "missing":
        return f"{where}missing key {str(steps[-1])!r}; add it"
    text = in_words(fault)
    if wrong == "value_error" and len(steps) == 1 and steps[0] in _PARTS:  # two keys contradict each other
        return f"{_heading(steps[0])}: {text}"
    if steps and isinstance(steps[-1], int):  # an item of a list: [[stage]], or a name among classes
        name = ".".join(map(str, steps[:-1]))
        return f"{name} {steps[-1] + 1}: {text}"
    return f"{where}{steps[-1]}: {text}" if steps else text


def _heading(part: str) -> str:
    """How the head of a part is written in TOML."""
    return "[[stage]]" if part == "stage" else f"[{part}]"


def _place(steps: Sequence[Any]) -> tuple[str, list[str]]:
    """How to call the table a key stands in, and the keys that may stand there."""
    if len(steps) < 2:
        return "", _names(Recipe)
    part, *inner = steps[:-1]
    fields = _names(_PARTS[part]) if part in _PARTS else []
    if part == "stage" and inner and isinstance(inner[0], int):
        return f"stage {inner[0] + 1}: ", fields
    if inner and (part, inner[0]) in _TABLES:
        fields = _names(_TABLES[part, inner[0]])
    return ".".join(["[" + str(part) + "]", *map(str, inner)]) + ": ", fields
