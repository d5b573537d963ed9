"""`make pictures`: takes the pictures of the docs from the running product over Demo County.

`python -m tests.browser.pictures [NAME …]` takes those named; each is a function below.
"""

from __future__ import annotations

import base64
import code
import contextlib
import html
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
import rasterio
from PIL import Image, ImageDraw
from rasterio.io import MemoryFile
from rasterio.windows import from_bounds

from app.client import Client
from app.demo import write_county
from tests.browser.launch import ROOT, launched, served

COUNTY = ROOT / "demo-county"
OUT = ROOT / "docs" / "images"
IDLE_MS = 300_000
MOST_BYTES = 150_000
BOX = (-86.9475, 32.9290, -86.9275, 32.9480)  # degrees; the middle of Demo County
WATERSHED = {
    "type": "Feature",
    "id": "mill-creek",
    "properties": {"name": "Mill Creek"},
    "geometry": {
        "type": "Polygon",
        "coordinates": [[
            [-86.9475, 32.9345], [-86.9420, 32.9300], [-86.9350, 32.9315], [-86.9300, 32.9365],
            [-86.9310, 32.9430], [-86.9370, 32.9470], [-86.9440, 32.9440], [-86.9475, 32.9345],
        ]],
    },
}  # fmt: skip
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
DOTS = ("#c8442b", "#2b5fc8", "#8a3fc0", "#d08a00")

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
    """Return a screenshot and close the page."""
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


def map_(studio: Studio) -> Image.Image:
    """The map with a pop-up: README."""
    page = studio.map("", (1100, 700))
    page.mouse.click(860, 270)
    page.locator(".place[data-state=ready]").wait_for()
    return shot(page)


def gis(studio: Studio) -> Image.Image:
    """A class GeoTIFF in the colors of its color table, and the legend."""
    pixels, _ = studio.classes("/feature.tif?year=2017", WATERSHED)
    classes = Image.fromarray(pixels[::3, ::3])
    legend = studio.get("/legend").json()
    colors = legend["colormaps"]["landcover"]
    rows = "".join(
        f'<tr><td style="width:22px;height:22px;border:1px solid #888;background:{color}">'
        f"<td>{each['value']}<td>{each['title']}"
        for each in legend["classes"]
        if (color := colors.get(str(each["value"])))
    )
    note = f"<table>{rows}</table>"
    return studio.page(f'<div class="row">{embedded(classes)}{note}</div>', 960)


def web(studio: Studio) -> Image.Image:
    """The map on a phone, closed and with its settings open."""
    page = studio.map("", (360, 640), phone=True)
    closed = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.get_by_role("button", name="Settings and legend").click()
    idle(page)
    return studio.page(f'<div class="row">{embedded(closed)}{embedded(shot(page))}</div>', 780)


def planners(studio: Studio) -> Image.Image:
    """Hectares by class, mapped and adjusted with each confusion matrix."""
    feature = studio.get("/statistics?year=2017", WATERSHED).json()
    classes = feature["properties"]["statistics"]["classes"]
    colors = studio.get("/legend").json()["colormaps"]["landcover"]
    names = list(classes[0]["adjusted"]["by_assessment"])
    scale = 100 / max(
        value
        for each in classes
        for value in (each["hectares"], *each["adjusted"]["by_assessment"].values())
    )
    rows = ""
    for each in classes:
        color = colors[str(each["value"])]
        dots = "".join(
            f'<u style="left:calc({hectares * scale:.2f}% - 6px);background:{dot}"></u>'
            for dot, hectares in zip(DOTS, each["adjusted"]["by_assessment"].values(), strict=False)
        )
        bar = f'<i style="width:{each["hectares"] * scale:.2f}%;background:{color}"></i>{dots}'
        rows += f'<tr><td>{each["title"]}<td class="bar">{bar}<td>{each["hectares"]:.1f} ha'
    key = "".join(
        f' &nbsp; <span style="color:{dot}">●</span> {name}'
        for dot, name in zip(DOTS, names, strict=False)
    )
    title = "<b>Mill Creek, 2017.</b> Bars: mapped area. Dots: adjusted with the matrix of"
    return studio.page(f"<p>{title}{key}</p><table>{rows}</table>", 1000)


def operators(studio: Studio) -> Image.Image:
    """The doctor's report."""
    return studio.terminal(run("doctor", "--imagery", studio.county.name))


def settings(studio: Studio) -> Image.Image:
    """The warning about a misspelled setting."""
    command = ("serve", "--imagery", studio.county.name, "--port", "8000")
    text = run(*command, until="http://", LANDCOVER_CACH_DIR="/var/cache/landcover")
    return studio.terminal(text, 980)


