"""Layers of the map: change, confidence, many years, imagery finer than the classes."""

from __future__ import annotations

import io
import json
import re
import urllib.request
from typing import Any

import numpy as np
import pytest

from tests.browser.visits import Visit

pytestmark = [pytest.mark.browser, pytest.mark.alone, pytest.mark.slow]

WHOLE = "#map=14.2/32.9705/-86.969&opacity=100"
"""The whole source in view: the tiles on screen are all there is to count."""


def values_on_screen(visit: Visit, kind: str) -> Any:  # noqa: ANN401
    """Return the values of every tile of a kind, uint8 (tiles, rows, cols)."""
    requested = [url for url in visit.requested("Quad/15/") if ".npy" in url and kind in url]
    urls = {url.split("&quality")[0] for url in requested}
    arrays = []
    for url in sorted(urls):
        with urllib.request.urlopen(url) as response:  # noqa: S310
            arrays.append(np.load(io.BytesIO(response.read()))[0])
    return np.stack(arrays)


def test_change_is_counted_and_drawn_in_the_color_of_the_new_class(visit: Visit) -> None:
    visit.open(WHOLE)
    visit.page.locator("#layers").get_by_text("Change").click()
    visit.idle()
    assert "before=2017" in visit.page.evaluate("location.hash")
    codes = values_on_screen(visit, "layer=change")
    known = codes[codes != 255].astype(int)
    changed = known // 10 != known % 10
    expected = {v: 1000 * (changed & (known % 10 == v)).mean() for v in range(1, 7)}
    assert visit.tenths() == pytest.approx(expected, abs=1)
    note = visit.page.locator("#shares-note").inner_text()
    assert f"{100 * (1 - changed.mean()):.1f} % did not change" in note
    visit.page.locator("#layers").get_by_text("Classes").click()
    visit.idle()
    assert not visit.page.locator("#compare").is_checked()
    assert sum(visit.tenths().values()) == 1000


def test_confidence_has_a_legend_and_a_mean(visit: Visit) -> None:
    visit.open(WHOLE)
    visit.page.locator("#layers").get_by_text("Confidence").click()
    visit.idle()
    assert visit.page.locator("#ramp").is_visible()
    assert not visit.page.locator("#legend").is_visible()
    values = values_on_screen(visit, "layer=confidence")
    mean = values[values != 255].mean()
    assert (
        f"confidence of this view {mean:.0f} %" in visit.page.locator("#shares-note").inner_text()
    )


def test_ten_years_are_a_slider(visit: Visit) -> None:
    def with_ten_years(route: Any) -> None:  # noqa: ANN401
        document = route.fetch().json()
        document["sources"][0]["years"] = [*range(2010, 2019), 2019]
        route.fulfill(body=json.dumps(document), content_type="application/json")

    visit.page.route(re.compile(r"/sources$"), with_ten_years)
    visit.open()
    slider = visit.page.locator("#years input[type=range]")
    assert slider.get_attribute("aria-valuetext") == "2019"
    slider.focus()
    for _ in range(2):
        visit.page.keyboard.press("ArrowLeft")
    visit.idle()
    assert "year=2017" in visit.page.evaluate("location.hash")
    assert visit.page.locator("#years output").inner_text() == "2017"


def test_imagery_finer_than_the_classes_is_shown_pixel_by_pixel(visit: Visit) -> None:
    def finer(route: Any) -> None:  # noqa: ANN401
        document = route.fetch().json()
        for feature in document["features"]:
            feature["properties"]["resolution"] = 0.3
        route.fulfill(body=json.dumps(document), content_type="application/json")

    visit.page.route(re.compile(r"/footprints"), finer)
    visit.open("#map=18/32.9705/-86.969")
    zooms = {
        kind: set(re.findall(rf"{kind}/WebMercatorQuad/(\d+)", " ".join(visit.requests)))
        for kind in ("imagery/tiles", "0/tiles", r"\d/tiles")
    }
    assert zooms["imagery/tiles"] == {"19"}
    assert zooms[r"\d/tiles"] == {"17"}


def test_outlines_of_images_are_off_until_asked_for(visit: Visit) -> None:
    visit.open("#map=14/32.9705/-86.969&opacity=100")
    assert not visit.page.locator("#outlines").is_checked()
    before = visit.pixels()
    visit.page.get_by_text("Outlines of the images").click()
    visit.idle()
    assert "outlines=on" in visit.page.evaluate("location.hash")
    assert (visit.pixels() != before).any()
