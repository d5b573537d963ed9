"""The map page in a real browser: the real server over the synthetic world, Debian's Chromium.

The page reports its state in attributes of <body>: `data-state` is `loading`, `idle` or
`failed`, `data-shares` is `waiting`, `counting`, `ready`, `none` or `failed`.
"""

from __future__ import annotations

import io
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from model.legend import LEGEND
from tests.browser.launch import CHROMIUM, launched, served
from tests.world.world import World

pytestmark = [pytest.mark.browser, pytest.mark.alone, pytest.mark.slow]

WIDE = {"width": 1200, "height": 760}
PHONE = {"width": 390, "height": 844}
IDLE_MS = 60_000
OPAQUE = "#opacity=100"

Pixels = npt.NDArray[np.uint8]


@dataclass
class Visit:
    """A visit to the page: the page, its requests, and the errors on the console."""

    page: Any
    base: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, fragment: str = "") -> Visit:
        """Open the map and wait until it is idle."""
        page = self.page
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type == "error" else None,
        )
        page.goto(f"{self.base}/map{fragment}")
        return self.idle()

    def idle(self) -> Visit:
        """Wait until tiles, shares and camera are idle."""
        self.page.wait_for_timeout(250)
        self.page.locator("body[data-state=idle]").wait_for(timeout=IDLE_MS)
        return self

    def requested(self, kind: str) -> list[str]:
        """Return the URLs requested so far that contain `kind`."""
        return [url for url in self.requests if kind in url]

    def pixels(self, left: int = 380) -> Pixels:
        """Return the window as drawn, right of column `left`: uint8 (rows, cols, 3)."""
        shot = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        return np.asarray(shot)[60:-60, left:]

    def tenths(self) -> dict[int, int]:
        """Return class value → share in the legend, tenths of a percent."""
        rows = self.page.locator("#legend li").all()
        return {
            int(row.get_attribute("data-value")): int(
                row.locator(".share").get_attribute("data-tenths")
            )
            for row in rows
        }

    def deltas(self) -> list[str]:
        """Return the legend's changes between two years, as text."""
        texts: list[str] = self.page.locator("#legend .delta").all_inner_texts()
        return texts

    def press(self, key: str) -> None:
        """Press a key on the divider."""
        self.page.locator("#knob").press(key)
        self.page.wait_for_timeout(200)


@pytest.fixture(scope="module")
def base(two_years: World, pixelwise_model: Path) -> Iterator[str]:
    """Start a server over two years of one place; yield its base URL."""
    options = ("--imagery", two_years.directory, "--model", pixelwise_model)
    with served("serve", "--workers", 1, *options) as address:
        yield address


@pytest.fixture(scope="module")
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


def class_shares(pixels: Pixels) -> dict[int, float]:
    """Return class value → percent of the class-colored pixels that have its exact color."""
    counts = {c.value: int((pixels == c.rgb).all(axis=-1).sum()) for c in LEGEND.classes}
    total = max(1, sum(counts.values()))
    return {value: 100 * count / total for value, count in counts.items()}


def class_cover(pixels: Pixels) -> float:
    """Return the share of the pixels that have any class's color, 0..1."""
    hit = [(pixels == c.rgb).all(axis=-1) for c in LEGEND.classes]
    return float(np.logical_or.reduce(hit).mean())


def answer(status: int, **headers: str) -> Callable[[Any], None]:
    """Return a route handler that answers every request with a problem document."""
    body = json.dumps({"title": "Imagery unavailable", "detail": "scene m_1 cannot be read"})
    kind = "application/problem+json"
    return lambda route: route.fulfill(status=status, body=body, content_type=kind, headers=headers)


def test_the_page_becomes_idle_without_an_error_on_the_console(visit: Visit) -> None:
    visit.open()
    assert visit.errors == []
    assert visit.requested("/imagery/tiles/")
    assert visit.requested(".png?")


def test_no_request_goes_to_another_host_or_above_the_root(visit: Visit) -> None:
    visit.open()
    assert all(url.startswith((f"{visit.base}/", f"blob:{visit.base}")) for url in visit.requests)


