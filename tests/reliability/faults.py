"""Every I/O fault is a failure status and never a false success: faults put into a service that runs.

strace makes the N-th call of a kind fail, in every thread that works for the round's senders. After each
round the fault is gone: the next film must be taken, unless the disk failed to make something last (fsync
with EIO); then nothing may be taken until the next start, and the page must say so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count, product
from pathlib import Path

from starlette.testclient import TestClient

from carina.serving.archive import Archive
from carina.serving.settings import read_settings
from carina.serving.web.app import create_app
from tests.reliability.sender import Association, Film, Ledger, film
from tests.reliability.site import Kept, Site, check_kept, until
from tests.reliability.tracing import Call, calls, traced

CALLS = ("fsync", "fdatasync", "write", "pwrite64", "rename", "openat")
ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EMFILE")
_PROMISES = ("fsync", "fdatasync", "rename")  # none of these may fail under an acknowledged film
_NOT_LASTING = "EIO"  # of an fsync: nothing can be said of the disk any more
_MORE = 2  # films in a round beyond N, so that the N-th call of any kind is reached


@dataclass(frozen=True, slots=True)
class Size:
    """``moments``: how many N; ``calls`` and ``errors``: how many kinds of each, from the first."""

    moments: int
    calls: int = len(CALLS)
    errors: int = len(ERRORS)

    def rounds(self) -> list[tuple[str, str, int]]:
        """Call, error and N of each round; N spread from 1 to 30."""
        moments = sorted({1 + round(29 * place / max(1, self.moments - 1)) for place in range(self.moments)})
        return list(product(CALLS[: self.calls], ERRORS[: self.errors], moments))

    def __str__(self) -> str:
        kinds = f"{', '.join(ERRORS[: self.errors])} on {', '.join(CALLS[: self.calls])}"
        moments = sorted({number for _, _, number in self.rounds()})
        when = "N = 1..30" if len(moments) == 30 else f"N = {', '.join(map(str, moments))}"
        return f"{kinds}, {when}: {len(self.rounds())} rounds of N + {_MORE} films over one association"


class _Quick(Size):
    """One round for each call, each with another error."""

    def rounds(self) -> list[tuple[str, str, int]]:
        return [("write", "ENOSPC", 1), ("rename", "EDQUOT", 1), ("openat", "EMFILE", 1), ("fsync", "EIO", 1)]

    def __str__(self) -> str:
        return "ENOSPC on write, EDQUOT on rename, EMFILE on open, EIO on fsync, N = 1"


QUICK, FULL = _Quick(1), Size(30)


@dataclass(slots=True)
class Found:
    """What the rounds showed."""

    rounds: int = 0
    injected: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    false: list[str] = field(default_factory=list)  # successes that were none
    stuck: list[str] = field(default_factory=list)  # rounds after which nothing was taken any more
    fsyncs: int = 0  # rounds in which an fsync of ours failed with EIO
    marked: int = 0  # … and the store said so
    unmarked: list[str] = field(default_factory=list)  # … and it did not
    acknowledged: int = 0
    kept: Kept = field(default_factory=lambda: Kept(0, 0, 0))

    @property
    def met(self) -> bool:
        return not self.false and not self.stuck and self.marked == self.fsyncs and self.kept.well

    def __str__(self) -> str:
        answers = ", ".join(f"{number} {name}" for name, number in sorted(self.refused.items()))
        said = (
            f"{self.injected} faults in {self.rounds} rounds: {len(self.false)} false successes "
            f"({answers or 'none'} refused), {self.kept} of {self.acknowledged} acknowledged, "
            f"{len(self.stuck)} rounds without recovery; unhealthy after {self.marked} of {self.fsyncs} "
            "rounds with a failed fsync"
        )
        return "; ".join([said, *self.false[:3], *self.stuck[:3], *self.unmarked])


def load(folder: Path, bundle: Path, size: Size) -> Found:
    """One round after the other; a new start only where the store took itself out of service."""
    found, numbers, ledger = Found(), count(), Ledger()
    with Site(folder, None, web={"sign_in": False}) as site:
        page = _Page(site)
        site.start(role="listener")
        for call, error, moment in size.rounds():
            films = [film(next(numbers)) for _ in range(moment + _MORE)]
            name = f"{call} {error} {moment}"
            hit = _round(
                site, folder / "trace", f"{call}:error={error}:when={moment}", films, ledger, found, name
            )
            again = _send(site, [film(next(numbers))], ledger)[0]
            lasting = any(_is_lasting(each, error) for each in hit)
            found.fsyncs += lasting
            if lasting and again == 0:
                found.unmarked.append(f"{name}: {'; '.join(each.text[:120] for each in hit)}")
            if lasting and again != 0:
                found.marked += page.says_unhealthy()
                site.stop()
                site.start(role="listener")
                again = _send(site, [film(next(numbers))], ledger)[0]
            if again != 0:
                found.stuck.append(f"{name}: then 0x{again or 0:04X}")
                site.stop()
                site.start(role="listener")
        site.stop()
        found.acknowledged = len(ledger)
        found.kept = check_kept(ledger, site.database, site.data / "archive")
        page.close()
    return found


def _round(
    site: Site, trace: Path, fault: str, films: list[Film], ledger: Ledger, found: Found, name: str
) -> list[Call]:
    """Send ``films`` while the fault is in; the calls of ours that it hit."""
    kind = fault.partition(":")[0]
    with traced(site.pid, trace, "-e", f"trace={kind}", "-e", f"inject={fault}"):
        answers = _send(site, films, ledger)
    refused = [status for status in answers if status != 0]
    found.refused.update("broken off" if status is None else f"0x{status:04X}" for status in refused)
    hit = [call for call in calls(trace) if call.injected]
    ours = [call for call in hit if call.name in _PROMISES and "/data/" in call.text]
    found.rounds += 1
    found.injected += len(hit)
    films_hit = sum("/archive/" in call.text for call in ours)
    if films_hit > len(refused):
        found.false.append(f"{name}: {films_hit} films were hit, {len(refused)} refused")
    return ours


def _is_lasting(call: Call, error: str) -> bool:
    """Whether this fault leaves a disk, or a database, of which nothing can be said any more."""
    return call.name in ("fsync", "fdatasync") and (error == _NOT_LASTING or ".sqlite" in call.text)


def _send(site: Site, films: list[Film], ledger: Ledger) -> list[int | None]:
    """The status of each C-STORE, over one association as long as it lasts; None where it broke."""
    link, answers = None, list[int | None]()
    for each in films:
        try:
            link = link or Association(site.dicom)
            answers.append(link.store(each))
        except OSError:
            answers.append(None)
            if link is not None:
                link.abandon()
            link = None
            continue
        if answers[-1] == 0:
            ledger.acknowledge("dicom", each)
    if link is not None:
        link.close()
    return answers


class _Page:
    """The page of the site, in this process."""

    def __init__(self, site: Site) -> None:
        settings = read_settings(site.config)
        app = create_app(settings, site.database, Archive(settings.archive, settings), None)
        self._client = TestClient(app, base_url="http://localhost")

    def says_unhealthy(self) -> bool:
        """Whether /ready names the store, and the page says in red that nothing more is taken in."""

        def said() -> bool:
            ready = self._client.get("/ready")
            red = self._client.get("/worklist").text
            return ready.status_code == 503 and "store" in ready.text and "then start Carina again" in red

        until(said, "the page turns red", 240, 0.2)
        return True

    def close(self) -> None:
        """Let it go."""
        self._client.close()
