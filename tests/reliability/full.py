"""A disk that is full, belongs to somebody else, or can only be read: it is said, and it recovers.

On a small volume of its own. Above all the page must stay up, and say in red that films are refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.reliability.sender import Association, Ledger, film, picture, stow, upload
from tests.reliability.site import Kept, Site, check_kept, until
from tests.reliability.volume import Volume

_SIDE = 512  # pixels: half a megabyte a film
_WATERMARK = 16 << 20
_NOBODY = 65534
_NO_ROOM = (0xA700, 507, 507)  # C-STORE, STOW-RS, upload
_RED = 'class="faults"'


@dataclass(frozen=True, slots=True)
class Size:
    """A volume of so many ``megabytes``, with room for ``films`` above the watermark. ``owners``: 1, if the
    files are given to another user, too, which root notices only in a process of its own."""

    megabytes: int
    films: int
    owners: int

    def __str__(self) -> str:
        owner = ", wrong owner" if self.owners else ""
        return (
            f"ext4 of {self.megabytes} MB: {self.films} films to the watermark of 16 MB, then full to the "
            f"last block{owner}, then read-only"
        )


QUICK, FULL = Size(64, 6, 0), Size(64, 40, 1)


@dataclass(slots=True)
class Found:
    """What each state of the disk was answered with: C-STORE, STOW-RS, upload; and what else was seen."""

    answers: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    red: list[str] = field(default_factory=list)  # states in which the page was up, and red
    recovered: list[str] = field(default_factory=list)
    left: int = 0  # bytes that were free when the first film was refused
    kept: Kept = field(default_factory=lambda: Kept(0, 0, 0))
    acknowledged: int = 0

    @property
    def met(self) -> bool:
        full = all(self.answers[state] == _NO_ROOM for state in ("below the watermark", "full"))
        refused = all(good not in (0, 200, 201) for answers in self.answers.values() for good in answers)
        seen = set(self.red) == set(self.answers)
        back = set(self.recovered) >= set(self.answers) - {"read-only"}
        return full and refused and seen and back and self.kept.well and self.left > _WATERMARK // 2

    def __str__(self) -> str:
        said = ", ".join(
            f"{state}: 0x{one:04X}/{two}/{three}" for state, (one, two, three) in self.answers.items()
        )
        return (
            f"C-STORE/STOW/upload {said}; refused with {self.left / 2**20:.1f} MB left; page up and red in "
            f"{len(self.red)} of {len(self.answers)} states, recovers from {', '.join(self.recovered)}; "
            f"{self.kept} of {self.acknowledged} acknowledged"
        )


def load(folder: Path, bundle: Path, size: Size) -> Found:
    """Fill the volume, break it in every way, and ask the three ways in and the page each time."""
    found, ledger, numbers = Found(), Ledger(), count()
    with Volume(folder / "disk", size.megabytes) as volume, Site(
        folder, bundle, inside=not size.owners, data=volume.path / "data", free_bytes=_WATERMARK
    ) as site:  # fmt: skip
        drop = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
        site.start(*(drop if size.owners else ()))
        look = _Look(site, ledger, found, numbers)
        filler = volume.fill("filler", _WATERMARK + size.films * (_SIDE * _SIDE * 2 + 20_000))
        while look.store() == 0:
            found.left = volume.free()
        look.refused("below the watermark")
        more = volume.fill("more", 0)
        look.refused("full")
        more.unlink()
        filler.unlink()
        look.recovers("below the watermark", "full")
        if size.owners:
            _give(site.data / "archive", _NOBODY)
            look.refused("wrong owner")
            _give(site.data / "archive", 0)
            look.recovers("wrong owner")
        until(lambda: site.unscored() == 0, "all are scored before the disk fails", 300)
        volume.fail()
        look.refused("read-only")
        site.stop()
        site.database.close()
        volume.unmount()
        volume.mount()
        if size.owners:
            site.start(*drop)
            look.recovers("read-only")
            site.stop()
        found.acknowledged = len(ledger)
        found.kept = check_kept(ledger, site.database, site.data / "archive")
        site.close()
    return found


class _Look:
    """The three ways in, and the page."""

    def __init__(self, site: Site, ledger: Ledger, found: Found, numbers: count[int]) -> None:
        self._site, self._ledger, self._found, self._numbers = site, ledger, found, numbers

    def store(self) -> int:
        """The status of the next C-STORE."""
        each = film(next(self._numbers), side=_SIDE)
        link = Association(self._site.dicom)
        status = link.store(each)
        link.close()
        if status == 0:
            self._ledger.acknowledge("dicom", each)
        return status

    def refused(self, state: str) -> None:
        """Note what everybody is told in this state, and whether the page is up and red."""
        site, number = self._site, next(self._numbers)
        one = film(number, side=_SIDE)
        self._found.answers[state] = (
            self.store(), stow(site.web, site.key, one), upload(site.web, site.key, picture(number))
        )  # fmt: skip
        until(lambda: _RED in site.page() and site.answers(503), f"the page is red: {state}", 240, 0.2)
        self._found.red.append(state)

    def recovers(self, *states: str) -> None:
        """Wait until a film is taken again and the page is no longer red."""
        until(lambda: self.store() == 0, f"films are taken again after {states}", 240, 0.5)
        until(self._is_white, f"the page is white again after {states}", 240, 0.5)
        self._found.recovered += states

    @property
    def _is_white(self) -> Callable[[], bool]:
        return lambda: self._site.answers(200) and _RED not in self._site.page()


def _give(folder: Path, user: int) -> None:
    """Give the archive's folders to another user."""
    for each in (folder, *(entry for entry in folder.iterdir() if entry.is_dir())):
        os.chown(each, user, user)
