"""What a site sets is looked at before anything starts: a fault is one line that names its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from carina.cli import app
from carina.errors import ServiceError
from carina.serving.settings import read_settings

A = '[[destinations]]\nname = "a"\n'
PACS = 'kind = "dicom"\nhost = "pacs"\nport = 4242\nae_title = "PACS"\n'


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        (f'{A}kind = "dicom"\nport = 4242', "destinations.0", "needs host and ae_title"),
        (f'{A}kind = "stow"', "destinations.0", "needs url"),
        (f'{A}kind = "stow"\nurl = "ftp://x"', "destinations.0", "no http or https address"),
        (f'{A}kind = "webhook"\nurl = "http://x/"', "destinations.0", "needs secret"),
        (f'{A}kind = "hl7"\nhost = "x"', "destinations.0", "needs port"),
        (f'{A}kind = "hl7"\nhost = "x"\nport = 0', "destinations.0.port", "is 0, and must be at least 1"),
        (f"{A}{PACS}{A}{PACS}", "destinations", "called 'a'"),
        (
            '[[dicom.peers]]\nae_title = "CT"\naddresses = ["127.0.0.1", "999.1.1.1"]',
            "dicom.peers.0.addresses", "'999.1.1.1' is no address or network",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_the_start(
    tmp_path: Path, content: str, place: str, said: str
) -> None:
    config = tmp_path / "carina.toml"
    config.write_text(content)
    done = CliRunner().invoke(app, ["serve", "--config", str(config)])
    assert isinstance(done.exception, ServiceError)
    assert f"{config}: {place}: " in str(done.exception)
    assert said in str(done.exception)
    assert str(done.exception).endswith("; correct it")


def test_the_example_of_every_key_is_read() -> None:
    example = Path(__file__).parents[2] / "deploy" / "carina.toml"
    assert read_settings(example).dicom.ae_title


def test_whole_destinations_are_taken(tmp_path: Path) -> None:
    config = tmp_path / "carina.toml"
    config.write_text(
        f"{A}{PACS}"
        '[[destinations]]\nname = "b"\nkind = "stow"\nurl = "https://pacs/dicom-web"\n'
        '[[destinations]]\nname = "c"\nkind = "hl7"\nhost = "::1"\nport = 2575\n'
        '[[destinations]]\nname = "d"\nkind = "webhook"\nurl = "http://pager/x"\nsecret = "s"\n'
    )
    assert [each.name for each in read_settings(config).destinations] == ["a", "b", "c", "d"]