def jobs(studio: Studio) -> Image.Image:
    """A job from its estimate to its results."""
    body = {"inputs": {"area": WATERSHED, "year": "2013"}}
    process = "/processes/classify-area"
    estimate = studio.get(f"{process}/estimate", body).json()
    response = httpx2.post(
        f"{studio.base}{process}/execution", json=body, headers={"Prefer": "respond-async"}
    )
    job = response.headers["location"].rpartition("/jobs/")[2]
    while (status := studio.get(f"/jobs/{job}").json())["status"] in ("accepted", "running"):
        time.sleep(0.2)
    kept = {name: status[name] for name in ("processID", "status", "progress", "blocks")}
    files = {
        name: each.get("href", "…") if isinstance(each, dict) else each
        for name, each in studio.get(f"/jobs/{job}/results").json().items()
    }
    short = json.dumps(files).replace(job, "$JOB")
    return studio.terminal(
        f"$ curl $S{process}/estimate -d @creek.json\n{json.dumps(estimate)}\n\n"
        f"$ curl -i $S{process}/execution -H 'Prefer: respond-async' -d @creek.json\n"
        f"HTTP/1.1 {response.status_code} {response.reason_phrase}\nLocation: …/jobs/{job}\n\n"
        f"$ curl $S/jobs/$JOB\n{json.dumps(kept)}\n\n$ curl $S/jobs/$JOB/results\n{short}",
        980,
    )


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


def client(studio: Studio) -> Image.Image:
    """A Python session with the client."""
    with Client(studio.base) as service:
        session = Session(
            [
                'client.point(-86.9358, 32.9387)["class"]["title"]',
                'client.estimate("classify-area", area)["blocks"]',
                'for each in client.statistics(area, year="2017")["classes"]:',
                "    print(f\"{each['title']:30} {each['hectares']:6.1f} ha\")",
                "",
                'job = client.submit("change", area, **{"from": "2013", "to": "2017"})',
                'client.wait(job)["status"]',
            ],
            {"client": service, "area": WATERSHED},
        )
        head = (
            '>>> from app.client import Client\n>>> client = Client("http://localhost:8000")\n'
            '>>> area = json.load(open("watershed.geojson"))\n'
        )
        return studio.terminal(head + session.record(), 820)


def sources(studio: Studio) -> Image.Image:
    """The outlines of the images on the map."""
    return shot(studio.map("#map=13.7/32.9388/-86.9374&landcover=off", (1000, 520)))


def sources_stac(studio: Studio) -> Image.Image:
    """The doctor on a static STAC catalog of Demo County."""
    with tempfile.TemporaryDirectory() as folder:
        items = [_item(path) for path in sorted((studio.county / "2017").glob("*.tif"))]
        collection = {"type": "FeatureCollection", "features": items}
        (Path(folder) / "catalog.json").write_text(json.dumps(collection))
        text = '[[source]]\nid = "county"\ntype = "stac"\nurl = "catalog.json"\n'
        (Path(folder) / "sources.toml").write_text(text)
        report = run("doctor", "--sources", f"{folder}/sources.toml").replace(f"{folder}/", "")
    return studio.terminal(f"$ cat sources.toml\n{text}\n{report}")


def _item(path: Path) -> dict[str, Any]:
    with rasterio.open(path) as dataset:
        properties = {
            "datetime": f"{path.stem[-8:-4]}-{path.stem[-4:-2]}-{path.stem[-2:]}T00:00:00Z",
            "proj:code": str(dataset.crs),
            "proj:shape": dataset.shape,
            "proj:transform": list(dataset.transform)[:6],
        }
    bands = [{"name": name, "common_name": name} for name in ("red", "green", "blue", "nir")]
    asset = {"href": str(path.resolve()), "type": "image/tiff", "eo:bands": bands}
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": path.stem, "geometry": None,
        "links": [], "properties": properties, "assets": {"image": asset},
    }  # fmt: skip


def benchmarks(studio: Studio) -> Image.Image:
    """What a smaller halo would change, from the figures of the page."""
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    shares = [(int(a), float(b)) for a, b in re.findall(r"(\d+): (0\.\d+) %", text)]
    most = max(share for _, share in shares)
    rows = "".join(
        f'<tr><td>halo {halo} px<td class="bar"><i style="width:{100 * share / most:.1f}%;'
        f'background:#3f9d6b"></i><td>{share:.4f} %'
        for halo, share in shares
    )
    title = "Pixels of a block whose class would change with more context"
    return studio.page(f"<b>{title}</b><table>{rows}</table>", 860)


