"""The code of the documentation, as its readers copy it."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def snippets(page: str, language: str) -> list[str]:
    """The blocks of code of a page in a language, in order."""
    text = (DOCS / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def snippet(page: str, language: str, part: str) -> str:
    """The one block that holds `part`."""
    (found,) = (each for each in snippets(page, language) if part in each)
    return found
