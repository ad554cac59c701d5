"""The family tree of the public sets: which of them are made of films of others.

Two relatives in one catalogue hold copies of the same films, often re-compressed, cropped or renamed and
sometimes with another label. The near-copy search groups what it finds; this table says where to look.
A relation stands here when the authors of a set state it, or when the near-copy search has measured it
on the sets themselves (then the comment says so).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from carina.data.sources import SOURCES
from carina.data.sources.public import PublicSet
from carina.data.sources.unread import UNREAD
from carina.errors import SourceError

_MADE_OF: dict[str, tuple[str, ...]] = {
    "shenzhen_montgomery": ("shenzhen", "montgomery"),
    "rsna": ("nih",),
    # its README names them: Kermany, RSNA, PadChest, "a Germany medical school", SIRM, GitHub, COVID-CXNet
    "radiography": (
        "covid_chestxray",
        "sirm",
        "chest_xray",
        "rsna",
        "padchest",
        "bimcv_covid19",
        "hannover",
        "covid_cxnet",
    ),
    # measured: 167 groups of near copies join it with hannover, 118 with darkcovidnet, 7 with figure1
    "covid_cxnet": ("covid_chestxray", "hannover", "figure1"),
}

PUBLIC_SETS: dict[str, PublicSet] = {
    each.name: each
    for each in (
        *(PublicSet.of(source, _MADE_OF.get(source.name, ())) for source in SOURCES if not source.generic),
        *UNREAD,
    )
}


def public_set(name: str) -> PublicSet:
    """The set of that name. Raises SourceError with the names there are."""
    if name not in PUBLIC_SETS:
        raise SourceError(f"{name}: no public set of this name; there are {', '.join(PUBLIC_SETS)}")
    return PUBLIC_SETS[name]


def origins(name: str) -> frozenset[str]:
    """The set itself and all it is made of, however indirectly."""
    found, open_names = {name}, [name]
    while open_names:
        known = PUBLIC_SETS.get(open_names.pop())
        fresh = set(known.made_of if known else ()) - found
        found |= fresh
        open_names.extend(fresh)
    return frozenset(found)


def kinship(names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Each pair of relatives among ``names``, and in words how they are related."""
    for one, other in combinations(sorted(set(names)), 2):
        of_one, of_other = origins(one), origins(other)
        if other in of_one:
            yield one, other, f"{one} is partly made of films of {other}"
        elif one in of_other:
            yield other, one, f"{other} is partly made of films of {one}"
        elif shared := sorted(of_one & of_other):
            yield one, other, f"{one} and {other} both take films from {', '.join(shared)}"
