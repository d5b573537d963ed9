"""Faults of remote imagery and of catalogs: the range server, the STAC API, the names, the link."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.chaos.link import Link, State, link_to
from tests.chaos.oracle import Expected, Tiles, digest_of, expected_tile
from tests.chaos.stage import Fault, Group, Stage, open_bench
from tests.chaos.trial import Bench, Trial
from tests.world.doubles import Doubles, doubles
from tests.world.range_server import Mode, RangeServer, range_server
from tests.world.scenes import SyntheticScene, write_scene
from tests.world.stac import item_of

LASTS_S = 3.0
CHANGED, NAMED = 2030, 2031
"""Years of the image that is replaced, and of that which is reached by name."""


class SourceBench(Bench):
    """A server of remote imagery and what it depends on."""

    files: RangeServer
    link: Link
    stac: Doubles
    stac_link: Link
    replaced: SyntheticScene


def _toml(files: str, named: str, stac: str, years: list[SyntheticScene]) -> str:
    few = "read_s = 3\nrequest_s = 1\nretries = 1\n"
    urls = ", ".join(f'"{files}/{s.path.name}"' for s in years if s.year != NAMED)
    tables = [f'[[source]]\nid = "remote"\ntype = "cogs"\nurls = [{urls}]\n{few}']
    by_name = [s for s in years if s.year == NAMED]
    tables += [
        f'[[source]]\nid = "named"\ntype = "cogs"\nurls = ["{named}/{s.path.name}"]\n{few}'
        for s in by_name
    ]
    tables += [
        f'[[source]]\nid = "{id}"\ntype = "stac-api"\nurl = "{stac}"\ncollection = "naip"\n{few}'
        for id in ("catalog", "catalog-two")
    ]
    return "\n".join(tables)


@contextmanager
def _open(stage: Stage) -> Iterator[Bench]:
    folder = stage.folder / "sources"
    folder.mkdir()
    remote = folder / "remote"
    remote.mkdir()
    scenes = []
    for scene in stage.world.scenes[: 1 if stage.quick else 2]:
        shutil.copy(scene.path, remote)
        scenes.append(replace(scene, path=remote / scene.path.name))
    small = {
        year: write_scene(
            remote / f"m_3208601_nw_16_1_{year}0903.tif",
            year=year, cols=1500, rows=1500, overviews=False,
        )
        for year in (CHANGED, NAMED)
    }  # fmt: skip
    with range_server(remote) as files, doubles() as stac:
        port, stac_port = (int(url.rpartition(":")[2]) for url in (files.base, stac.url))
        with link_to(port) as link, link_to(stac_port) as stac_link:
            stac.url = f"http://127.0.0.1:{stac_link.port}"
            stac.items = [item_of(s, stac.add(s.path)) for s in scenes]
            toml = folder / "sources.toml"
            base, named = f"http://127.0.0.1:{link.port}", f"http://localhost:{port}"
            toml.write_text(_toml(base, named, stac.stac_url, [*scenes, *small.values()]))
            tiles = {
                "remote": Tiles(scenes, "remote"),
                "changed": Tiles([small[CHANGED]], "remote"),
                "named": Tiles([small[NAMED]], "named"),
                "catalog": Tiles(scenes[:1], "catalog"),
                "catalog-two": Tiles(scenes[:1], "catalog-two"),
            }
            warm = [*stage.local.take(4), *tiles["remote"].take(2), *tiles["named"].take(1)]
            options = ("--imagery", stage.world.directory, "--sources", toml)
            settings = {"model": stage.model, "refresh_s": 1}
            with open_bench(stage, folder, tiles, warm, *options, **settings) as opened:
                bench = SourceBench(opened.server, opened.prober, opened.tiles, opened.warm)
                bench.files, bench.link, bench.replaced = files, link, small[CHANGED]
                bench.stac, bench.stac_link = stac, stac_link
                yield bench


Change = Callable[[SourceBench], None]


def _trouble(source: str, begin: Change, end: Change, *, stale: bool = False) -> Fault:
    """A fault that lasts some seconds while uncached tiles of a source are asked for."""

    def run(bench: Bench, trial: Trial) -> None:
        assert isinstance(bench, SourceBench)
        tiles = bench.tiles[source]
        before = bench.files.faulted
        with trial.fault():
            begin(bench)
            trial.cold(tiles.take(1))
            time.sleep(LASTS_S)
            if stale:
                kept = [tile for tile in bench.warm if f"source={source}" in tile.path]
                status, _, headers = bench.server.ask("GET", kept[0].path)
                trial.expect(status == 200, f"a cached tile: {status}")
                trial.expect(headers.get("x-landcover-stale"), "a cached tile is not marked stale")
                answer = bench.server.ready()
                trial.expect(source in answer.get("sources_unavailable", ()), "readyz is silent")
            end(bench)
        trial.outcome.times = bench.files.faulted - before
        trial.recover(tiles.take(2))

    return Fault("", run)


def _mode(mode: Mode, retry_after: str = "") -> Fault:
    stale = mode in ("500", "503", "429")

    def begin(bench: SourceBench) -> None:
        headers = {"retry_after": retry_after} if retry_after else {}
        bench.files.fault(mode, -1, "", **headers)

    return _trouble("remote", begin, lambda bench: bench.files.repair(), stale=stale)


def _linked(state: State) -> Fault:
    return _trouble(
        "remote", lambda bench: bench.link.set(state), lambda bench: bench.link.set("ok"),
        stale=state == "refuse",
    )  # fmt: skip


def _names(there: bool) -> Change:
    def change(bench: SourceBench) -> None:
        if there:
            bench.server.no_names.unlink()
        else:
            bench.server.no_names.touch()
            # Connections that are open need no name.
            bench.files.fault("503", times=2)

    return change


def _replaced(bench: Bench, trial: Trial) -> None:
    """The file at an address becomes another one while tiles of it are asked for."""
    assert isinstance(bench, SourceBench)
    scene = bench.replaced
    other = write_scene(
        scene.path.with_suffix(".new"),
        year=scene.year + 50, cols=scene.cols, rows=scene.rows, overviews=False,
    )  # fmt: skip

    def after(tile: Expected) -> Expected:
        z, x, y = tile.path.partition(".png")[0].split("/")[-3:]
        classes = expected_tile(other, int(z), int(x), int(y))
        return Expected(tile.path, (digest_of(classes),))

    tiles = bench.tiles["changed"]
    first = tiles.take(2)
    trial.cold([tile.also(after(tile)) for tile in first])
    with trial.fault():
        time.sleep(0.5)
        other.path.replace(scene.path)
        time.sleep(2)
    trial.recover([after(tile) for tile in tiles.take(2)])
    trial.outcome.times = 1


def _search(source: str, begin: Change, end: Change) -> Fault:
    """As the catalog is asked for the first time it is in trouble."""
    return _trouble(source, begin, end)


def _stac_status(status: int) -> Change:
    def change(bench: SourceBench) -> None:
        bench.stac.broken = status

    return change


def _search_status(status: int) -> Change:
    def change(bench: SourceBench) -> None:
        bench.stac.search_status = status

    return change


def _stac_link(state: State) -> Change:
    return lambda bench: bench.stac_link.set(state)


GROUP = Group(
    "sources",
    _open,
    {
        "imagery server: 503": replace(_mode("503"), quick=True),
        "imagery server: 503 with Retry-After: 2": _mode("503", retry_after="2"),
        "imagery server: 500": _mode("500"),
        "imagery server: 429 with Retry-After: 1": _mode("429", retry_after="1"),
        "imagery server: 403": _mode("403"),
        "imagery server: 404": _mode("404"),
        "imagery server: redirect to another host": _mode("redirect"),
        "imagery server: ignores byte ranges": _mode("no-range"),
        "imagery server: hangs": replace(_mode("hang"), quick=True),
        "imagery server: 2 kB a second": _mode("slow"),
        "imagery server: bodies cut off": replace(_mode("truncate"), quick=True),
        "imagery server: bodies corrupt": replace(_mode("corrupt"), quick=True),
        "imagery server: one bit of a body flipped": _mode("flip"),
        "imagery server: connections refused": _linked("refuse"),
        "imagery server: connections reset": _linked("reset"),
        "imagery server: link cut": _linked("cut"),
        "a file is replaced while it is read": replace(Fault("", _replaced), quick=True),
        "host names do not resolve": _trouble("named", _names(False), _names(True)),
        "STAC API: search answers 503": _search("catalog", _search_status(503), _search_status(0)),
        "STAC API: hangs": _search("catalog-two", _stac_link("hang"), _stac_link("ok")),
        "STAC API: images answer 503": _trouble("catalog", _stac_status(503), _stac_status(0)),
        "STAC API: images answer 404": _trouble("catalog", _stac_status(404), _stac_status(0)),
        "STAC API: connections refused": _trouble(
            "catalog", _stac_link("refuse"), _stac_link("ok")
        ),
    },
)
