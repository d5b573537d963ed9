"""The map for fingers, keys and screen readers, and what one takes along."""

from __future__ import annotations

import io
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser.test_map_area import FIELD
from tests.browser.visits import DROP, OPAQUE, WIDE, Visit

pytestmark = [pytest.mark.browser, pytest.mark.alone, pytest.mark.slow]

OUTSIDE = """() => [...document.querySelectorAll("body *")]
  .filter((each) => each.checkVisibility())
  .filter((each) => !each.closest(".unseen, .skip, #front, #back, #busy, .maplibregl-ctrl"))
  .filter((each) => { const box = each.getBoundingClientRect();
    return box.width && (box.left < -1 || box.right > innerWidth + 1); })
  .map((each) => each.outerHTML.slice(0, 120))"""
OPEN_ALL = "document.querySelectorAll('#settings details').forEach((each) => { each.open = true; })"
SMALL = """() => [...document.querySelectorAll("button, select, summary, label:has(input), a")]
  .filter((each) => each.checkVisibility() && !each.closest(".skip, .unseen, p"))
  .filter((each) => { const box = each.getBoundingClientRect();
    return box.width && (box.height < 43.5 || box.width < 43.5); })
  .map((each) => `${each.outerHTML.slice(0, 100)} ${each.getBoundingClientRect().height}`)"""


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_axe_finds_no_violation(chromium: Any, base: str, look: str) -> None:  # noqa: ANN401
    spec = find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("axe-playwright-python is not installed")
    axe = (Path(spec.origin).parent / "axe.min.js").read_text()
    phone = {"width": 390, "height": 844}
    context = chromium.new_context(
        viewport=phone if look == "phone" else WIDE,
        has_touch=look == "phone",
        color_scheme="light" if look == "light" else "dark",
    )
    visit = Visit(context.new_page(), base).open()
    page = visit.page
    page.evaluate(axe)

    def violations() -> list[str]:
        found = page.evaluate("() => axe.run()")["violations"]
        return [f"{v['id']}: {[n['html'][:120] for n in v['nodes']]}" for v in found]

    assert violations() == []
    page.evaluate(DROP, ["field.geojson", json.dumps(FIELD)])
    page.locator("body[data-area=ready]").wait_for()
    if look == "phone":
        page.get_by_role("button", name="Settings and legend").click()
    page.evaluate(OPEN_ALL)
    visit.idle()
    assert violations() == []
    page.locator("#front canvas").press("Enter")
    page.locator(".place[data-state=ready]").wait_for()
    assert violations() == []
    context.close()


@pytest.mark.parametrize("width", [360, 430])
def test_no_tap_puts_a_box_outside_a_narrow_window(chromium: Any, base: str, width: int) -> None:  # noqa: ANN401
    context = chromium.new_context(viewport={"width": width, "height": 740}, has_touch=True)
    visit = Visit(context.new_page(), base).open()
    for x, y in ((width - 4, 130), (4, 90), (width // 3, 400)):
        visit.page.touchscreen.tap(x, y)
        visit.page.locator(".place[data-state=ready]").wait_for()
        card = visit.page.locator("#place-card").bounding_box()
        assert card["x"] >= 0
        assert card["x"] + card["width"] <= width
        assert card["y"] + card["height"] <= 740
        assert visit.page.evaluate(OUTSIDE) == []
    assert visit.page.locator("#short-legend").is_visible(), "the folded sheet has the legend"
    visit.page.locator("#place-close").tap()
    visit.page.get_by_role("button", name="Settings and legend").tap()
    visit.page.evaluate(OPEN_ALL)
    visit.idle()
    assert visit.page.evaluate(OUTSIDE) == []
    assert visit.page.evaluate(SMALL) == []
    context.close()


def test_a_tour_with_keys_alone(visit: Visit) -> None:
    visit.open(OPAQUE)
    page = visit.page
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
        if page.evaluate("document.activeElement.classList.contains('maplibregl-canvas')"):
            break
    else:
        pytest.fail(f"the map is not reached with Tab: {seen}")
    assert page.locator("#crosshair").is_visible()
    center = page.evaluate("location.hash")
    page.keyboard.press("ArrowRight")
    visit.idle()
    assert page.evaluate("location.hash") != center
    page.keyboard.press("Enter")
    place = page.locator(".place[data-state=ready]")
    place.wait_for()
    spoken = page.locator("#live").inner_text()
    assert place.locator("b").first.inner_text() in spoken
    assert "confidence" in spoken
    page.keyboard.press("Escape")
    assert page.locator(".place").count() == 0
    assert page.evaluate("document.activeElement.classList.contains('maplibregl-canvas')")
    page.locator("#knob").focus()
    page.keyboard.press("End")
    assert page.locator("#knob").get_attribute("aria-valuenow") == "100"


def test_the_back_button_goes_back_within_the_map(visit: Visit) -> None:
    visit.open("#year=2019")
    visit.page.locator("#years").get_by_text("2017").click()
    visit.page.get_by_text("Infrared").click()
    visit.idle()
    visit.page.go_back()
    visit.idle()
    assert "style=cir" not in visit.page.evaluate("location.hash")
    visit.page.go_back()
    visit.idle()
    assert visit.page.locator("#years input:checked").get_attribute("value") == "2019"


def test_a_picture_shows_the_map_its_legend_and_its_source(visit: Visit) -> None:
    visit.open(OPAQUE)
    visit.press("Home")
    on_screen = visit.pixels()
    visit.page.locator("#share summary").click()
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Picture").click()
    image = Image.open(io.BytesIO(download.value.path().read_bytes())).convert("RGB")
    pixels = np.asarray(image)
    assert image.width == WIDE["width"]
    assert image.height > WIDE["height"] + 100
    middle = np.s_[100:600, 500:1000]
    shown = on_screen[np.s_[40:540, 120:620]]
    assert (pixels[middle] == shown).mean() > 0.95
    assert np.unique(pixels[WIDE["height"] :].reshape(-1, 3), axis=0).shape[0] > 6


def test_a_printed_sheet_holds_the_picture_alone(visit: Visit) -> None:
    visit.open()
    visit.page.locator("#share summary").click()
    visit.page.evaluate("window.print = () => { window.printed = true; }")
    visit.page.get_by_role("button", name="Print").click()
    visit.page.wait_for_function("() => window.printed")
    visit.page.emulate_media(media="print")
    visit.page.locator("#sheet").wait_for()
    assert not visit.page.locator("#panel").is_visible()
    assert "2019" in visit.page.locator("#sheet").get_attribute("alt")


def test_the_first_load_is_light(visit: Visit) -> None:
    sizes: list[int] = []
    visit.page.on("response", lambda response: sizes.append(_transferred(response)))
    visit.open()
    assert sum(sizes) <= 600_000


def _transferred(response: Any) -> int:  # noqa: ANN401
    """Return the bytes of a page's part as they came over the wire; tiles are none of it."""
    if "/map" not in response.url:
        return 0
    return int(response.request.sizes()["responseBodySize"])
