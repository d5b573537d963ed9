"""The first look: what shows before the classes are there, and where imagery is."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyproj import Transformer

from tests.browser.launch import served
from tests.browser.visits import OPAQUE, WIDE, Visit, class_cover
from tests.world.world import World

pytestmark = [pytest.mark.browser, pytest.mark.alone, pytest.mark.slow]

VALUES = re.compile(r"/\d+\.npy\?")
PLACE = re.compile(r"WebMercatorQuad/(\d+)/(\d+)/(\d+)")


def test_ground_without_classes_is_hatched_and_never_a_bare_photograph(visit: Visit) -> None:
    visit.open(OPAQUE)
    visit.press("Home")
    visit.page.route(VALUES, lambda _: None)  # an answer that does not come
    visit.page.locator("#years").get_by_text("2017").click()
    visit.page.wait_for_timeout(3000)
    assert "first estimate" in visit.page.locator("#hint").inner_text()
    assert visit.page.locator("body").get_attribute("data-shares") == "waiting"
    pixels = visit.pixels()[60:-120, :-120].reshape(-1, 3)
    assert class_cover(visit.pixels()) < 0.02
    # Hatching is gray whatever the photograph below it shows; the made ground is colorful.
    spread = pixels.max(axis=1).astype(int) - pixels.min(axis=1)
    assert np.quantile(spread, 0.95) < 30


def test_estimates_come_first_then_exact_classes_from_the_middle_outward(visit: Visit) -> None:
    visit.open("#map=16.2/32.9705/-86.969&opacity=100")

    def estimated(route: Any) -> None:  # noqa: ANN401
        answer = route.fetch()
        route.fulfill(response=answer, headers=answer.headers | {"x-landcover-quality": "estimate"})

    visit.page.route(re.compile(r"quality=estimate"), estimated)
    held: list[Any] = []
    visit.page.route(re.compile(r"quality=exact"), lambda route: held.append(route))  # noqa: PLW0108 - Playwright refuses built-ins
    counted = {"blocks": 42, "cached": 12, "limit_blocks": 64}
    visit.page.route(
        re.compile(r"/estimate\?"),
        lambda route: route.fulfill(body=json.dumps(counted), content_type="application/json"),
    )
    visit.page.locator("#years").get_by_text("2017").click()
    visit.page.locator("body[data-shares=estimate]").wait_for()
    assert "≈" in visit.page.locator("#legend .share").first.inner_text()
    pill = visit.page.locator("#hint")
    pill.get_by_text("12 of 42 blocks exact").wait_for()
    visit.page.unroute(re.compile(r"quality=exact"))
    for route in held:
        route.continue_()
    visit.idle()
    assert "≈" not in visit.page.locator("#legend .share").first.inner_text()
    requested = [url for url in visit.requested(".npy") if "year=2017" in url]
    kinds = ["exact" in url for url in requested]
    assert kinds == sorted(kinds), "every tile has its estimate before the first exact one"
    exact = [_place(url) for url in requested if "exact" in url]
    middle = np.mean(exact, axis=0)
    distances = np.hypot(*(np.array(exact) - middle).T)
    assert len(exact) >= 9
    assert distances[:4].mean() < distances[4:].mean() < distances[-4:].mean()


def _place(url: str) -> tuple[int, int]:
    match = PLACE.search(url)
    assert match
    return int(match[2]), int(match[3])


def test_requests_of_tiles_that_left_the_view_are_aborted(visit: Visit) -> None:
    visit.open("#map=16.5/32.9705/-86.969")
    aborted: list[str] = []
    visit.page.on("requestfailed", lambda request: aborted.append(request.url))
    visit.page.route(VALUES, lambda _: None)
    visit.page.locator("#years").get_by_text("2017").click()
    visit.page.wait_for_timeout(800)
    before = len(aborted)
    visit.page.evaluate("location.hash = location.hash.replace(/map=[^&]*/, 'map=16.5/33.3/-88')")
    visit.page.wait_for_timeout(1500)
    assert len([url for url in aborted[before:] if ".npy" in url]) >= 4


def test_the_ring_around_the_view_is_fetched_last_and_at_a_low_priority(visit: Visit) -> None:
    ahead: list[str] = []

    def note(request: Any) -> None:  # noqa: ANN401
        if "u=7" in request.headers.get("priority", ""):
            ahead.append(request.url)

    visit.page.on("request", note)
    visit.open("#map=16.9/32.9705/-86.969")
    # Of what is in view an estimate is asked for first, of what is around it never.
    estimates = [url for url in visit.requested(".npy") if "quality=estimate" in url]
    inside = {url.split("&quality")[0] for url in estimates}
    visit.page.wait_for_timeout(9000)
    assert inside
    assert ahead
    assert not inside & {url.split("&quality")[0] for url in ahead}
    requests = len(visit.requested(".npy"))
    visit.page.locator("#front canvas").press("ArrowRight")
    visit.idle()
    near = [url for url in visit.requested(".npy")[requests:] if url.split("&quality")[0] in ahead]
    assert not near, "what was fetched ahead is not asked for again"


def test_a_place_without_imagery_says_so_and_leads_to_the_nearest(visit: Visit) -> None:
    visit.open("#map=16/33.05/-87.05&opacity=100")
    pill = visit.page.locator("#hint")
    assert "No imagery here" in pill.inner_text()
    pill.get_by_role("button", name="Nearest imagery").click()
    visit.idle()
    assert not pill.is_visible()
    visit.press("Home")
    assert class_cover(visit.pixels()) > 0.5


def test_images_too_small_to_see_are_counted_in_circles(visit: Visit) -> None:
    visit.open("#map=7/33.2/-87.2")
    circle = visit.page.get_by_role("button", name="Zoom to 1 image")
    assert circle.inner_text() == "1"
    visit.page.locator(".border-name").get_by_text("Alabama").wait_for()
    circle.click()
    visit.page.wait_for_timeout(500)
    visit.idle()
    assert visit.page.locator(".cluster").count() == 0
    assert sum(visit.tenths().values()) == 1000


@pytest.mark.parametrize(
    "written",
    [
        "32.9705, -86.969",
        "32.9705 -86.969",
        "32°58'13.8\"N 86°58'08.4\"W",
        "N 32 58.23 W 86 58.14",
        "86.969 W, 32.9705 N",
        "16S {0:.2f} {1:.2f}",
    ],
)
def test_coordinates_are_found_as_people_write_them(visit: Visit, written: str) -> None:
    to_utm = Transformer.from_crs(4326, 26916, always_xy=True)
    visit.page.goto(f"{visit.base}/map")
    box = visit.page.locator("#place")
    box.fill(written.format(*to_utm.transform(-86.969, 32.9705)))
    visit.page.locator("body:not([data-state=starting])").wait_for()
    visit.page.wait_for_timeout(500)
    box.press("Enter")
    visit.page.locator(".place").wait_for()
    center = visit.page.evaluate("location.hash.slice(5).split('&')[0].split('/').map(Number)")
    assert center[1:] == pytest.approx([32.9705, -86.969], abs=2e-5)


def test_what_is_no_place_is_explained(visit: Visit) -> None:
    visit.open()
    visit.page.locator("#place").fill("Mill Creek")
    visit.page.locator("#place").press("Enter")
    assert "32.94, -86.93" in visit.page.locator("#place-note").inner_text()


def test_an_operators_basemap_lies_below_and_is_credited(
    chromium: Any,  # noqa: ANN401
    two_years: World,
    pixelwise_model: Path,
) -> None:
    options = ("--workers", 1, "--imagery", two_years.directory, "--model", pixelwise_model)
    picture = io.BytesIO()
    Image.new("RGB", (256, 256), (255, 0, 255)).save(picture, "PNG")
    url = "https://tiles.example.org/{z}/{x}/{y}.png"
    with served("serve", *options, basemap=url, basemap_attribution="© Tilers") as base:
        context = chromium.new_context(viewport=WIDE)
        visit = Visit(context.new_page(), base)
        visit.page.route(
            re.compile("tiles.example.org"),
            lambda route: route.fulfill(
                body=picture.getvalue(),
                content_type="image/png",
                headers={"Access-Control-Allow-Origin": "*"},
            ),
        )
        visit.open("#map=16/33.05/-87.05")
        assert "© Tilers" in visit.page.locator("#credit").inner_text()
        assert (visit.pixels() == (255, 0, 255)).all(axis=-1).mean() > 0.5
        assert visit.errors == []
        context.close()


DRAWN = """async (frame) => {
  const resources = performance.getEntriesByType("resource").map(({ name }) => name);
  const { Pace } = await import(resources.find((name) => name.endsWith("/pace.js")));
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  let [isLoading, draws, clock] = [true, 0, 0];
  window.requestAnimationFrame = (then) => setTimeout(() => then(clock += frame));
  const pace = new Pace(() => isLoading);
  const ask = (isUrgent) => pace.request(() => { draws += 1; }, isUrgent);
  ask();
  await wait(50);
  for (let i = 0; i < 10; i += 1) ask();
  const loading = draws;
  ask(true);
  const moved = draws;
  isLoading = false;
  ask();
  await wait(500);
  return [loading, moved, draws];
}"""
"""How often is drawn while tiles come in, with the map moved then, and in the end."""


@pytest.mark.parametrize(("frame_ms", "drawn"), [(16, [11, 12, 13]), (800, [1, 12, 13])])
def test_slow_frames_are_drawn_once_for_many_tiles_but_never_wait_for_the_hand(
    visit: Visit, frame_ms: int, drawn: list[int]
) -> None:
    visit.open()
    assert visit.page.evaluate(DRAWN, frame_ms) == drawn
