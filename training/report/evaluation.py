"""An evaluation as files: JSON to go on with, Markdown to quote, a page of pictures to look at."""

from __future__ import annotations

from pathlib import Path

from training.assessment import Evaluation
from training.report.html import Album
from training.report.html import page as html
from training.report.section import one


def write(result: Evaluation, album: Album, folder: Path, name: str, pictures: int) -> None:
    """Writes `<name>.json`, `.md` and `.html` into `folder`; the page shows at most that many
    scenes, worst first. OSError where that cannot be done.
    """
    result.write(folder / f"{name}.json")
    (folder / f"{name}.md").write_text(one(result), encoding="utf-8")
    (folder / f"{name}.html").write_text(html(result, album, pictures), encoding="utf-8")
