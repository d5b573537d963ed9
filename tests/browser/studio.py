"""What the pictures of the docs are put together with: HTML, terminals, the map, class GeoTIFFs."""

from __future__ import annotations

import base64
import code
import contextlib
import html
import io
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
from PIL import Image
from rasterio.io import MemoryFile

from tests.browser.launch import ROOT

IDLE_MS = 300_000
MOST_BYTES = 150_000
STYLE = """
body { margin: 0; padding: 18px; font: 15px "DejaVu Sans", sans-serif; color: #16201b; }
pre { margin: 0; padding: 16px 20px; border-radius: 8px; background: #14191a; color: #dfe7e2;
      font: 14px/1.35 "DejaVu Sans Mono", monospace; white-space: pre-wrap; }
pre b { color: #7cd788; font-weight: normal; }
.row { display: flex; gap: 18px; align-items: flex-start; }
.row img { image-rendering: pixelated; display: block; }
figure { margin: 0; } figcaption { margin-bottom: 6px; font-weight: bold; }
table { border-spacing: 8px 7px; } td.bar { width: 560px; position: relative; height: 20px; }
.bar i, .bar u { position: absolute; top: 0; height: 20px; }
.bar u { width: 11px; height: 11px; top: 4px; border-radius: 6px; border: 1px solid #fff; }
"""

Pixels = npt.NDArray[np.uint8]


@dataclass
class Studio:
    """The running service, a browser, and what the pictures are put together with."""

    browser: Any
    base: str
    county: Path

    def get(self, path: str, area: object = None) -> httpx2.Response:
        """Return the response of the service; POST when an area is given."""
        method = "GET" if area is None else "POST"
        response = httpx2.request(method, self.base + path, json=area, timeout=900)
        return response.raise_for_status()

    def page(self, body: str, width: int) -> Image.Image:
        """Return a picture of HTML, `width` CSS pixels wide."""
        page = self.browser.new_page(viewport={"width": width, "height": 100})
        page.set_content(f"<style>{STYLE}</style><body>{body}</body>")
        shot = page.screenshot(full_page=True)
        page.close()
        return Image.open(io.BytesIO(shot)).convert("RGB")

    def terminal(self, text: str, width: int = 860) -> Image.Image:
        """Return a picture of a terminal; lines after a prompt are highlighted."""
        lines = html.escape(text.strip()).replace(self.base.split("//")[1], "localhost:8000")
        marked = re.sub(r"(?m)^((?:\$|&gt;&gt;&gt;|\.\.\.) .*)$", r"<b>\1</b>", lines)
        return self.page(f"<pre>{marked}</pre>", width)

    def map(self, fragment: str, size: tuple[int, int], *, phone: bool = False) -> Any:  # noqa: ANN401
        """Return the map's page, opened and idle."""
        viewport = {"width": size[0], "height": size[1]}
        context = self.browser.new_context(viewport=viewport, has_touch=phone)
        page = context.new_page()
        page.goto(f"{self.base}/map{fragment}")
        idle(page)
        return page

    def classes(self, path: str, area: object = None) -> tuple[Pixels, Any]:
        """Return a class GeoTIFF in its own colors, uint8 (rows, cols, 3), and its profile."""
        with MemoryFile(self.get(path, area).content) as file, file.open() as dataset:
            values, colors = dataset.read(1), dataset.colormap(1)
            profile = {"bounds": dataset.bounds, "shape": dataset.shape, "values": values}
        table = np.full((256, 3), 255, np.uint8)
        for value, rgba in colors.items():
            table[value] = rgba[:3]
        table[255] = 255
        return table[values], profile


def idle(page: Any) -> None:  # noqa: ANN401
    """Wait until the map is idle."""
    page.wait_for_timeout(400)
    page.locator("body[data-state=idle]").wait_for(timeout=IDLE_MS)


def shot(page: Any) -> Image.Image:  # noqa: ANN401
    """Return a screenshot and close the page; AssertionError if it shows an error."""
    assert page.locator(".toast").count() == 0, page.locator(".toast").inner_text()
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.context.close()
    return image


def embedded(image: Image.Image | Pixels, caption: str = "") -> str:
    """Return an image as an HTML figure."""
    out = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(out, "PNG")
    source = base64.b64encode(out.getvalue()).decode()
    text = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure>{text}<img src="data:image/png;base64,{source}"></figure>'


def run(*command: str, until: str = "", **environment: str) -> str:
    """Return a `landcover` command and its output, stopped at a line that contains `until`."""
    shown = " ".join(f"{name}={value}" for name, value in environment.items())
    lines = [f"$ {shown} landcover {' '.join(command)}".replace("$  ", "$ ")]
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", *command],
        cwd=ROOT,
        env={**os.environ, **environment, "COLUMNS": "96"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if until and until in line:
                process.terminate()
                break
    return "\n".join(lines)


class Session(code.InteractiveConsole):
    """A Python session with given input, which records what a terminal would show."""

    def __init__(self, lines: Sequence[str], names: dict[str, Any]) -> None:
        super().__init__(names)
        self.shown = io.StringIO()
        self._lines = iter(lines)

    def raw_input(self, prompt: str = "") -> str:
        """Return the next line of input."""
        line = next(self._lines, None)
        if line is None:
            raise EOFError
        self.shown.write(f"{prompt}{line}\n")
        return line

    def record(self) -> str:
        """Run the session; return all of it."""
        with contextlib.redirect_stdout(self.shown):
            self.interact(banner="", exitmsg="")
        return self.shown.getvalue()


def save(image: Image.Image, path: Path) -> None:
    """Write a PNG of at most MOST_BYTES, with as many colors as fit."""
    for colors in (256, 128, 64, 48, 32, 24, 16):
        out = io.BytesIO()
        image.quantize(colors, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE).save(
            out, "PNG", optimize=True
        )
        if out.tell() <= MOST_BYTES:
            break
    path.write_bytes(out.getvalue())
    print(f"{path.name}: {out.tell() / 1000:.0f} kB, {colors} colors")