def design(studio: Studio) -> Image.Image:
    """The blocks of the work grid, and one block with its halo."""
    west, south, east, north = BOX
    pixels, profile = studio.classes(f"/bbox/{west},{south},{east},{north}.tif?year=2017")
    left, _, _, top = profile["bounds"]
    pale = 255 - (255 - pixels.astype(np.uint16)) // 3
    col = int((left + 800) // 512) * 512 - int(left)
    row = int((10_000_000 - top + 800) // 512) * 512 - int(10_000_000 - top)
    inside = np.s_[row - 96 : row + 608, col - 96 : col + 608]
    pale[inside] = (pale[inside] + pixels[inside]) // 2
    inside = np.s_[row : row + 512, col : col + 512]
    pale[inside] = pixels[inside]
    image = Image.fromarray(pale.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for x in range(col % 512, image.width, 512):
        draw.line((x, 0, x, image.height), "#5a6a62", 3)
    for y in range(row % 512, image.height, 512):
        draw.line((0, y, image.width, y), "#5a6a62", 3)
    draw.rectangle((col - 96, row - 96, col + 608, row + 608), outline="#c8442b", width=6)
    image = image.resize((image.width // 3, image.height // 3), Image.Resampling.BOX)
    note = (
        "<p>Gray lines: blocks of 512 × 512 m.</p><p><b style='color:#c8442b'>Red:</b> what the "
        "network reads for one block: the block and 96 m of halo on every side.</p>"
        "<p>Only the block's classes are kept.</p>"
    )
    return studio.page(f'<div class="row">{embedded(image)}<div>{note}</div></div>', 960)


def accuracy(studio: Studio) -> Image.Image:
    """Imagery, reference labels, land cover and where they differ."""
    image, label, classes = _samples(studio, (-86.9330, 32.9410, -86.9290, 32.9443))
    wrong = np.where((label != classes).any(axis=-1)[..., None], (200, 68, 43), 240)
    panels = (image, label, classes, wrong.astype(np.uint8))
    names = ("Imagery", "Reference", "Land cover", "Different")
    figures = "".join(embedded(*each) for each in zip(panels, names, strict=True))
    return studio.page(f'<div class="row">{figures}</div>', 1620)


def training(studio: Studio) -> Image.Image:
    """What a network is trained on: imagery and labels."""
    boxes = [(-86.9455 + 0.0042 * i, 32.9395, -86.9430 + 0.0042 * i, 32.9416) for i in range(4)]
    pairs = [_samples(studio, box)[:2] for box in boxes]
    images = "".join(embedded(image) for image, _ in pairs)
    labels = "".join(embedded(label) for _, label in pairs)
    return studio.page(f'<div class="row">{images}</div><br><div class="row">{labels}</div>', 1060)


def _samples(studio: Studio, box: Sequence[float]) -> tuple[Pixels, Pixels, Pixels]:
    """Return imagery, reference labels and land cover of a box in one scene, as RGB."""
    west, south, east, north = box
    classes, profile = studio.classes(f"/bbox/{west},{south},{east},{north}.tif?year=2017")
    colors = {
        int(value): tuple(bytes.fromhex(color.lstrip("#")[:6]))
        for value, color in studio.get("/legend").json()["colormaps"]["landcover"].items()
    }
    table = np.array([colors.get(value, (255, 255, 255)) for value in range(256)], np.uint8)
    best = None
    for path in sorted((studio.county / "2017").glob("*.tif")):
        with rasterio.open(path) as scene:
            inner, outer = profile["bounds"], scene.bounds
            if not (
                outer.left <= inner.left
                and outer.right >= inner.right
                and outer.bottom <= inner.bottom
                and outer.top >= inner.top
            ):
                continue  # fmt: skip
            window = from_bounds(*inner, scene.transform)
            shape = profile["shape"]
            image = np.moveaxis(scene.read((1, 2, 3), window=window, out_shape=(3, *shape)), 0, -1)
        with rasterio.open(studio.county / "truth" / f"{path.stem}_label.tif") as truth:
            best = image, table[truth.read(1, window=window, out_shape=shape)]
    assert best is not None, f"no scene of Demo County contains {box}"
    return (*best, classes)


PICTURES: dict[str, Callable[[Studio], Image.Image]] = {
    "map": map_, "gis": gis, "web": web, "planners": planners, "operators": operators,
    "settings": settings, "jobs": jobs, "client": client, "sources": sources,
    "sources-stac": sources_stac, "benchmarks": benchmarks, "design": design,
    "accuracy": accuracy, "training": training,
}  # fmt: skip


def save(image: Image.Image, path: Path) -> None:
    """Write a PNG of at most MOST_BYTES, with as many colors as fit."""
    for colors in (256, 128, 64, 48, 32, 24, 16):
        out = io.BytesIO()
        image.quantize(colors, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            out, "PNG", optimize=True
        )
        if out.tell() <= MOST_BYTES:
            break
    path.write_bytes(out.getvalue())
    print(f"{path.name}: {out.tell() / 1000:.0f} kB, {colors} colors")


def main() -> None:
    """Take all pictures, or those named on the command line."""
    from playwright import sync_api

    names = sys.argv[1:] or list(PICTURES)
    OUT.mkdir(exist_ok=True)
    write_county(COUNTY)
    server = served("demo", "--directory", COUNTY, deadline_s=900, cache_dir=ROOT / "cache")
    with server as base, launched(sync_api) as browser:
        studio = Studio(browser, base, COUNTY)
        for name in names:
            save(PICTURES[name](studio), OUT / f"{name}.png")


if __name__ == "__main__":
    main()
