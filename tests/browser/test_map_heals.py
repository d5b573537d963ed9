"""The map after a fault: each ends, untouched, in a full map and its shares."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.launch import start
from tests.browser.visits import OPAQUE, PHONE, Visit, answer, class_cover
from tests.world.world import World

pytestmark = [pytest.mark.browser, pytest.mark.alone, pytest.mark.slow]

TILES = re.compile(r"/tiles/WebMercatorQuad/")
VALUES = re.compile(r"/\d+(@2x)?\.npy\?")
HEALED_S = 30


def heals(visit: Visit) -> None:
    """Assert that the map is full and counted within HEALED_S, without a hand on it."""
    visit.page.locator("body[data-state=idle][data-missing='0']").wait_for(timeout=HEALED_S * 1000)
    assert visit.page.locator("body").get_attribute("data-shares") == "ready"
    assert not visit.page.locator("#hint").is_visible()
    assert visit.page.locator(".toast").count() == 0
    visit.press("Home")
    assert class_cover(visit.pixels()) > 0.5
    assert sum(visit.tenths().values()) == 1000


def begin(visit: Visit, fragment: str = OPAQUE) -> None:
    """Open the map without waiting for it."""
    visit.page.goto(f"{visit.base}/map{fragment}")


def test_a_server_that_is_busy_for_a_while_is_waited_for(visit: Visit) -> None:
    began, waits = time.monotonic(), list[float]()

    def busy(route: Any) -> None:  # noqa: ANN401
        if time.monotonic() - began > 12:
            route.continue_()
        else:
            waits.append(time.monotonic())
            answer(503, **{"Retry-After": "2"})(route)

    visit.page.route(TILES, busy)
    begin(visit)
    pill = visit.page.locator("#hint.alarm")
    pill.wait_for()
    assert "missing" in pill.inner_text()
    assert visit.page.locator("body").get_attribute("data-shares") == "waiting"
    heals(visit)
    assert len(waits) < 12 / 1.8 * 60, "Retry-After is honored"


def test_one_single_504_leaves_no_trace(visit: Visit) -> None:
    visit.page.route(VALUES, answer(504), times=1)
    begin(visit)
    visit.page.wait_for_timeout(500)
    heals(visit)


def test_imagery_that_cannot_be_read_is_named_and_asked_for_again(visit: Visit) -> None:
    visit.open(OPAQUE)
    visit.press("Home")
    visit.page.route(VALUES, answer(502, **{"Retry-After": "12"}))
    visit.page.locator("#years").get_by_text("2017").click()
    pill = visit.page.locator("#hint.alarm")
    pill.wait_for()
    assert "scene m_1 cannot be read" in pill.inner_text()
    visit.page.wait_for_timeout(600)
    assert class_cover(visit.pixels()) < 0.05, "no other year stands in for it"
    asked = len(visit.requested(".npy"))
    pill.get_by_role("button", name="Try now").dispatch_event("click")
    visit.page.wait_for_timeout(300)
    assert len(visit.requested(".npy")) > asked, "the button does not wait for Retry-After"
    visit.page.unroute(VALUES)
    heals(visit)


def test_a_network_that_comes_back_ends_the_waiting(visit: Visit) -> None:
    visit.open(OPAQUE)
    visit.page.context.set_offline(True)
    visit.page.locator("#years").get_by_text("2017").click()
    pill = visit.page.locator("#hint.alarm")
    pill.wait_for()
    assert "cannot be reached" in pill.inner_text()
    visit.page.wait_for_timeout(6000)
    visit.page.context.set_offline(False)
    heals(visit)


@pytest.fixture
def options(two_years: World, pixelwise_model: Path) -> Iterator[tuple[object, ...]]:
    """The command line of a server of its own."""
    imagery = "--imagery", two_years.directory
    yield "serve", "--workers", 1, *imagery, "--model", pixelwise_model


def test_a_server_that_is_killed_and_started_again(
    chromium: Any,  # noqa: ANN401
    options: tuple[object, ...],
) -> None:
    server, base = start(*options)
    context = chromium.new_context(viewport=PHONE | {"width": 900})
    try:
        visit = Visit(context.new_page(), base).open(OPAQUE)
        server.kill()
        server.wait()
        visit.page.locator("#years").get_by_text("2017").click()
        visit.page.locator("#hint.alarm").wait_for()
        server, _ = start(*options, port=int(base.rpartition(":")[2]))
        heals(visit)
    finally:
        context.close()
        server.kill()
        server.wait()


def test_a_page_opened_while_the_server_is_away_starts_later(visit: Visit) -> None:
    visit.page.route(re.compile(r"/(sources|legend)$"), answer(503, **{"Retry-After": "1"}))
    begin(visit)
    visit.page.locator("#hint.alarm").wait_for()
    visit.page.unroute(re.compile(r"/(sources|legend)$"))
    heals(visit)
