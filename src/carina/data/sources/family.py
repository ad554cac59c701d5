"""The family tree of the public sets: which of them are made of films of others.

Two relatives in one catalogue hold copies of the same films, often re-compressed, cropped or renamed and
sometimes with another label. The near-copy search groups what it finds; this table says where to look.
A relation stands here when the authors of a set state it, or when the near-copy search has measured it
on the sets themselves (then the comment says so).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

from carina.data.sources import SOURCES
from carina.data.sources.source import Source
from carina.errors import SourceError


@dataclass(frozen=True, slots=True)
class PublicSet:
    """A public set, whether Carina has a reader for it or not; ``made_of`` names the sets it takes from."""

    name: str
    title: str
    licence: str
    citation: str
    terms: str
    ages: tuple[float, float] | None = None
    scanner: str | None = None
    made_of: tuple[str, ...] = ()
    readable: bool = True

    @classmethod
    def of(cls, source: Source) -> PublicSet:
        """The facts of a set that has a reader."""
        return cls(
            source.name,
            source.title,
            source.licence,
            source.citation,
            source.terms,
            source.ages,
            source.scanner,
            _MADE_OF.get(source.name, ()),
        )


_MADE_OF: dict[str, tuple[str, ...]] = {
    "shenzhen_montgomery": ("shenzhen", "montgomery"),
    "rsna": ("nih",),
    "radiography": ("covid_chestxray", "sirm", "chest_xray", "rsna"),
    # measured: 167 groups of near copies join it with hannover, 118 with darkcovidnet, 7 with figure1
    "covid_cxnet": ("covid_chestxray", "hannover", "figure1"),
}

_NO_READER: tuple[PublicSet, ...] = (
    PublicSet(
        "siim_pneumothorax",
        "SIIM-ACR pneumothorax segmentation",
        "as the competition's rules state",
        "Society for Imaging Informatics in Medicine, Kaggle 2019",
        "register at Kaggle and accept the rules",
        made_of=("nih",),
        readable=False,
    ),
    PublicSet(
        "google_nih",
        "Four findings on ChestX-ray14, adjudicated labels",
        "labels only; the films are those of NIH",
        "Majkowska et al.: Chest radiograph interpretation with deep learning models. Radiology 2020",
        "labels from Google Cloud; films from the NIH",
        made_of=("nih",),
        readable=False,
    ),
    PublicSet(
        "chestmnist",
        "ChestMNIST",
        "that of its origin",
        "Yang et al.: MedMNIST v2. Scientific Data 2023",
        "free download (medmnist)",
        made_of=("nih",),
        readable=False,
    ),
    PublicSet(
        "pneumoniamnist",
        "PneumoniaMNIST",
        "that of its origin",
        "Yang et al.: MedMNIST v2. Scientific Data 2023",
        "free download (medmnist)",
        ages=(1, 5),
        made_of=("chest_xray",),
        readable=False,
    ),
    PublicSet(
        "tbx11k",
        "TBX11K",
        "for research, not for commerce",
        "Liu et al.: Rethinking computer-aided tuberculosis diagnosis. CVPR 2020",
        "register with the authors",
        made_of=("shenzhen", "montgomery"),
        readable=False,
    ),
    PublicSet(
        "sirm",
        "COVID-19 cases of the Italian Society of Medical Radiology",
        "as the society states",
        "Società Italiana di Radiologia Medica, 2020",
        "from the society's pages",
        readable=False,
    ),
    PublicSet(
        "ricord",
        "RICORD: RSNA international COVID-19 open radiology database",
        "as The Cancer Imaging Archive states",
        "Tsai et al.: The RSNA international COVID-19 open radiology database. Radiology 2021",
        "from The Cancer Imaging Archive",
        readable=False,
    ),
    PublicSet(
        "covidx",
        "COVIDx",
        "each image that of its origin",
        "Wang, Lin, Wong: COVID-Net. Scientific Reports 2020",
        "put together from its parts with the authors' scripts",
        made_of=("covid_chestxray", "figure1", "actualmed", "radiography", "rsna", "ricord"),
        readable=False,
    ),
    PublicSet(
        "darkcovidnet",
        "DarkCovidNet",
        "each image that of its origin",
        "Ozturk et al. Computers in Biology and Medicine 2020",
        "from the authors' repository; read as a folder for each class",
        made_of=("covid_chestxray", "nih"),
        readable=False,
    ),
)

PUBLIC_SETS: dict[str, PublicSet] = {
    each.name: each
    for each in (*(PublicSet.of(source) for source in SOURCES if not source.generic), *_NO_READER)
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