def test_no_tile_is_requested_outside_the_zooms_of_the_source(visit: Visit) -> None:
    visit.open("#map=18.8/32.955/-86.955")
    with urllib.request.urlopen(f"{visit.base}/sources") as response:  # noqa: S310
        source = json.load(response)["sources"][0]
    zooms = {int(z) for url in visit.requests for z in re.findall(r"WebMercatorQuad/(\d+)/", url)}
    assert zooms <= set(range(source["minzoom"], source["maxzoom"] + 1))


def test_shares_add_up_to_a_hundred_and_are_those_of_the_pixels_on_screen(visit: Visit) -> None:
    visit.open(OPAQUE)
    tenths = visit.tenths()
    assert sum(tenths.values()) == 1000
    visit.press("Home")
    drawn = class_shares(visit.pixels())
    assert {v: t / 10 for v, t in tenths.items()} == pytest.approx(drawn, abs=2.5)
    assert sum(share > 0 for share in drawn.values()) >= 3


def test_the_divider_uncovers_land_cover_by_key_and_by_mouse(visit: Visit) -> None:
    visit.open(OPAQUE)
    knob = visit.page.locator("#knob")
    visit.press("Home")
    assert class_cover(visit.pixels()) > 0.5
    visit.press("End")
    assert class_cover(visit.pixels()) < 0.05
    visit.press("ArrowLeft")
    assert knob.get_attribute("aria-valuenow") == "98"
    box = knob.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visit.page.mouse.move(x, y)
    visit.page.mouse.down()
    visit.page.mouse.move(x - 300, y, steps=4)
    visit.page.mouse.up()
    assert 40 < int(knob.get_attribute("aria-valuenow")) < 75


def test_switching_a_class_off_takes_it_from_the_tiles_and_back(visit: Visit) -> None:
    visit.open(OPAQUE)
    visit.press("Home")
    value = max(visit.tenths().items(), key=lambda entry: entry[1])[0]
    rest = ",".join(str(c.value) for c in LEGEND.classes if c.value != value)
    visit.page.locator(f'#legend li[data-value="{value}"] label').click()
    visit.idle()
    assert visit.requested(f"classes={rest}")
    assert class_shares(visit.pixels())[value] == 0
    assert visit.tenths()[value] > 0, "shares are those of every class, shown or not"
    visit.page.get_by_role("button", name="Show all").click()
    visit.idle()
    assert class_shares(visit.pixels())[value] > 0


def test_a_click_shows_class_confidence_and_scene_as_the_service_does(visit: Visit) -> None:
    visit.open()
    visit.page.mouse.click(600, 300)  # left of the divider: the cut canvas must not lose clicks
    place = visit.page.locator(".place[data-state=ready]")
    place.wait_for()
    with urllib.request.urlopen(visit.requested("/point/")[-1]) as response:  # noqa: S310
        point = json.load(response)
    text = place.inner_text()
    assert point["class"]["title"] in text
    assert f"{point['confidence']} %" in text
    assert point["scene"]["id"] in text
    place.locator("summary").click()
    place.locator(".probabilities .gauge").first.wait_for()
    assert place.locator(".probabilities .gauge").count() == len(LEGEND.classes)
    assert visit.errors == []


def test_a_place_beside_the_panel_is_not_hidden_under_it(visit: Visit) -> None:
    visit.open()
    panel = visit.page.locator("#panel").bounding_box()
    visit.page.mouse.click(panel["x"] + panel["width"] + 30, 100)
    place = visit.page.locator(".place[data-state=ready]")
    place.wait_for()
    assert place.bounding_box()["x"] > panel["x"] + panel["width"]


def test_enter_on_the_focused_map_reads_its_center(visit: Visit) -> None:
    visit.open()
    visit.page.locator("#front canvas").press("Enter")
    visit.page.locator(".place[data-state=ready]").wait_for()


