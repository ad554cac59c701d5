"""A served page and a real browser: Debian's Chromium by Playwright, or the test is skipped with a reason."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from tests.serving.programs import program


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application on a free port of this machine, until the block ends."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, server_header=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            until = time.monotonic() + 20
            while not server.started and time.monotonic() < until:
                time.sleep(0.02)
            assert server.started
            yield f"http://localhost:{port}"
        finally:
            server.should_exit = True
            thread.join(10)


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser."""
    found = program("chromium", "chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        if os.environ.get("CI") == "true":
            pytest.fail("playwright is missing; run: pip install playwright")
        pytest.skip("needs playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(Path(found)), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
