"""`python -m tests.benchmarks.recovery [SECONDS] [NAME]`: how long after a fault of so many seconds
a source is back, with traffic and without; of all faults, or those with NAME in their name.

With traffic: from the end of the fault to the first success among requests that begin every 0.2 s.
Without: to the moment the source counts as available. Real clocks, the settings as shipped.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.errors import SourceUnavailable
from app.imagery.catalog.temporal import LATEST
from app.landcover.source import Source
from app.services import Services
from app.settings import Settings
from tests.world.doubles import Doubles, doubles
from tests.world.graphs import write_model
from tests.world.range_server import RangeServer, range_server
from tests.world.stac import item_of
from tests.world.world import World, two_quads

GOAL_S = 5.0
LONGEST_S = 70.0


@dataclass
class Place:
    """A running service with three sources, and the servers behind them."""

    world: World
    files: RangeServer
    stac: Doubles
    services: Services
    ground: Iterator[int]

    def source(self, name: str) -> Source:
        return self.services.sources.get(name)

    def read(self) -> None:
        """Request the header of a file of the list; SourceUnavailable."""
        store = self.source("list").store
        assert store is not None
        store.stat(self.files.url(self.world.scenes[0].path.name), "a")

    def read_signed(self) -> None:
        """Request the header of a file that has to be signed for; SourceUnavailable."""
        store = self.source("stac").store
        assert store is not None
        store.stat(self.stac.blob(self.world.scenes[0].path.name), "a")

    def search(self) -> None:
        """Search ground that nobody has requested yet; SourceUnavailable."""
        row, column = divmod(next(self.ground), 300)
        west, south = -155 + column / 4, 18 + row / 4
        self.source("stac").catalog.load((west, south, west + 0.01, south + 0.01), LATEST)


@dataclass(frozen=True)
class Fault:
    """What begins and ends it, and the call of a source that fails meanwhile."""

    name: str
    source: str
    call: Callable[[Place], None]
    begin: Callable[[Place], None]
    end: Callable[[Place], None]


def _files(name: str, begin: Callable[[RangeServer], None]) -> Fault:
    return Fault(name, "list", Place.read, lambda p: begin(p.files), lambda p: p.files.repair())


def _dead(server: RangeServer) -> None:
    server.fault("hang")


def _revive(place: Place) -> None:
    """Back to normal; connections that hang are never answered."""
    place.files.released = threading.Event()
    place.files.repair()


def _set(**values: object) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        for name, value in values.items():
            setattr(place.stac, name, value)

    return change


def _void_tokens(place: Place, answer: tuple[int, dict[str, str]]) -> None:
    place.stac.expire()
    place.stac.token_answers = [answer] * 1000


FAULTS = (
    _files("503", lambda s: s.fault("503")),
    _files("503 with Retry-After 3 s", lambda s: s.fault("503", retry_after="3")),
    _files("connections that hang, then close", lambda s: s.fault("hang")),
    Fault("connections that hang for ever", "list", Place.read, lambda p: _dead(p.files), _revive),
    _files("answers cut short", lambda s: s.fault("truncate")),
    _files("403", lambda s: s.fault("403")),
    _files("404", lambda s: s.fault("404")),
    _files("redirects", lambda s: s.fault("redirect")),
    _files("no byte ranges", lambda s: s.fault("no-range")),
    Fault("STAC search: 503", "stac", Place.search, _set(search_status=503),
          _set(search_status=0)),
    Fault("STAC search: 30 s late", "stac", Place.search, _set(search_delay_s=30.0),
          _set(search_delay_s=0.0)),
    Fault("token service: 503", "stac", Place.read_signed,
          lambda p: _void_tokens(p, (503, {})), _set(token_answers=[])),
    Fault("token service: 429 with Retry-After 3 s", "stac", Place.read_signed,
          lambda p: _void_tokens(p, (429, {"retry-after": "3"})), _set(token_answers=[])),
    Fault("storage: 500", "stac", Place.read_signed, _set(broken=500), _set(broken=0)),
)  # fmt: skip

TOML = """
[[source]]
id = "list"
type = "cogs"
urls = {urls}

[[source]]
id = "stac"
type = "stac-api"
url = "{stac.stac_url}"
collection = "naip"
signing = "auto"
token_url = "{stac.token_url}"
token_hosts = ["{stac.host}"]
"""


@contextmanager
def running(folder: Path, refresh_s: float = 60) -> Iterator[Place]:
    """A service over two scenes, watched as the server watches it."""
    world = two_quads(folder / "naip")
    with ExitStack() as stack:
        files = stack.enter_context(range_server(world.directory))
        stac = stack.enter_context(doubles(closed=409))
        stac.items = [item_of(made, stac.add(made.path)) for made in world.scenes]
        config = folder / "sources.toml"
        urls = [files.url(made.path.name) for made in world.scenes]
        config.write_text(TOML.format(urls=urls, stac=stac).replace("'", '"'))
        model = write_model(folder / "model.onnx")
        given = {"sources": config, "model": model, "refresh_s": refresh_s}
        services = Services(Settings.model_validate(given))
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        watching = asyncio.run_coroutine_threadsafe(services.watch(), loop)
        try:
            yield Place(world, files, stac, services, itertools.count())
        finally:
            watching.cancel()
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0.1), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
            services.close()


def succeeds(call: Callable[[Place], None], place: Place) -> bool:
    """Return whether a call is answered."""
    try:
        call(place)
    except SourceUnavailable:
        return False
    return True


def recovery(place: Place, fault: Fault, lasts_s: float, traffic: bool) -> float:
    """Return the seconds from the end of a fault to when its source is back."""
    with ThreadPoolExecutor(400) as pool:
        requests: list[Future[bool]] = []
        back = threading.Event()
        came: list[float] = []
        ended = float("inf")

        def request() -> bool:
            began = time.monotonic()
            done = succeeds(fault.call, place)
            if done and began >= ended:
                came.append(time.monotonic())
                back.set()
            return done

        assert succeeds(fault.call, place)
        fault.begin(place)
        stops = time.monotonic() + lasts_s
        while time.monotonic() < stops:
            requests.append(pool.submit(request))
            time.sleep(0.2)
        if not traffic:
            wait(requests)
            time.sleep(1)
        fault.end(place)
        ended = time.monotonic()
        while time.monotonic() - ended < LONGEST_S:
            if traffic:
                pool.submit(request)
                if back.wait(0.2):
                    return min(came) - ended
            elif place.source(fault.source).unavailable is None:
                return time.monotonic() - ended
            else:
                time.sleep(0.02)
    return float("inf")


def main() -> None:
    """Print the recovery of every fault."""
    lasts_s = float(sys.argv[1]) if len(sys.argv) > 1 else 8.0
    part = sys.argv[2] if len(sys.argv) > 2 else ""
    longest = 0.0
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as place:
        print(f"each fault lasts {lasts_s:g} s: seconds until the source is back")
        for fault in (each for each in FAULTS if part in each.name):
            with_traffic, without = (recovery(place, fault, lasts_s, t) for t in (True, False))
            longest = max(longest, with_traffic, without)
            line = f"{fault.name:45} with traffic {with_traffic:5.2f}   without {without:5.2f}"
            print(line, flush=True)
            time.sleep(1)
    print(f"longest: {longest:.2f} s, the goal is {GOAL_S:g} s")
    raise SystemExit(longest > GOAL_S)


if __name__ == "__main__":
    main()
