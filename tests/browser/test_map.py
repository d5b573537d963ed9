"""The map page in a real browser: the real server over the synthetic world, Debian's Chromium.

The page reports its state in attributes of <body>: `data-state` is `loading`, `idle` or
`failed`, `data-shares` is `waiting`, `estimate`, `ready` or `none`, `data-missing` the number of
tiles that are requested for again.
"""

from __future__ import annotations

import io
import json
import re
import urllib.request

import numpy as np
import numpy.typing as npt
import pytest

from model.legend import COLORMAPS, LEGEND
from tests.browser.visits import OPAQUE, PHONE, Visit, class_cover, class_shares

pytestmark = [pytest.mark.browser, pytest.mark.alone, pytest.mark.slow]


def shows(visit: Visit, color: tuple[int, int, int]) -> bool:
    """Return whether a color covers some of the window."""
    return bool((visit.pixels() == color).all(axis=-1).mean() > 0.02)


def test_the_page_becomes_idle_without_an_error_on_the_console(visit: Visit) -> None:
    visit.open()
    assert visit.errors == []
    assert visit.requested("/imagery/tiles/")
    assert visit.requested(".npy?")


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


def test_switching_a_class_off_and_on_asks_for_no_tile_again(visit: Visit) -> None:
    visit.open(OPAQUE)
    visit.press("Home")
    value = max(visit.tenths().items(), key=lambda entry: entry[1])[0]
    known = visit.requested(".npy")
    visit.page.locator(f'#legend li[data-value="{value}"] label').click()
    visit.idle()
    assert class_shares(visit.pixels())[value] == 0
    assert visit.tenths()[value] > 0, "shares are those of every class, shown or not"
    visit.page.get_by_role("button", name="Show all").click()
    visit.idle()
    assert class_shares(visit.pixels())[value] > 0
    again = [url for url in visit.requested(".npy")[len(known) :] if url in known]
    assert again == []


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
    visit.page.locator("#opacity").fill("100")
    visit.idle()
    link = visit.page.evaluate("location.hash")
    again = Visit(visit.page.context.new_page(), visit.base).open(link)
    assert again.page.evaluate("location.hash") == link
    assert again.requested("style=cir")
    again.press("Home")
    assert shows(again, COLORMAPS["colorblind"][3])
    assert not [url for url in again.requested("/tiles/") if "year=2017" not in url]


def test_a_link_of_the_old_spelling_still_chooses_the_colors(visit: Visit) -> None:
    visit.open("#colours=colorblind&opacity=100")
    visit.press("Home")
    assert shows(visit, COLORMAPS["colorblind"][3])
    assert "colors=colorblind" in visit.page.evaluate("location.hash")


def test_too_large_a_view_asks_to_zoom_in_instead_of_counting(visit: Visit) -> None:
    visit.open("#map=12/32.955/-86.955")
    assert "Zoom in" in visit.page.locator("#shares-note").inner_text()
    assert visit.page.locator("body").get_attribute("data-shares") == "none"


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
    requested = [url for url in visit.requested("Quad/15/") if ".npy" in url]
    last = {url.split("&quality")[0] for url in requested}
    for url in sorted(last):
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
