"""Which public sets hold each other's films."""

from __future__ import annotations

import pytest

from carina.data.sources import SOURCES
from carina.data.sources.family import PUBLIC_SETS, kinship, origins, public_set
from carina.errors import SourceError


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("nih", "rsna"), "rsna is partly made of films of nih"),
        (("chest_xray", "pneumoniamnist"), "pneumoniamnist is partly made of films of chest_xray"),
        (("shenzhen", "tbx11k"), "tbx11k is partly made of films of shenzhen"),
        (("radiography", "nih"), "radiography is partly made of films of nih"),  # by way of rsna
        (("rsna", "siim_pneumothorax"), "rsna and siim_pneumothorax both take films from nih"),
        (("covid_cxnet", "hannover"), "covid_cxnet is partly made of films of hannover"),
    ],
)
def test_relatives_are_told(names: tuple[str, str], words: str) -> None:
    assert [said for _, _, said in kinship(names)] == [words]


def test_strangers_and_folders_of_ones_own_are_no_relatives() -> None:
    assert list(kinship(["chest_xray", "shenzhen", "hannover", "my_clinic"])) == []
    assert list(kinship(["nih", "nih"])) == []


def test_every_relation_leads_to_a_set_that_is_listed() -> None:
    for name in PUBLIC_SETS:
        assert origins(name) <= set(PUBLIC_SETS)


def test_every_reader_of_a_public_set_states_licence_terms_and_citation() -> None:
    for source in SOURCES:
        if not source.generic:
            assert all((source.licence, source.citation, source.terms))
            assert source.terms != "yours"


def test_an_unknown_set_is_an_error_with_the_names() -> None:
    with pytest.raises(SourceError, match="nihh: no public set of this name; there are chest_xray"):
        public_set("nihh")
