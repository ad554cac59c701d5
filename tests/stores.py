"""Real stores for tests: an S3-compatible server from a package, and a web server, both on this machine."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def needs(*packages: str) -> None:
    """Skip where a package of the extra ``cluster`` is missing; under CI that is a failure."""
    for name in packages:
        if os.environ.get("CI") == "true":
            __import__(name)
        pytest.importorskip(name, reason=f"{name} comes with the extra `cluster` or `dev`")


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """moto's server; yields the environment that leads boto3 and s3fs there."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # it remembers the address of the server before this one
    port = free_port()
    line = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with serving(line, port):
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(8),
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """The files of a folder over HTTP, with pages that list them; yields the address of the folder."""
    port = free_port()
    line = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    with serving(line, port):
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def serving(line: list[str], port: int) -> Iterator[None]:
    """A server process that answers on ``port``."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, f"{line} ended with {process.returncode}"
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def upload(folder: Path, bucket: str, prefix: str, environment: dict[str, str]) -> None:
    """Put all files of a folder into a new bucket, in a process of its own."""
    code = (
        "import sys, boto3, pathlib\n"
        "folder, bucket, prefix = sys.argv[1:]\n"
        "s3 = boto3.client('s3')\n"
        "s3.create_bucket(Bucket=bucket)\n"
        "for path in pathlib.Path(folder).rglob('*'):\n"
        "    if path.is_file():\n"
        "        s3.put_object(Bucket=bucket, Key=f'{prefix}/{path.relative_to(folder)}',"
        " Body=path.read_bytes())\n"
    )
    line = [sys.executable, "-W", "ignore", "-c", code, str(folder), bucket, prefix]
    subprocess.run(line, env={**os.environ, **environment}, check=True)