def test_two_years_are_compared_side_by_side(visit: Visit) -> None:
    visit.open()
    visit.page.get_by_text("Compare two years").click()
    visit.idle()
    for year in (2017, 2019):
        assert visit.requested(f"year={year}&style=rgb")
        assert [url for url in visit.requested(f"year={year}") if ".npy" in url]
    assert all(re.fullmatch(r"[+−±]\d+\.\d", change) for change in visit.deltas())
    visit.page.locator("#befores").get_by_text("2019").click()
    assert visit.page.locator("#source-title").inner_text().endswith("2019–2017")


def test_a_link_brings_back_the_same_map(visit: Visit) -> None:
    visit.open()
    visit.page.locator("#years").get_by_text("2017").click()
    visit.page.get_by_text("Infrared").click()
    visit.page.get_by_text("Color-blind safe").click()
    visit.idle()
    link = visit.page.evaluate("location.hash")
    again = Visit(visit.page.context.new_page(), visit.base).open(link)
    assert again.page.evaluate("location.hash") == link
    assert again.requested("style=cir")
    assert again.requested("colormap_name=colorblind")
    assert not [url for url in again.requested("/tiles/") if "year=2017" not in url]


def test_a_link_of_the_old_spelling_still_chooses_the_colors(visit: Visit) -> None:
    visit.open("#colours=colorblind")
    assert visit.requested("colormap_name=colorblind")
    assert "colors=colorblind" in visit.page.evaluate("location.hash")


def test_a_busy_server_is_retried_without_an_error_message(visit: Visit) -> None:
    visit.page.route(re.compile(r"/\d+\.png\?"), answer(503, **{"Retry-After": "1"}), times=3)
    visit.open()
    assert visit.page.locator(".toast").count() == 0
    assert visit.page.locator("body").get_attribute("data-shares") == "ready"


def test_a_failure_is_shown_and_no_other_year_stands_in_for_it(visit: Visit) -> None:
    visit.open(OPAQUE)
    visit.press("Home")
    tiles = re.compile(r"/\d+\.(png|npy)\?")
    visit.page.route(tiles, answer(502))
    visit.page.locator("#years").get_by_text("2017").click()
    toast = visit.page.locator(".toast")
    toast.wait_for()
    assert "scene m_1 cannot be read" in toast.inner_text()
    visit.idle()
    assert class_cover(visit.pixels()) < 0.05
    visit.page.unroute(tiles)
    toast.get_by_role("button", name="Try again").click()
    visit.idle()
    assert class_cover(visit.pixels()) > 0.5
    assert sum(visit.tenths().values()) == 1000


def test_too_large_a_view_asks_to_zoom_in_instead_of_counting(visit: Visit) -> None:
    visit.open("#map=12/32.955/-86.955")
    assert "Zoom in" in visit.page.locator("#shares-note").inner_text()
    assert not visit.requested(".npy")


def test_a_phone_gets_a_sheet_that_opens(phone_visit: Visit) -> None:
    phone_visit.open()
    page = phone_visit.page
    assert not page.locator("#settings").is_visible()
    page.get_by_role("button", name="Settings and legend").click()
    assert page.locator("#settings").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert phone_visit.errors == []


def test_years_are_compared_only_where_both_are_classified(visit: Visit) -> None:
    visit.open("#map=14.2/32.9705/-86.969&year=2019&before=2017")  # the whole source in view
    both: dict[int, list[npt.NDArray[np.uint8]]] = {2019: [], 2017: []}
    for url in sorted(visit.requested(".npy")):
        with urllib.request.urlopen(url) as response:  # noqa: S310
            classes = np.load(io.BytesIO(response.read()))
        both[2019 if "year=2019" in url else 2017].append(classes)
    now, then = np.stack(both[2019]), np.stack(both[2017])
    common = (now != 255) & (then != 255)
    assert common.sum() < (now != 255).sum(), "the quads lie 100 m apart"
    expected = {c.value: 1000 * (now[common] == c.value).mean() for c in LEGEND.classes}
    assert visit.tenths() == pytest.approx(expected, abs=1)
    assert visit.tenths() != pytest.approx(
        {c.value: 1000 * (now[now != 255] == c.value).mean() for c in LEGEND.classes}, abs=1
    )
