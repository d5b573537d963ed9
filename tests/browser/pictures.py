"""`make pictures`: takes the pictures of the docs from the running product over Demo County.

`python -m tests.browser.pictures [NAME …]` takes those named; each is a function below.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import rasterio
from PIL import Image, ImageDraw
from rasterio.windows import from_bounds

from app.client import Client
from app.demo import write_county
from tests.browser.launch import ROOT, launched, served
from tests.browser.studio import Pixels, Session, Studio, embedded, idle, run, save, shot
from tests.browser.visits import DROP
from tests.world.range_server import range_server

COUNTY = ROOT / "demo-county"
OUT = ROOT / "docs" / "images"
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
DOTS = ("#c8442b", "#2b5fc8", "#8a3fc0", "#d08a00")


def map_(studio: Studio) -> Image.Image:
    """The map with a pop-up: README."""
    page = studio.map("", (1100, 700))
    page.mouse.click(860, 270)
    page.locator(".place[data-state=ready]").wait_for()
    return shot(page)


def area(studio: Studio) -> Image.Image:
    """The watershed dropped on the map: hectares, adjusted ranges, change, downloads."""
    page = studio.map("#map=14.4/32.9385/-86.9425&year=2017&opacity=100", (1100, 860))
    page.evaluate(DROP, ["watershed.geojson", json.dumps(WATERSHED)])
    page.locator("body[data-area=ready]").wait_for(timeout=300_000)
    page.get_by_role("button", name="Show change").click()
    page.locator("table.change").wait_for(timeout=300_000)
    page.locator("#area-details summary").evaluate("(each) => each.scrollIntoView()")
    idle(page)
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


def clients(studio: Studio) -> Image.Image:
    """The page with the server's own addresses for other programs."""
    page = studio.browser.new_page(viewport={"width": 900, "height": 1000})
    page.goto(f"{studio.base}/clients")
    return shot(page)


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
    title = "<b>Mill Creek, 2017.</b> Bars: mapped. Dots: adjusted with"
    return studio.page(f"<p>{title}{key}</p><table>{rows}</table>", 1000)


def operators(studio: Studio) -> Image.Image:
    """The doctor's report."""
    return studio.terminal(run("doctor", "--imagery", studio.county.name))


def settings(studio: Studio) -> Image.Image:
    """The warning about a misspelled setting."""
    command = ("serve", "--imagery", studio.county.name, "--port", "0")
    text = run(*command, until="http://", LANDCOVER_CACH_DIR="/var/cache/landcover")
    text = re.sub(r"(127\.0\.0\.1):\d+", r"\1:8000", text.replace(" --port 0", ""))
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
    short = json.dumps(files, ensure_ascii=False).replace(job, "$JOB")
    return studio.terminal(
        f"$ curl $S{process}/estimate -d @creek.json\n{json.dumps(estimate)}\n\n"
        f"$ curl -i $S{process}/execution -H 'Prefer: respond-async' -d @creek.json\n"
        f"HTTP/1.1 {response.status_code} {response.reason_phrase}\nLocation: …/jobs/{job}\n\n"
        f"$ curl $S/jobs/$JOB\n{json.dumps(kept)}\n\n$ curl $S/jobs/$JOB/results\n{short}",
        1080,
    )


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
    page = studio.map("#map=13.9/32.9388/-86.9374&landcover=off&outlines=on", (1000, 560))
    page.get_by_role("button", name="Settings and legend").click()
    idle(page)
    return shot(page)


def sources_stac(studio: Studio) -> Image.Image:
    """The doctor on a static STAC catalog, with Demo County on a web server."""
    with tempfile.TemporaryDirectory() as folder, range_server(studio.county) as server:
        paths = sorted((studio.county / "2017").glob("*.tif"))
        items = [_item(path, server.url(path)) for path in paths]
        collection = {"type": "FeatureCollection", "features": items}
        (Path(folder) / "catalog.json").write_text(json.dumps(collection))
        text = '[[source]]\nid = "county"\ntype = "stac"\nurl = "catalog.json"\n'
        (Path(folder) / "sources.toml").write_text(text)
        report = run("doctor", "--sources", f"{folder}/sources.toml").replace(f"{folder}/", "")
        report = report.replace(server.base, "https://imagery.example.org")
    return studio.terminal(f"$ cat sources.toml\n{text}\n{report}")


def _item(path: Path, href: str) -> dict[str, Any]:
    """Return the STAC item of a NAIP file at the URL `href`."""
    with rasterio.open(path) as dataset:
        properties = {
            "datetime": f"{path.stem[-8:-4]}-{path.stem[-4:-2]}-{path.stem[-2:]}T00:00:00Z",
            "proj:code": str(dataset.crs),
            "proj:shape": dataset.shape,
            "proj:transform": list(dataset.transform)[:6],
        }
    bands = [{"name": name, "common_name": name} for name in ("red", "green", "blue", "nir")]
    asset = {"href": href, "type": "image/tiff; application=geotiff", "eo:bands": bands}
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


def reliability(studio: Studio) -> Image.Image:
    """How long the service took to recover from each kind of fault, from the table of the page."""
    text = (ROOT / "docs" / "reliability.md").read_text()
    table = text.partition("<!-- chaos -->")[2].partition("<!-- /chaos -->")[0]
    cells = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    times = [(row[0].strip("| "), float(row[5].removesuffix(" s"))) for row in cells
             if row[5].endswith(" s")]  # fmt: skip
    rows = "".join(
        f'<tr><td>{name}<td class="bar"><i style="width:{100 * min(seconds, 5) / 5:.1f}%;'
        f'background:#3f9d6b"></i><td>{seconds:.1f} s'
        for name, seconds in sorted(times, key=lambda each: -each[1])[:16]
    )
    title = "Seconds from the end of a fault to normal service (limit: 5)"
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


def mistakes(studio: Studio) -> Image.Image:
    """Imagery, reference labels, land cover and where they differ."""
    image, label, classes = _samples(studio, (-86.9376, 32.9392, -86.9336, 32.9425))
    wrong = np.where((label != classes).any(axis=-1)[..., None], (200, 68, 43), 240)
    panels = (image, label, classes, wrong.astype(np.uint8))
    names = ("Imagery", "Reference", "Land cover", "Different")
    figures = "".join(embedded(*each) for each in zip(panels, names, strict=True))
    return studio.page(f'<div class="row">{figures}</div>', 1620)


def training(studio: Studio) -> Image.Image:
    """What a network is trained on: imagery and labels."""
    corners = (-86.9455, 32.9395), (-86.9371, 32.9395), (-86.9303, 32.9437), (-86.9440, 32.9330)
    boxes = [(west, south, west + 0.0025, south + 0.0021) for west, south in corners]
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
    "map": map_, "area": area, "gis": gis, "web": web, "planners": planners, "operators": operators,
    "settings": settings, "jobs": jobs, "client": client, "sources": sources,
    "sources-stac": sources_stac, "benchmarks": benchmarks, "design": design,
    "mistakes": mistakes, "training": training, "clients": clients, "reliability": reliability,
}  # fmt: skip


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
