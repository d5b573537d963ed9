"""Faults that clients cause: crowds, those that leave, slow and hostile ones, overload."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tests.chaos.oracle import Expected
from tests.chaos.stage import Fault, Group, Stage, open_bench
from tests.chaos.storms import Running
from tests.chaos.trial import HONEST, Bench, Trial
from tests.world.scenes import lonlat

MOST_RSS = 1.2
QUEUE = 16
GOODPUT = 0.9
CLOSED = 24
"""Tiles by which the capacity is measured."""


def _bench(
    stage: Stage, folder: str, model: Path, **settings: object
) -> AbstractContextManager[Bench]:
    """A server over the local files."""
    tiles = stage.local
    options = ("--imagery", stage.world.directory)
    return open_bench(
        stage, stage.folder / folder, {"local": tiles}, tiles.take(4), *options,
        model=model, **settings,
    )  # fmt: skip


def _open(stage: Stage) -> AbstractContextManager[Bench]:
    return _bench(stage, "clients", stage.model, cache_memory_mb=64)


class HostileBench(Bench):
    """A server whose memory is known from before anything happened."""

    idle: int


@contextmanager
def _open_hostile(stage: Stage) -> Iterator[Bench]:
    with _bench(stage, "hostile", stage.model) as opened:
        bench = HostileBench(opened.server, opened.prober, opened.tiles, opened.warm)
        time.sleep(1)
        bench.idle = bench.server.rss
        yield bench


def _open_slow(stage: Stage) -> AbstractContextManager[Bench]:
    return _bench(stage, "overload", stage.slow_model, queue_blocks=QUEUE)


def _documents(tiles: list[Expected]) -> list[Any]:
    return [tile.document() for tile in tiles]


def _count(trial: Trial, answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        trial.count(answer["code"], answer["wrong"])
        if answer["code"] in ("429", "503"):
            trial.expect(answer["retry_after"], f"{answer['code']} without Retry-After")


def _crowd(bench: Bench, trial: Trial) -> None:
    """F15: one inference for 200 clients."""
    tiles = bench.tiles["local"]
    (tile,) = tiles.take(1)
    before = bench.server.figure("landcover_blocks_inferred_total")
    with trial.fault():
        storm = Running("same", bench.server.port, clients=200, tiles=_documents([tile]))
        answers = storm.result()["answers"]
    _count(trial, answers)
    trial.recover(tiles.take(1))
    inferred = bench.server.figure("landcover_blocks_inferred_total") - before - 1
    trial.outcome.times = 200
    served = sum(a["code"] == "200" for a in answers)
    trial.note(f"{served} served by {inferred:.0f} inference")
    trial.expect(served == 200, f"{200 - served} of 200 clients were not served")
    trial.expect(inferred == 1, f"{inferred:.0f} inferences for one tile")


def _leavers(bench: Bench, trial: Trial) -> None:
    """F16: no slot is lost."""
    tiles = bench.tiles["local"]
    requested = tiles.take(6)
    with trial.fault():
        storm = Running(
            "leave", bench.server.port, clients=500, after_s=0.05, tiles=_documents(requested)
        )
        left = storm.result()["left"]
    trial.recover(tiles.take(1))
    trial.until(lambda: bench.server.ready().get("blocks_in_work") == 0, 10, "the queue is empty")
    trial.outcome.times = left
    trial.expect(left == 500, f"{500 - left} of 500 clients could not connect")


def _slow_clients(bench: Bench, trial: Trial) -> None:
    with trial.fault():
        storm = Running("loris", bench.server.port, clients=300, seconds=15)
        closed = storm.result()["closed_by_server"]
    trial.outcome.times = 300
    trial.note(f"{closed} closed by the server")
    trial.expect(closed == 300, f"{300 - closed} slow sockets stayed open for 15 s")
    trial.recover(bench.tiles["local"].take(1))


def _measured(kind: str, times: int, **fields: object) -> Fault:
    """A storm beside which memory may not grow."""

    def run(bench: Bench, trial: Trial) -> None:
        assert isinstance(bench, HostileBench)
        idle = most = bench.idle
        with trial.fault():
            storm = Running(kind, bench.server.port, **fields)
            while storm._process.poll() is None:
                most = max(most, bench.server.rss)
                time.sleep(0.1)
            storm.result()
        trial.outcome.times = times
        trial.note(f"memory {idle / 1e6:.0f} → {most / 1e6:.0f} MB")
        trial.expect(most <= MOST_RSS * idle, f"memory grew {most / idle:.2f} times")
        trial.recover(bench.tiles["local"].take(1))

    return Fault("", run)


def _long_queries(bench: Bench, trial: Trial) -> None:
    idle = bench.server.rss
    with trial.fault():
        path = bench.warm[0].path
        storm = Running("queries", bench.server.port, path=path, count=3000, length=7000)
        codes = storm.result()["codes"]
    grown = bench.server.rss - idle
    trial.outcome.times = 3000
    trial.outcome.codes.update(codes)
    trial.note(f"memory grew by {grown / 1e6:.0f} MB")
    trial.expect(grown <= 40e6, f"memory grew by {grown / 1e6:.0f} MB; the caches' limit is 32")
    trial.recover(bench.tiles["local"].take(1))


def _greedy(bench: Bench, trial: Trial) -> None:
    """One client takes what it can get; the prober is another one."""
    tiles = bench.tiles["local"]
    scene = tiles.scenes[0]
    left, bottom, right, top = scene.bounds
    paths = []
    for number in range(48):
        share = (number + 0.5) / 48
        x, y = left + share * (right - left), bottom + share * (top - bottom)
        lon, lat = lonlat(scene.epsg, x, y)
        place = f"{lon:.6f},{lat:.6f}"
        paths.append(f"/point/{place}?source={tiles.source}&year={scene.year}&probabilities=true")
    with trial.fault():
        storm = Running("greedy", bench.server.port, clients=24, seconds=5, paths=paths)
        time.sleep(0.5)
        requested = tiles.take(4)
        trial.cold(requested)
        codes = storm.result()["codes"]
        during = bench.prober.between(trial.began, time.monotonic())
        answered = {s.path for s in during if s.kind == "cold" and s.code == "200"}
    trial.outcome.times = sum(codes.values())
    trial.note(
        f"the other client: {len(answered)} of {len(requested)} tiles; the greedy one: {codes}"
    )
    served = f"{len(answered)} of {len(requested)}"
    trial.expect(len(answered) == len(requested), f"another client's tiles: {served}")
    trial.recover(tiles.take(1))


def _capacity(bench: Bench) -> float:
    """Return the tiles per second that eight clients get who ask when they have been answered."""
    tiles = _documents(bench.tiles["local"].take(CLOSED))
    measured = Running("closed_loop", bench.server.port, clients=8, tiles=tiles).result()
    served: int = sum(a["code"] == "200" for a in measured["answers"])
    return served / float(measured["seconds"])


def _overload(bench: Bench, trial: Trial) -> None:
    """Twice as many requests as can be answered: as many as can be are, the others are told when
    to come again."""
    tiles = bench.tiles["local"]
    before = _capacity(bench)
    seconds = min(15.0, max(5.0, (len(tiles) - CLOSED - 4) / before * 0.7))
    with trial.fault():
        result = Running(
            "open_loop", bench.server.port, rate=2 * before, seconds=seconds,
            tiles=_documents(tiles.take(len(tiles) - CLOSED - 2)),
        ).result()  # fmt: skip
    trial.recover(tiles.take(2))
    # A shared machine is not as fast all the time: before and after, as many tiles as meanwhile.
    capacity = (before + _capacity(bench)) / 2
    _count(trial, result["answers"])
    goodput = result["goodput"]
    shed = sum(a["code"] in ("429", "503") for a in result["answers"])
    trial.outcome.times = result["sent"]
    trial.note(
        f"capacity {capacity:.1f} tiles/s, offered {result['sent'] / seconds:.1f}, "
        f"goodput {goodput:.1f} ({goodput / capacity:.0%}), {shed} shed"
    )
    trial.expect(not result["ran_out"], "tiles ran out: not overloaded to the end")
    trial.expect(shed > 0, "nothing was shed: not overloaded")
    trial.expect(goodput >= GOODPUT * capacity, f"goodput {goodput / capacity:.0%} of capacity")


GROUP = Group(
    "clients",
    _open,
    {
        "200 clients, one cold tile": Fault("", _crowd, quick=True),
        "500 clients leave after 50 ms": Fault("", _leavers, quick=True),
        "one client requests all it can get": Fault("", _greedy),
    },
)
HOSTILE = Group(
    "hostile clients",
    _open_hostile,
    {
        "100 MB of headers": _measured("heads", 8, megabytes=100),
        "1,000 hostile connections": _measured("hostile", 1000, clients=1000, seconds=8),
        "300 clients send a byte a second": Fault("", _slow_clients),
        "3,000 long queries": Fault("", _long_queries, HONEST | {"414", "431", "400"}),
    },
)
OVERLOAD = Group(
    "overload",
    _open_slow,
    {"twice the requests that can be served": Fault("", _overload, HONEST | {"429"})},
)
