"""A server in a process of its own, and Chromium to look at it with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_S = 60


def start(*arguments: object, port: object = 0, **settings: object) -> tuple[Any, str]:
    """Run `landcover ARGUMENTS` on a port, 0 for a free one, with LANDCOVER_* settings; return the
    process, which the caller ends, and its base URL."""
    command = [sys.executable, "-m", "app.cli", *map(str, arguments), "--port", str(port)]
    given = {f"LANDCOVER_{name.upper()}": str(value) for name, value in settings.items()}
    server = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **given}, stdout=subprocess.PIPE, text=True
    )
    timeout = Timer(START_S, server.kill)
    timeout.start()
    try:
        assert server.stdout is not None
        matches = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in server.stdout)
        address = next((match for match in matches if match), None)
        assert address, f"the server did not print its address within {START_S} s"
    finally:
        timeout.cancel()
    return server, address.group()


@contextmanager
def served(*arguments: object, **settings: object) -> Iterator[str]:
    """Run `landcover ARGUMENTS` on a free port with LANDCOVER_* settings; yield its base URL."""
    server, address = start(*arguments, **settings)
    with server:
        try:
            yield address
        finally:
            server.terminate()


@contextmanager
def launched(playwright: Any) -> Iterator[Any]:  # noqa: ANN401 - playwright is untyped here
    """Yield a headless Chromium. `playwright`: the module playwright.sync_api."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()
