"""The docs say what the code does: contents, links, pictures, settings, routes, commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from app.cli import COMMANDS
from app.imagery.config import AnyConfig
from app.main import create_app
from app.settings import Settings, settings_page

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS]
IMAGES = ROOT / "docs" / "images"
SOURCE_PAGES = ("sources.md", "sources-stac.md")
MOST_BYTES = 150_000


def _prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def _headings(page: Path, level: str = "##+") -> list[str]:
    return re.findall(rf"^{level} (.+)$", _prose(page), re.MULTILINE)


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower())
    return kept.strip().replace(" ", "-")


def _links(page: Path) -> list[tuple[str, str]]:
    """Return (path, anchor) of every link to this project."""
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", _prose(page))
    return [(path, anchor) for path, anchor in links if ":" not in path]


def test_the_settings_page_is_the_one_the_code_writes() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for path, anchor in _links(page):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in map(_anchor, _headings(target, "#+"))):
            broken.append(f"{path}#{anchor}" if anchor else path)
    assert broken == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_page_begins_with_its_contents(page: Path) -> None:
    expected = [f"- [{title}](#{_anchor(title)})" for title in _headings(page, "##")]
    begin = page.read_text().partition("\n## ")[0].splitlines()
    contents = [line for line in begin if line.startswith("- [")]
    assert contents == expected, "its table of contents should be:\n" + "\n".join(expected)


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=lambda page: page.name)
def test_every_page_has_a_picture_with_a_description(page: Path) -> None:
    pictures = re.findall(r"!\[([^]]*)\]\(([^)]+)\)", page.read_text())
    assert pictures, "no picture: `make pictures` takes them, docs/images has them"
    assert [path for text, path in pictures if not text or not (page.parent / path).exists()] == []


def test_every_picture_is_small_and_shown_somewhere() -> None:
    shown = {(page.parent / path).resolve() for page in PAGES for path, _ in _links(page)}
    files = {path.resolve() for path in IMAGES.iterdir()}
    assert files - shown == set()
    assert {path.name for path in files if path.stat().st_size > MOST_BYTES} == set()


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
    """Return a path as the docs write it."""
    return path.replace("{tileMatrixSetId}", "WebMercatorQuad").replace("{source_id}", "{id}")


def test_every_command_is_documented() -> None:
    text = " ".join(page.read_text() for page in PAGES)
    names = [command.__name__ for command in COMMANDS]
    assert [name for name in names if f"landcover {name}" not in text] == []


def test_every_metric_is_documented() -> None:
    code = "".join(path.read_text() for path in (ROOT / "app").rglob("*.py"))
    kind = r"(?:Counter|Gauge|Histogram|Family)"
    names = set(re.findall(rf'{kind}\(\s*"(landcover_[a-z_]+)"', code))
    assert names, "no metric found in the code"
    text = (ROOT / "docs" / "operators.md").read_text()
    assert [name for name in sorted(names) if name not in text] == []


def test_no_index_of_packages_or_path_of_a_machine_is_named() -> None:
    text = " ".join(page.read_text() for page in PAGES)
    assert not re.search(r"/work/|/tmp/|/root/|/home/", text)
