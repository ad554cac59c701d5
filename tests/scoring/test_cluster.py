"""Millions of films: two nodes and a store give the rows that one machine gives, whatever is killed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carina.scoring import parts
from carina.scoring.run import score_films
from tests.stores import needs, s3_server, upload

NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""

DRIVER = """
import os, signal, subprocess, sys
from pathlib import Path
from carina.scoring.cluster import score_on_cluster
source, bundle, out, address, victim = sys.argv[1:]
killed = []
def actors():
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if place.read_bytes().startswith(b"ray::MapWorker(Map(Actor))"):
                yield int(place.parent.name)
        except OSError:
            pass
def kill_once(event):
    if victim == "driver":
        os.kill(os.getpid(), signal.SIGKILL)
    if victim == "worker" and not killed:
        killed.extend(list(actors())[:1])
        os.kill(killed[0], signal.SIGKILL)
summary = score_on_cluster(source, Path(bundle), out=Path(out), address=address, check=False,
                           progress=kill_once, resume=victim == "nobody")
print(summary.scored, summary.refused, len(killed))
"""


@pytest.fixture(scope="module")
def archive(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 films, three that are none, a folder in the folder, a zip archive, and a note nobody means."""
    folder = tmp_path_factory.mktemp("archive") / "films"
    (folder / "night").mkdir(parents=True)
    for number in range(120):
        inner = folder / "night" if number % 3 == 0 else folder
        shutil.copy(films / f"film_{number % 20:02}.png", inner / f"{number:03} a+b é.png")
    for number in (7, 8, 110):
        (folder / f"{number:03} a+b é.png").write_bytes(b"no film")
    with zipfile.ZipFile(folder / "ward.zip", "w") as packed:
        for number in range(20):
            packed.write(films / f"film_{number:02}.png", f"inner/{number}.png")
    (folder / "notes.txt").write_text("no film")
    return folder


@pytest.fixture(scope="module")
def store(archive: Path) -> Iterator[dict[str, str]]:
    """The same films in a bucket."""
    needs("moto", "s3fs", "ray")
    with s3_server() as environment:
        upload(archive, "films", "2026", environment)
        yield environment


@pytest.fixture(scope="module")
def cluster(store: dict[str, str]) -> Iterator[dict[str, str]]:
    """A Ray cluster of two nodes with a core each; the environment, with its address."""
    told = {
        **store,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # by default Ray's workers wait for all else on a busy machine
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", NODES],
        env={**os.environ, **told},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield {**told, "RAY_ADDRESS": process.stdout.readline().strip()}
        process.stdin.close()
        process.wait(60)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def drive(
    source: str, bundle: Path, out: Path, cluster: dict[str, str], victim: str
) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "ignore", "-c", DRIVER, source, str(bundle), str(out)]
    return subprocess.run(
        [*line, cluster["RAY_ADDRESS"], victim],
        env={**os.environ, **cluster}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def table_of(out: Path) -> pa.Table:
    """The parts one after the other."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(out.glob("part-*.parquet"))])


def alone(source: str, bundle: Path, out: Path) -> pa.Table:
    """The table of one machine."""
    score_films(source, bundle, out=out, check=False)
    return pq.read_table(out)


def same(one: pa.Table, other: pa.Table) -> bool:
    """Every column and every bit."""
    return bool(one.replace_schema_metadata(None).equals(other.replace_schema_metadata(None)))


@pytest.mark.slow
def test_films_of_a_store_get_the_numbers_of_one_machine_though_a_worker_is_killed(
    archive: Path, bundle: Path, cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = drive("s3://films/2026", bundle, tmp_path / "out", cluster, "worker")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["137", "3", "1"]  # scored, refused, workers killed
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    scored = table_of(tmp_path / "out")
    assert same(scored, alone("s3://films/2026", bundle, tmp_path / "store.parquet"))
    on_disk = alone(str(archive), bundle, tmp_path / "disk.parquet")
    assert same(scored.drop_columns("path"), on_disk.drop_columns("path"))
    names = [name.removeprefix("s3://films/2026/") for name in scored["path"].to_pylist()]
    assert names == [name.removeprefix(f"{archive}/") for name in on_disk["path"].to_pylist()]
    refused = [text for text in scored["refused"].to_pylist() if text]
    assert len(refused) == 3
    assert all(text.startswith("not_an_image: ") for text in refused)


@pytest.mark.slow
def test_a_killed_driver_is_taken_up_again_and_no_film_is_scored_twice_or_lost(
    archive: Path, bundle: Path, cluster: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    killed = drive(str(archive), bundle, out, cluster, "driver")
    assert killed.returncode == -signal.SIGKILL
    begun = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}
    assert len(begun) == 1
    assert not (out / parts.MANIFEST).exists()
    (archive / "late.png").write_bytes((archive / "001 a+b é.png").read_bytes())  # came after the listing
    try:
        done = drive(str(archive), bundle, out, cluster, "nobody")
    finally:
        (archive / "late.png").unlink()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["137", "3", "0"]
    kept = {name: (out / name).stat().st_mtime_ns for name in begun}
    assert kept == begun
    assert same(table_of(out), alone(str(archive), bundle, tmp_path / "disk.parquet"))
    told = json.loads((out / parts.MANIFEST).read_text())
    assert (told["films"], told["scored"], told["refused"], told["skipped"]) == (140, 137, 3, 1)
    assert sum(each["films"] for each in told["parts"]) == 140
    again = drive(str(archive), bundle, out, cluster, "nobody")
    assert "holds scores that are complete; there is nothing to resume" in again.stderr
