"""The docs say what the code does: settings, links, routes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from app.imagery.config import AnyConfig
from app.main import create_app
from app.settings import Settings, settings_page

ROOT = Path(__file__).parents[1]
SOURCE_PAGES = ("sources.md", "sources-stac.md")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_settings_page_is_the_one_the_code_writes() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_key_of_a_source_is_documented() -> None:
    text = "".join((ROOT / "docs" / name).read_text() for name in SOURCE_PAGES)
    kinds = get_args(get_args(AnyConfig)[0])
    keys = {key for kind in kinds for key in kind.model_fields}
    assert [key for key in sorted(keys) if not re.search(rf"`{key}\b|^{key} =", text, re.M)] == []


def test_every_route_is_documented() -> None:
    text = " ".join(page.read_text() for page in PAGES)
    paths = create_app(Settings()).openapi()["paths"]
    undocumented = [path for path in paths if _stem(path) not in text]
    assert undocumented == []


def _stem(path: str) -> str:
    """A path as the docs write it: up to its last parameters."""
    return path.replace("{tileMatrixSetId}", "WebMercatorQuad").replace("{source_id}", "{id}")
