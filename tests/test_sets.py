"""The verbs sources and fetch, as a user types them."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from carina.cli import app
from carina.errors import FetchError


def test_sources_lists_the_sets_and_says_all_of_one() -> None:
    listed = CliRunner().invoke(app, ["sources"])
    assert listed.exit_code == 0
    assert "tbx11k" in listed.output
    one = CliRunner().invoke(app, ["sources", "shenzhen"])
    assert "Philips DR Digital Diagnost" in one.output
    assert "relative          tbx11k is partly made of films of shenzhen" in one.output


def test_sources_as_json_hold_all_that_is_known() -> None:
    sets = json.loads(CliRunner().invoke(app, ["sources", "--json"]).stdout)
    known = {each["name"]: each for each in sets}
    assert known["rsna"]["made_of"] == ["nih"]
    assert known["chest_xray"]["ages"] == [1, 5]
    assert (known["shenzhen"]["way"], known["rsna"]["way"]) == ("download", "byhand")
    assert json.loads(CliRunner().invoke(app, ["sources", "nih", "--json"]).stdout) == known["nih"]


def test_fetch_says_where_to_register() -> None:
    told = CliRunner().invoke(app, ["fetch", "rsna"])
    assert isinstance(told.exception, FetchError)
    assert "https://www.kaggle.com/c/rsna-pneumonia-detection-challenge" in str(told.exception)
