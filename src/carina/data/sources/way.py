"""How a person comes by a public set: from Kaggle, as a file of the web, or by asking its keepers.

Plain facts; ``carina.data.fetching`` acts on them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kaggle:
    """A data set that Kaggle publishes: ``owner/name``."""

    handle: str

    @property
    def where(self) -> str:
        return f"https://www.kaggle.com/datasets/{self.handle}"


@dataclass(frozen=True, slots=True)
class Download:
    """One file that plain HTTP gives to everybody.

    ``checksum`` is ``md5:…`` or ``sha256:…`` as somebody published it; None where nobody did, as with the
    archives that GitHub packs on request. A zip is unpacked, and its own checksums are verified.
    """

    url: str
    name: str
    checksum: str | None = None

    @property
    def where(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class ByHand:
    """A set whose keepers want to know who takes it, or that no single address gives."""

    where: str
    steps: str


Way = Kaggle | Download | ByHand


def github(repository: str, branch: str = "master") -> Download:
    """A repository as GitHub packs it."""
    name = repository.partition("/")[2]
    url = f"https://github.com/{repository}/archive/refs/heads/{branch}.zip"
    return Download(url, f"{name}-{branch}.zip")
