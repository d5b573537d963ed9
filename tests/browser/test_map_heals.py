"""The map after a fault: each ends, untouched, in a full map and its shares."""

from __future__ import annotations

import re
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
BUSY_S = 40


def heals(visit: Visit) -> None:
    """Assert that the map is full and counted within HEALED_S, without a hand on it."""
    visit.page.locator("body[data-state=idle][data-missing='0']").wait_for(timeout=HEALED_S * 1000)
    assert visit.page.locator("body").get_attribute("data-shares") == "ready"
    assert not visit.page.locator("#hint").is_visible()
    assert visit.page.locator(".toast").count() == 0
    visit.press("Home")
    assert class_cover(visit.pixels()) > 0.5
    assert sum(visit.tenths().values()) == 1000


def turn_to(visit: Visit, year: int) -> None:
    """Select another year: every tile of it is still to be asked for."""
    visit.page.locator("#years").get_by_text(str(year)).click()


def test_a_server_that_is_busy_for_a_while_is_waited_for(visit: Visit) -> None:
    visit.open(OPAQUE)
    visit.page.route(TILES, answer(503, **{"Retry-After": "2"}))
    turn_to(visit, 2017)
    pill = visit.page.locator("#hint.alarm")
    pill.wait_for()
    assert "missing" in pill.inner_text()
    before = len(visit.requested("/tiles/"))
    visit.page.wait_for_timeout(1000 * BUSY_S)
    assert visit.page.locator("body").get_attribute("data-shares") == "waiting"
    # 24 tiles of classes and of imagery, each again every 2 s and not sooner.
    tiles = len({url.split("&quality")[0] for url in visit.requested("year=2017")})
    most = (BUSY_S // 2 + 1) * tiles
    assert len(visit.requested("/tiles/")) - before <= most, "Retry-After is honored"
    visit.page.unroute(TILES)
    heals(visit)


def test_one_single_504_leaves_no_trace(visit: Visit) -> None:
    visit.open(OPAQUE)
    visit.page.route(VALUES, answer(504), times=1)
    turn_to(visit, 2017)
    visit.page.wait_for_timeout(500)
    heals(visit)


def test_imagery_that_cannot_be_read_is_named_and_asked_for_again(visit: Visit) -> None:
    visit.open(OPAQUE)
    visit.press("Home")
    visit.page.route(VALUES, answer(502, **{"Retry-After": "12"}))
    turn_to(visit, 2017)
    pill = visit.page.locator("#hint.alarm")
    pill.wait_for()
    assert "scene m_1 cannot be read" in pill.inner_text()
    visit.page.wait_for_timeout(600)
    assert class_cover(visit.pixels()) < 0.05, "no other year stands in for it"
    requested = len(visit.requested(".npy"))
    pill.get_by_role("button", name="Try now").dispatch_event("click")
    visit.page.wait_for_timeout(300)
    assert len(visit.requested(".npy")) > requested, "the button does not wait for Retry-After"
    visit.page.unroute(VALUES)
    heals(visit)


def test_a_network_that_comes_back_ends_the_waiting(visit: Visit) -> None:
    visit.open(OPAQUE)
    visit.page.context.set_offline(True)
    turn_to(visit, 2017)
    pill = visit.page.locator("#hint.alarm")
    pill.wait_for()
    assert "cannot be reached" in pill.inner_text()
    visit.page.wait_for_timeout(6000)
    visit.page.context.set_offline(False)
    heals(visit)


@pytest.fixture
def options(two_years: World, pixelwise_model: Path) -> tuple[object, ...]:
    """The command line of a server of its own."""
    imagery = "--imagery", two_years.directory
    return "serve", "--workers", 1, *imagery, "--model", pixelwise_model


def test_a_server_that_is_killed_and_started_again(
    chromium: Any,  # noqa: ANN401
    options: tuple[object, ...],
) -> None:
    server, base = start(*options)
    context = chromium.new_context(viewport=PHONE | {"width": 900})
    try:
        with server:
            visit = Visit(context.new_page(), base).open(OPAQUE)
            server.kill()
        turn_to(visit, 2017)
        visit.page.locator("#hint.alarm").wait_for()
        server, _ = start(*options, port=int(base.rpartition(":")[2]))
        with server:
            heals(visit)
            server.kill()
    finally:
        server.kill()
        context.close()


def test_a_page_opened_while_the_server_is_away_starts_later(visit: Visit) -> None:
    visit.page.route(re.compile(r"/(sources|legend)$"), answer(503, **{"Retry-After": "1"}))
    visit.page.goto(f"{visit.base}/map{OPAQUE}")
    visit.page.locator("#hint.alarm").wait_for()
    visit.page.unroute(re.compile(r"/(sources|legend)$"))
    heals(visit)
