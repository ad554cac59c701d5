"""Films in stores: the same names, order, refusals and numbers as on a disk."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from carina.errors import RemoteError, SourceError
from carina.records import Prediction, Refusal
from carina.scoring import stored, stores
from carina.scoring.inputs import Input, Skipped
from carina.scoring.inputs import films as listed
from carina.scoring.scorer import Scorer
from tests.stores import free_port, needs, s3_server, upload, web_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def archive(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films in two folders and an archive, a broken one, and what nobody means as a film."""
    needs("fsspec")
    folder = tmp_path_factory.mktemp("stored") / "films"
    (folder / "b").mkdir(parents=True)
    for number, name in enumerate(("z.png", "b/1.png", "b/2.png", "a.png", "c 1+2.png")):
        shutil.copy(films / f"film_{number:02}.png", folder / name)
    (folder / "b" / "broken.png").write_bytes(b"no film")
    (folder / "notes.txt").write_text("no film")
    (folder / ".hidden.png").write_bytes(b"no film")
    with zipfile.ZipFile(folder / "ward.zip", "w") as packed:
        for number in range(3):
            packed.write(films / f"film_{number:02}.png", f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def bucket(archive: Path) -> Iterator[dict[str, str]]:
    """The folder in a bucket; the environment that leads there."""
    needs("moto", "s3fs")
    with s3_server() as environment:
        upload(archive, "films", "2026", environment)
        yield environment


@pytest.fixture(params=["file", "s3", "http"])
def address(request: pytest.FixtureRequest, archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder in a store of each kind."""
    if request.param == "file":
        yield f"file://{archive}"
    elif request.param == "http":
        needs("aiohttp")
        with web_server(archive) as url:
            yield url
    else:
        for name, value in request.getfixturevalue("bucket").items():
            monkeypatch.setenv(name, value)
        yield "s3://films/2026"


def test_films_of_a_store_come_as_those_of_the_folder(address: str, archive: Path, scorer: Scorer) -> None:
    skipped, there = Skipped(), Skipped()
    here = list(scorer.score([archive], skipped))
    answers = list(scorer.score([address], there))
    prefix = f"{address.rstrip('/')}/"
    names = [unquote(answer.path.removeprefix(prefix)) for answer in answers]
    assert names == [answer.path.removeprefix(f"{archive}/") for answer in here]
    assert len(names) == 9
    assert there.kinds == skipped.kinds == {".txt": 1, "hidden": 1}
    for one, other in zip(answers, here, strict=True):
        if isinstance(other, Prediction):
            assert isinstance(one, Prediction)
            assert one.sha256 == other.sha256
            assert (one.probabilities == other.probabilities).all()
        else:
            assert isinstance(one, Refusal)
            assert one.code == other.code == "not_an_image"


def test_one_film_of_a_store_can_be_named(address: str, archive: Path) -> None:
    named = f"{address.rstrip('/')}/b/1.png"
    (item,) = listed([named])
    assert isinstance(item, Input)
    assert (item.name, item.data) == (named, (archive / "b" / "1.png").read_bytes())


def test_films_under_keys_with_an_empty_part_are_told(
    bucket: dict[str, str], archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=bucket["AWS_ENDPOINT_URL"], aws_access_key_id=bucket["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=bucket["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1",
    )  # fmt: skip
    for key in ("slips/1.png", "slips//2.png", "slips/", "slips/deep//3.png"):
        client.put_object(Bucket="films", Key=key, Body=(archive / "b" / "1.png").read_bytes())
    for name, value in bucket.items():
        monkeypatch.setenv(name, value)
    found = list(listed(["s3://films/slips"]))
    assert [item.name for item in found if isinstance(item, Input)] == ["s3://films/slips/1.png"]
    told = {item.path: item.reason for item in found if isinstance(item, Refusal)}
    assert set(told) == {"s3://films/slips//", "s3://films/slips/deep//"}
    assert all("two slashes in a row" in reason for reason in told.values())


def test_what_is_gone_since_it_was_listed_is_refused(archive: Path) -> None:
    gone = Input(f"file://{archive}/gone.png", address=f"file://{archive}/gone.png", size=9)
    large = Input("file:///large.dcm", address="file:///large.dcm", size=1 << 40)
    member = Input("w.zip!/9", path=archive / "ward.zip", data=b"", member=9)
    codes = [item.code for item in stored.reading([gone, large, member]) if isinstance(item, Refusal)]
    assert codes == ["unreadable", "too_large", "unreadable"]


def test_a_store_that_does_not_answer_ends_the_run_and_is_no_films_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs("fsspec", "aiohttp")
    monkeypatch.setattr(stores, "_WAITS", (0.01, 0.01))
    with pytest.raises(RemoteError, match="the store does not answer"):
        list(listed([f"http://127.0.0.1:{free_port()}/film.png"]))


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ftp://host/films", "no such kind of store is known"),
        ("zip://a::http://host/a.zip", "no such kind of store is known"),
        ("file:///nowhere/at/all", "no such film or folder"),
    ],
)
def test_a_mistyped_address_is_said_at_once(address: str, says: str) -> None:
    needs("fsspec")
    with pytest.raises(SourceError, match=says):
        listed([address])
