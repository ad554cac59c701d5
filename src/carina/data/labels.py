"""The label map: which class a set's own word for a film means.

The default map is ``labels.toml`` beside this file, whose head says how to write one; a user's file is
laid over it key by key. Reads TOML, knows no folders and no pixels.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Any

from carina.errors import LabelError
from carina.records import SourceImage

GENERIC = frozenset({"folder", "table", "dicom"})
_RESERVED = frozenset({"classes", "aliases"})


def _key(label: str) -> str:
    """A label without case and separators: ``COVID_19`` and ``covid-19`` are one word."""
    return re.sub(r"[\s_\-]+", " ", label.casefold()).strip()


@dataclass(frozen=True, slots=True)
class Section:
    """What one source's labels mean; keys are normalised, order is the file's."""

    labels: Mapping[str, str] = field(default_factory=dict)
    findings: Mapping[str, str] = field(default_factory=dict)

    def over(self, other: Section) -> Section:
        """This section laid over ``other``."""
        return Section(
            {**other.labels, **self.labels}, {**self.findings, **_without(other.findings, self.findings)}
        )

    def find(self, image: SourceImage) -> str | None:
        """The class, ``""`` for "leave out", or None when nothing here covers the film."""
        found = {_key(finding) for finding in image.findings}
        for finding, name in self.findings.items():
            if finding in found:
                return name
        label = _key(image.label)
        if label in self.labels:
            return self.labels[label]
        patterns = sorted((key for key in self.labels if "*" in key), key=lambda key: (-len(key), key))
        return next((self.labels[pattern] for pattern in patterns if fnmatchcase(label, pattern)), None)


def _without(mapping: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in mapping.items() if key not in keys}


@dataclass(frozen=True, slots=True)
class LabelMap:
    """All sections, the aliases of the generic readers, and the classes the user calls healthy."""

    sections: Mapping[str, Section]
    aliases: Mapping[str, str]
    healthy: tuple[str, ...] | None = None
    path: Path | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> LabelMap:
        """The default map, with the user's file laid over it. Raises LabelError (file, key, cure)."""
        default = _parse(files("carina.data").joinpath("labels.toml").read_text("utf-8"), Path("labels.toml"))
        if path is None:
            return replace(default, path=None)
        path = Path(path)
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LabelError(
                f"{path}: cannot be read as a label map ({error}); give a TOML file in UTF-8"
            ) from error
        own = _parse(text, path)
        sections = dict(default.sections)
        for name, section in own.sections.items():
            sections[name] = section.over(sections.get(name, Section()))
        return cls(sections, {**default.aliases, **own.aliases}, own.healthy, path)

    def check_names(self, known: Iterable[str]) -> None:
        """Raises LabelError for a section that names no reader and no folder of this run."""
        names = {*known, *GENERIC}
        default = LabelMap.load().sections if self.path else self.sections
        for name in self.sections:
            if name not in names and name not in default:
                listed = ", ".join(sorted(names))
                raise LabelError(
                    f"{self.path}: section [{name}] belongs to no source here; the sources are {listed}"
                )

    def class_of(self, reader: str, image: SourceImage) -> str | None:
        """The class of a film, or None when the map leaves it out.

        The section of ``image.source`` (the user's name for the folder) is asked before the reader's.
        Raises LabelError when a public set's label is covered by neither.
        """
        for name in (image.source, reader):
            section = self.sections.get(name)
            found = section.find(image) if section else None
            if found is not None:
                return found or None
        if reader in GENERIC:
            return self.aliases.get(_key(image.label), image.label)
        where = self.path or "the default label map"
        raise LabelError(
            f"{where}: [{reader}] has no class for the label {image.label!r} of {image.path.name}; "
            f'add \'"{image.label}" = "CLASS"\' (or "" to leave such films out) to a file for --labels'
        )


def _parse(text: str, path: Path) -> LabelMap:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LabelError(
            f"{path}: not valid TOML ({error}); see labels.toml of Carina for an example"
        ) from error
    for name, value in document.items():
        if not isinstance(value, dict):
            raise LabelError(f"{path}: {name!r} stands outside any section; put it under [SOURCE]")
    sections = {
        name: _section(name, value, path) for name, value in document.items() if name not in _RESERVED
    }
    return LabelMap(
        sections, _aliases(document.get("aliases", {}), path), _healthy(document.get("classes"), path), path
    )


def _section(name: str, value: Mapping[str, Any], path: Path) -> Section:
    findings = value.get("findings", {})
    if isinstance(findings, str):
        findings = {}  # a label that happens to be called "findings"
    plain = {key: text for key, text in value.items() if not isinstance(text, dict)}
    for where, mapping in ((name, plain), (f"{name}.findings", findings)):
        for key, text in mapping.items():
            if not isinstance(text, str):
                raise LabelError(
                    f'{path}: [{where}] {key!r} is {text!r}; give a class\'s name in quotes, or ""'
                )
    for key, text in value.items():
        if isinstance(text, dict) and key != "findings":
            raise LabelError(
                f"{path}: [{name}.{key}] is unknown; a section may hold labels and [{name}.findings]"
            )
    return Section(
        {_key(k): v.strip() for k, v in plain.items()}, {_key(k): v.strip() for k, v in findings.items()}
    )


def _aliases(value: Mapping[str, Any], path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, words in value.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise LabelError(f"{path}: [aliases] {name!r} must be a list of words in quotes")
        found.update({_key(word): name for word in (name, *words)})
    return found


def _healthy(value: Mapping[str, Any] | None, path: Path) -> tuple[str, ...] | None:
    if value is None:
        return None
    if set(value) - {"healthy"}:
        extra = ", ".join(sorted(set(value) - {"healthy"}))
        raise LabelError(f"{path}: [classes] has the unknown key {extra}; it may hold 'healthy'")
    words = value.get("healthy")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise LabelError(f"{path}: [classes] healthy must be a list of class names in quotes")
    return tuple(words)
