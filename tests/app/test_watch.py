"""Sources are watched: one that went away is noticed, said, and back within seconds of its return;
one that misbehaves concerns no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.errors import SourceUnavailable
from app.landcover.source import Source
from app.main import create_app
from app.settings import Settings
from tests.app.conftest import tiles_around
from tests.world.doubles import Doubles, doubles
from tests.world.range_server import Mode, RangeServer, range_server
from tests.world.stac import item_of
from tests.world.world import World

pytestmark = pytest.mark.alone

BACK_S = 5.0


@pytest.fixture
def services(two_quads: World) -> Iterator[Doubles]:
    with doubles() as running:
        running.items = [item_of(made, running.add(made.path)) for made in two_quads.scenes]
        yield running


@pytest.fixture
def server(two_quads: World) -> Iterator[RangeServer]:
    with range_server(two_quads.directory) as running:
        yield running


@contextmanager
def served(folder: Path, model: Path, toml: str, **settings: object) -> Iterator[TestClient]:
    (folder / "sources.toml").write_text(toml)
    given = {"sources": folder / "sources.toml", "model": model, "refresh_s": 0, **settings}
    with TestClient(
        create_app(Settings.model_validate(given)), raise_server_exceptions=False
    ) as client:
        yield client


def cogs(server: RangeServer, world: World) -> str:
    urls = [server.url(made.path) for made in world.scenes]
    return (
        f'[[source]]\nid = "list"\ntype = "cogs"\nurls = {urls}\n'
        "read_s = 4\nrequest_s = 1\nretries = 0\n"
    ).replace("'", '"')


def stac(services: Doubles) -> str:
    return (
        f'[[source]]\nid = "stac"\ntype = "stac-api"\nurl = "{services.stac_url}"\n'
        'collection = "naip"\nread_s = 4\nrequest_s = 1\nretries = 0\n'
    )


def directory(world: World) -> str:
    return f'[[source]]\nid = "near"\ntype = "directory"\npath = "{world.directory}"\n'


def source_of(client: TestClient, name: str) -> Source:
    source: Source = client.app.state.services.sources.get(name)  # type: ignore[attr-defined]
    return source


def tile_of(world: World, source: str) -> str:
    z, x, y = tiles_around(*world.scenes[0].lonlat, 17, 0)[0]
    return f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png?source={source}"


def seconds_until(true: Callable[[], bool], most: float = 20) -> float:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < most
        time.sleep(0.02)
    return time.monotonic() - began


def figure(client: TestClient, name: str, source: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    (line,) = [each for each in lines if each.startswith(f'{name}{{source="{source}"}}')]
    return float(line.rpartition(" ")[2])


# ---- recovery ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["503", "hang", "truncate", "403"])
@pytest.mark.slow
def test_a_list_of_files_is_back_without_traffic(
    server: RangeServer, two_quads: World, pixelwise_model: Path, tmp_path: Path, mode: Mode
) -> None:
    with served(tmp_path, pixelwise_model, cogs(server, two_quads), probe_s=0.2) as client:
        store = source_of(client, "list").store
        assert store is not None
        server.fault(mode)
        href = server.url(two_quads.scenes[0].path)

        def fails() -> bool:
            with pytest.raises(SourceUnavailable):
                store.stat(href, "a")
            return store.circuit.is_open

        seconds_until(fails)
        requested = len(server.requested)
        seconds_until(lambda: len(server.requested) > requested)
        assert client.get("/readyz").status_code == 503
        server.repair()
        assert seconds_until(lambda: client.get("/readyz").status_code == 200) < BACK_S
        assert store.unavailable is None
        assert client.get(tile_of(two_quads, "list")).status_code == 200


def test_a_source_that_asks_for_time_gets_it_and_that_is_said(
    server: RangeServer, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    with served(tmp_path, pixelwise_model, cogs(server, two_quads), probe_s=0.1) as client:
        store = source_of(client, "list").store
        assert store is not None
        server.fault("503", retry_after="3")
        for _ in range(5):
            with pytest.raises(SourceUnavailable):
                store.stat(server.url(two_quads.scenes[0].path), "a")
        server.repair()
        requested = len(server.requested)
        reason = client.get("/readyz").json()["reasons"]["list"]
        assert "503; it asked to be left alone, for" in reason
        took = seconds_until(lambda: store.unavailable is None)
        assert 2 < took < BACK_S
        assert len(server.requested) == requested + 1


def test_a_source_that_was_away_at_start_is_there_without_traffic(
    server: RangeServer, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    server.fault("503")
    with served(tmp_path, pixelwise_model, cogs(server, two_quads), probe_s=0.2) as client:
        last = client.get("/readyz").json()["sources"]["list"]["last_refresh"]
        assert not last["ok"]
        assert "503" in last["error"]
        server.repair()
        assert seconds_until(lambda: client.get("/readyz").status_code == 200) < BACK_S
        assert client.get("/sources").json()["sources"][0]["scenes"] == len(two_quads.scenes)


@pytest.mark.parametrize("broken", ["search", "storage"])
@pytest.mark.slow
def test_a_stac_source_that_went_away_is_stale_everywhere_and_back_by_itself(
    services: Doubles, two_quads: World, pixelwise_model: Path, tmp_path: Path, broken: str
) -> None:
    with served(tmp_path, pixelwise_model, stac(services), refresh_s=0.3, probe_s=0.2) as client:
        tile = tile_of(two_quads, "stac")
        before = client.get(tile)
        assert before.status_code == 200
        assert "x-landcover-stale" not in before.headers
        seconds_until(lambda: figure(client, "landcover_source_unavailable", "stac") == 0)
        if broken == "search":
            services.search_status = 503
        else:
            services.broken = 500
        seconds_until(lambda: client.get(tile).headers.get("x-landcover-stale") == "true")
        assert client.get(tile).content == before.content
        assert client.get("/readyz").status_code == 503
        ready = client.get("/readyz").json()["sources"]["stac"]
        assert ready["unavailable"]
        assert client.get("/sources").json()["sources"][0]["unavailable"]
        seconds_until(lambda: figure(client, "landcover_source_unavailable", "stac") == 1)
        seconds_until(lambda: figure(client, "landcover_source_last_refresh_success", "stac") == 0)
        services.search_status = services.broken = 0

        def is_fresh() -> bool:
            return "x-landcover-stale" not in client.get(tile).headers

        assert seconds_until(is_fresh) < BACK_S
        seconds_until(lambda: figure(client, "landcover_source_last_refresh_success", "stac") == 1)
        seconds_until(lambda: figure(client, "landcover_source_unavailable", "stac") == 0)


def test_one_file_that_fails_for_good_does_not_make_its_server_one_that_is_away(
    server: RangeServer, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    good, bad = two_quads.scenes
    server.fault("503", only=bad.path.name)
    with served(tmp_path, pixelwise_model, cogs(server, two_quads), probe_s=0.1) as client:
        store = source_of(client, "list").store
        assert store is not None
        for _ in range(6):
            with pytest.raises(SourceUnavailable):
                store.stat(server.url(bad.path), "a")
        seconds_until(lambda: store.unavailable is None)
        source_of(client, "list").refresh()
        assert client.get("/readyz").status_code == 200
        (listed,) = client.get("/sources").json()["sources"]
        assert (listed["scenes"], listed["skipped"]) == (1, 1)
        store.stat(server.url(good.path), "a")


# ---- refresh -------------------------------------------------------------------------------------

BYTES = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x")


@pytest.mark.parametrize("error", [RecursionError(), BYTES, MemoryError(), OSError(), KeyError()])
def test_whatever_a_refresh_meets_with_the_next_one_comes_and_other_sources_are_refreshed(
    server: RangeServer, two_quads: World, pixelwise_model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, error: Exception,
) -> None:  # fmt: skip
    toml = cogs(server, two_quads) + directory(two_quads)
    with served(tmp_path, pixelwise_model, toml, refresh_s=0.1) as client:
        odd, calls = source_of(client, "list"), []

        def refresh() -> None:
            calls.append(1)
            raise error

        monkeypatch.setattr(odd.catalog, "refresh", refresh)
        seconds_until(lambda: len(calls) > 2)
        ready = client.get("/readyz").json()["sources"]
        assert ready["list"]["last_refresh"]["error"].startswith("unexpected ")
        assert ready["near"]["last_refresh"]["ok"]
        assert figure(client, "landcover_source_last_refresh_success", "list") == 0
        name = "landcover_source_last_refresh_timestamp_seconds"
        before = figure(client, name, "near")
        seconds_until(lambda: figure(client, name, "near") > before)
        monkeypatch.undo()
        seconds_until(lambda: odd.last_refresh.ok)


def test_a_refresh_that_hangs_delays_no_other_and_no_probe(
    server: RangeServer, two_quads: World, pixelwise_model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    toml = cogs(server, two_quads) + directory(two_quads)
    with served(tmp_path, pixelwise_model, toml, refresh_s=0.1, probe_s=0.1) as client:
        hanging, near = source_of(client, "list"), source_of(client, "near")
        leave, entered, probed = threading.Event(), threading.Event(), threading.Event()

        def refresh() -> None:
            entered.set()
            leave.wait(30)

        monkeypatch.setattr(hanging.catalog, "refresh", refresh)
        monkeypatch.setattr(hanging.catalog, "probe", probed.set)
        assert entered.wait(10)
        try:
            at = near.last_refresh.at
            seconds_until(lambda: near.last_refresh.at > at + 0.3)
            hanging.catalog._unavailable = "away"  # type: ignore[attr-defined]
            assert probed.wait(5)
        finally:
            leave.set()


def test_a_mosaicjson_that_turns_to_rubbish_keeps_its_scenes_and_takes_none_of_others(
    two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    mosaic = tmp_path / "mosaic.json"
    good = '{"tiles": {"0": ["' + '", "'.join(str(each.path) for each in two_quads.scenes) + '"]}}'
    mosaic.write_text(good)
    toml = f'[[source]]\nid = "m"\ntype = "mosaicjson"\nurl = "{mosaic}"\n' + directory(two_quads)
    with served(tmp_path, pixelwise_model, toml) as client:
        source = source_of(client, "m")
        for rubbish in (b"[" * 200_000, b'{"tiles": ' * 100_000, b"\xff\xfe", b"", b"{}", b"[1]"):
            mosaic.write_bytes(rubbish)
            source.refresh()
            assert not source.last_refresh.ok
            assert len(source.catalog.scenes) == len(two_quads.scenes)
        mosaic.write_text(good)
        source.refresh()
        assert source.last_refresh.ok
