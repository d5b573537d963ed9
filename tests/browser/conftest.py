"""The server over two years of one place, a browser, and visits to its map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.launch import CHROMIUM, launched, served
from tests.browser.visits import PHONE, WIDE, Visit
from tests.world.world import World


@pytest.fixture(scope="session")
def base(two_years: World, pixelwise_model: Path) -> Iterator[str]:
    """Start a server over two years of one place; yield its base URL."""
    options = ("--imagery", two_years.directory, "--model", pixelwise_model)
    with served("serve", "--workers", 1, *options) as address:
        yield address


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Yield a browser; skip where Chromium is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no `chromium` on the PATH")
    with launched(playwright) as browser:
        yield browser


@pytest.fixture
def visit(chromium: Any, base: str) -> Iterator[Visit]:  # noqa: ANN401
    """Yield a visit from a wide window."""
    context = chromium.new_context(viewport=WIDE)
    yield Visit(context.new_page(), base)
    context.close()


@pytest.fixture
def phone_visit(chromium: Any, base: str) -> Iterator[Visit]:  # noqa: ANN401
    """Yield a visit from a phone."""
    context = chromium.new_context(viewport=PHONE, has_touch=True, color_scheme="dark")
    yield Visit(context.new_page(), base)
    context.close()
