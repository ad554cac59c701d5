"""Mutated films through every way in: no crash, no hang, no traceback, and no half film "not flagged".

``tests/scoring/test_mutants.py`` sends them through ``carina score``; here they come from outside.
"""

from __future__ import annotations

import time
from collections import Counter

import films
import mutants
from pydicom.uid import UID

from tests.security.figures import Tell
from tests.security.house import House, until
from tests.security.ways import WAYS, Doors, Sent, content_at, doors

NOT_ANALYSED = "not analysed: needs a reader"
SLOWEST = 30.0  # seconds
_TOGETHER = 200  # mutants between two looks at whether all are done


def received(house: House, count: int, seed: int) -> tuple[dict[str, mutants.Mutant], Counter[str], float]:
    """Send ``count`` mutants. Answers those that were taken by their sha256, what was said to all of them,
    and the longest that one sending, or looking at one, took."""
    starts = {
        UID(kind).keyword: content_at(mutants._film(kind, seed))
        for kind in mutants.KINDS
        if kind not in mutants.FILES
    }
    taken: dict[str, mutants.Mutant] = {}
    answers: Counter[str] = Counter()
    known: set[bytes] = set()
    slowest = 0.0
    with doors(house) as ways:
        for number, mutant in enumerate(mutants.mutants(count, seed)):
            begin = time.monotonic()
            way, sent = _sent(ways, mutant, number, starts)
            slowest = max(slowest, time.monotonic() - begin)
            answers[f"{way}: {'taken' if sent.taken else sent.status}"] += 1
            assert "Traceback" not in sent.words, (mutant.name, sent.words)
            assert sent.status is None or sent.status not in (500, 502, 0x0110), (mutant.name, sent)
            data_set = mutant.content[starts.get(mutant.name.split("_")[1], 0) :]
            if sent.taken and data_set not in known:  # the same data set again is the same film
                taken[sent.sha256] = mutant
                known.add(data_set)
            if number % _TOGETHER == _TOGETHER - 1:
                slowest = max(slowest, until(house.at_rest, SLOWEST * _TOGETHER) / _TOGETHER)
        until(house.at_rest, SLOWEST * _TOGETHER)
    return taken, answers, slowest


def _sent(ways: Doors, mutant: mutants.Mutant, number: int, starts: dict[str, int]) -> tuple[str, Sent]:
    if not mutant.name.endswith(".dcm"):
        way = ("upload", "upload", "STOW")[number % 3]
        return way, ways.send(way, mutant.content, mutant.name)
    way = WAYS[number // len(mutants.KINDS) % 3]
    start = starts[mutant.name.split("_")[1]]
    return way, ways.send(way, mutant.content, mutant.name, start if len(mutant.content) > start else 0)


def test_mutants_harm_nothing_and_no_half_film_looks_well(
    house: House, tell: Tell, soak: bool, share: float
) -> None:
    count, seed = (int(10_000 * share), 8) if soak else (3 * len(mutants.KINDS), 7)
    taken, answers, slowest = received(house, count, seed)
    said = house.outcomes()
    silent = [mutant.name for sha256, mutant in taken.items() if sha256 not in said]
    cut = [sha256 for sha256, mutant in taken.items() if mutant.cut]
    well = [
        taken[sha256].name for sha256 in cut if {outcome for outcome, _ in said[sha256]} != {NOT_ANALYSED}
    ]
    codes = Counter(code for sha256 in taken if sha256 in said for _, code in said[sha256])
    tell(
        "mutants",
        f"{count:,} mutants ({', '.join(f'{way} {number:,}' for way, number in sorted(answers.items()))}): 0 "
        f"crashes, 0 tracebacks, the slowest {slowest:.1f} s; {len(cut):,} with a cut stream were taken, all "
        f'"not analysed"; {codes["internal"]} faults of our own',
    )
    assert silent == [], "every film that was taken has an answer"
    assert well == []
    assert codes["internal"] == 0
    assert slowest <= SLOWEST
    assert len(cut) > len(taken) / 20


def test_a_whole_film_by_every_way_is_analysed(house: House) -> None:
    with doors(house) as ways:
        for number, way in enumerate(WAYS):
            content = films.dicom(films.chest(seed=number), SOPInstanceUID=f"1.2.3.4.{number}")
            answer = ways.send(way, content)
            assert answer.taken, answer
            until(house.at_rest)
            assert answer.sha256 in house.outcomes(), way
