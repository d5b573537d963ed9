"""What clients are told: bad values, validators, empty places, trouble with imagery, load."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
import uvicorn
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from app.cli.server import prepare_routes
from app.main import create_app
from app.services import Services
from app.settings import Settings
from model.legend import NODATA
from tests.app.conftest import Serve, classes_in, tiles_around
from tests.world import world as made
from tests.world.scenes import write_scene
from tests.world.world import World


def services_of(client: TestClient) -> Services:
    services: Services = client.app.state.services  # type: ignore[attr-defined]
    return services


def tile_path(place: World, zoom: int = 17, suffix: str = "png") -> str:
    z, x, y = tiles_around(*place.scenes[0].lonlat, zoom, 0)[0]
    return f"/tiles/WebMercatorQuad/{z}/{x}/{y}.{suffix}"


HUGE = 10**30
BAD: list[tuple[str, int, str]] = [
    ("/tiles/WebMercatorQuad/-1/0/0.png", 400, "z"),
    ("/tiles/WebMercatorQuad/25/0/0.png", 400, "z"),
    (f"/tiles/WebMercatorQuad/{HUGE}/0/0.png", 400, "z"),
    ("/tiles/WebMercatorQuad/a/0/0.png", 400, "z"),
    ("/tiles/WebMercatorQuad/3/8/0.png", 400, "x"),
    ("/tiles/WebMercatorQuad/3/-1/0.png", 400, "x"),
    ("/tiles/WebMercatorQuad/3/1.5/0.png", 400, "x"),
    ("/tiles/WebMercatorQuad/3/0/8.png", 400, "y"),
    ("/tiles/WebMercatorQuad/3/0/-1.png", 400, "y"),
    (f"/tiles/WebMercatorQuad/3/0/{HUGE}.png", 400, "y"),
    ("/tiles/WebMercatorQuad/3/0/x.png", 400, "y"),
    ("/tiles/WebMercatorQuad/3/0/0@3x.png", 400, "y"),
    ("/tiles/WebMercatorQuad/3/0/0.jpg", 400, "format"),
    ("/tiles/WebMercatorQuad/3/0/0.exe", 400, "format"),
    ("/tiles/LINZAntarctica/3/0/0.png", 404, "tileMatrixSetId"),
    ("/tiles/WebMercatorQuad/3/0/0.png?source=elsewhere", 404, "source"),
    ("/tiles/WebMercatorQuad/3/0/0.png?source=/etc/passwd", 404, "source"),
    ("/tiles/WebMercatorQuad/3/0/0.png?source=/vsicurl/http://x", 404, "source"),
    ("/tiles/WebMercatorQuad/3/0/0.png?model=gpt", 404, "model"),
    ("/tiles/WebMercatorQuad/3/0/0.png?year=1815", 404, "year"),
    ("/tiles/WebMercatorQuad/3/0/0.png?year=soon", 400, "year"),
    ("/tiles/WebMercatorQuad/3/0/0.png?year=-2017", 400, "year"),
    ("/tiles/WebMercatorQuad/3/0/0.png?layer=height", 400, "layer"),
    ("/tiles/WebMercatorQuad/3/0/0.png?tilesize=0", 400, "tilesize"),
    ("/tiles/WebMercatorQuad/3/0/0.png?tilesize=-256", 400, "tilesize"),
    ("/tiles/WebMercatorQuad/3/0/0.png?tilesize=1000000", 400, "tilesize"),
    ("/tiles/WebMercatorQuad/3/0/0.png?classes=9", 400, "classes"),
    ("/tiles/WebMercatorQuad/3/0/0.png?classes=a,b", 400, "classes"),
    ("/tiles/WebMercatorQuad/3/0/0.png?colormap_name=viridis", 404, "colormap_name"),
    ("/tiles/WebMercatorQuad/3/0/0.png?colormap=red", 400, "colormap"),
    ('/tiles/WebMercatorQuad/3/0/0.png?colormap={"1":"red"}', 400, "colormap"),
    ('/tiles/WebMercatorQuad/3/0/0.png?colormap={"77":"%23ff0000"}', 400, "colormap"),
    ("/tiles/WebMercatorQuad/3/0/0.png?colormap=[1]", 400, "colormap"),
    (f"/tiles/WebMercatorQuad/3/0/0.png?colormap={'[' * 2000}{']' * 2000}", 400, "colormap"),
    ("/imagery/tiles/WebMercatorQuad/3/0/0.webp?style=xray", 400, "style"),
    ("/imagery/tiles/WebMercatorQuad/3/9/0.webp", 400, "x"),
    ("/imagery/tiles/WebMercatorQuad/3/0/0.bmp", 400, "format"),
    ("/point/nan,33", 400, "lon"),
    ("/point/inf,33", 400, "lon"),
    ("/point/181,33", 400, "lon"),
    ("/point/-87,91", 400, "lat"),
    ("/point/-87,north", 400, "lat"),
    ("/point/-87,33?probabilities=perhaps", 400, "probabilities"),
    ("/sources/elsewhere/footprints", 404, "source"),
    ("/elsewhere/tilejson.json", 404, "tileMatrixSetId"),
    ("/legend?model=gpt", 404, "model"),
    ("/map/assets/..%2f..%2fmain.py", 404, ""),
    ("/map/assets/main.py", 404, "asset"),
    ("/tiles/WebMercatorQuad/3/0/0.png?year=%D9%A2%D9%A0%D9%A1%D9%A7", 400, "year"),
    ("/tiles/WebMercatorQuad/%EF%BC%93/0/0.png", 400, "z"),
    ("/tiles/WebMercatorQuad/3/0/0.png?colormap=" + "%5B" * 1200, 400, "colormap"),
    ("/tiles/WebMercatorQuad/3/0/0.png?colormap=" + "[" * 2000, 400, "colormap"),
    ("/tiles/WebMercatorQuad/3/0/0.png?classes=" + "1," * 2100, 400, "query"),
    ("/nowhere", 404, ""),
]


@pytest.fixture(scope="module")
def client(serve: Serve, two_quads: World, pixelwise_model: Path) -> Any:  # noqa: ANN401
    with serve(two_quads.directory, pixelwise_model) as running:
        yield running


@pytest.mark.parametrize(("path", "status", "field"), BAD, ids=[path[:70] for path, *_ in BAD])
def test_a_bad_value_is_answered_with_its_name_and_what_is_expected(
    client: TestClient, path: str, status: int, field: str
) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert problem.get("field", "") == field
    assert "Traceback" not in answer.text


def test_a_value_of_any_length_is_answered_in_few_words(client: TestClient) -> None:
    answer = client.get(f"/tiles/WebMercatorQuad/3/0/0.png?source={'x' * 3000}")
    assert answer.status_code == 404
    assert len(answer.content) < 1000


def test_an_empty_place_is_a_transparent_tile(client: TestClient) -> None:
    answer = client.get("/tiles/WebMercatorQuad/17/5/5.png")
    assert answer.status_code == 200
    assert (classes_in(answer.content, "png") == NODATA).all()
    assert client.get("/point/5,5").json()["class"] is None
    assert client.get("/imagery/tiles/WebMercatorQuad/17/5/5.webp").status_code == 200


@pytest.mark.parametrize("kind", ["tiles", "imagery/tiles"])
@pytest.mark.parametrize("zoom", [0, 1, 5, 9])
def test_below_the_lowest_zoom_a_tile_has_no_class_and_comes_at_once(
    client: TestClient, two_quads: World, kind: str, zoom: int
) -> None:
    z, x, y = tiles_around(*two_quads.scenes[0].lonlat, zoom, 0)[0]
    began = time.monotonic()
    answer = client.get(f"/{kind}/WebMercatorQuad/{z}/{x}/{y}@2x.png")
    assert answer.status_code == 200
    assert (classes_in(answer.content, "png") == NODATA).all()
    # Not a matter of speed: the blocks under such a tile are too many to be counted one by one.
    assert time.monotonic() - began < 20


def test_tiles_all_over_the_world_are_answered(client: TestClient) -> None:
    for zoom in (12, 17, 24):
        last = 2**zoom - 1
        for x, y in ((0, 0), (last, last), (last // 2, last // 2), (0, last), (last, 0)):
            for kind in ("tiles", "imagery/tiles"):
                answer = client.get(f"/{kind}/WebMercatorQuad/{zoom}/{x}/{y}.png")
                assert answer.status_code == 200


def test_a_validator_is_answered_before_any_work(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    path = tile_path(two_quads)
    with serve(two_quads.directory, pixelwise_model) as warm:
        etag = warm.get(path).headers["etag"]
        assert warm.get(path, headers={"if-none-match": etag}).status_code == 304
    with serve(two_quads.directory, pixelwise_model) as cold:
        for form in (etag, f'"other", W/{etag}', "*"):
            answer = cold.get(path, headers={"if-none-match": form})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == etag
        assert services_of(cold).landcover.cache.computed == 0
        assert cold.get(path, headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.slow
def test_the_validator_follows_style_and_imagery(
    serve: Serve, pixelwise_model: Path, neighborhood_model: Path, tmp_path: Path
) -> None:
    place = made.two_quads(tmp_path)
    path = tile_path(place)
    queries = ("", "?classes=1", "?colormap_name=colorblind", "?layer=confidence", "?tilesize=512")
    seen = set()
    for model in (pixelwise_model, neighborhood_model):
        with serve(tmp_path, model) as client:
            seen |= {client.get(path + query).headers["etag"] for query in queries}
    assert len(seen) == 2 * len(queries)
    scene = place.scenes[0].path
    scene.touch()
    with serve(tmp_path, pixelwise_model) as client:
        assert client.get(path).headers["etag"] not in seen


def test_classes_left_out_are_transparent(client: TestClient, two_quads: World) -> None:
    path = tile_path(two_quads)
    everything = classes_in(client.get(path).content, "png")
    for suffix in ("png", "npy", "webp", "tif"):
        some = classes_in(
            client.get(tile_path(two_quads, suffix=suffix) + "?classes=2,5").content, suffix
        )
        kept = np.isin(everything, (2, 5))
        assert kept.any()
        assert (some[kept] == everything[kept]).all()
        assert (some[~kept] == NODATA).all()


def test_confidence_is_in_per_cent(client: TestClient, two_quads: World) -> None:
    path = tile_path(two_quads, suffix="npy")
    confidence = classes_in(client.get(f"{path}?layer=confidence").content, "npy")
    classes = classes_in(client.get(path).content, "npy")
    assert ((confidence <= 100) == (classes != NODATA)).all()
    assert len(np.unique(confidence)) > 3


def test_tilejson_tells_the_true_zooms_and_place(client: TestClient, two_quads: World) -> None:
    answer = client.get("/WebMercatorQuad/tilejson.json?year=2017").json()
    lon, lat = two_quads.scenes[0].lonlat
    west, south, east, north = answer["bounds"]
    assert west < lon < east
    assert south < lat < north
    assert (answer["tilejson"], answer["minzoom"], answer["maxzoom"]) == ("3.0.0", 10, 17)
    z, x, y = tiles_around(lon, lat, 17, 0)[0]
    url = answer["tiles"][0].format(z=z, x=x, y=y)
    assert client.get(url).status_code == 200
    assert url.endswith("?year=2017")


def test_what_there_is_is_told(client: TestClient) -> None:
    source = client.get("/sources").json()["sources"][0]
    assert (source["years"], source["scenes"]) == ([2017], 2)
    features = client.get(f"/sources/{source['id']}/footprints").json()["features"]
    assert len(features) == 2
    classes = client.get("/legend").json()["classes"]
    assert [c["value"] for c in classes] == [1, 2, 3, 4, 5, 6, 255]
    card = client.get("/model").json()
    assert (card["name"], len(card["sha256"])) == ("pixelwise", 64)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["status"] == "ready"
    for link in client.get("/").json()["links"]:
        # The list of jobs is the operator's.
        expected = 403 if link["href"].endswith("/jobs") else 200
        assert client.get(link["href"]).status_code == expected


def test_every_answer_forbids_sniffing_and_the_page_forbids_strangers(client: TestClient) -> None:
    for path in ("/map", "/healthz", "/nowhere"):
        assert client.get(path).headers["x-content-type-options"] == "nosniff"
    page = client.get("/map")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe-eval" not in policy
    for asset in ("main.js", "map.css", "maplibre-gl.js", "maplibre-gl.css"):
        assert client.get(f"/map/assets/{asset}").status_code == 200


def test_head_is_answered_like_get(client: TestClient) -> None:
    assert client.head("/map").status_code == 200
    assert client.head("/tiles/WebMercatorQuad/17/5/5.png").headers["etag"]


def test_a_source_that_vanishes_is_a_502_and_nothing_is_kept(
    serve: Serve, pixelwise_model: Path, tmp_path: Path
) -> None:
    place = made.two_quads(tmp_path / "imagery")
    path, scene = tile_path(place), place.scenes[0].path
    hidden = scene.with_suffix(".hidden")
    with serve(tmp_path / "imagery", pixelwise_model, cache_dir=tmp_path / "cache") as client:
        scene.rename(hidden)
        answer = client.get(path)
        assert answer.status_code == 502
        assert answer.headers["cache-control"] == "no-store"
        assert scene.stem in answer.json()["detail"]
        assert str(tmp_path) not in answer.text
        assert not list((tmp_path / "cache").glob("*/*"))
        # The folder was looked through again: the place is empty now, which is no error.
        assert (classes_in(client.get(path).content, "png") == NODATA).any()
        hidden.rename(scene)
        services_of(client).sources.get(None).catalog.refresh()
        assert (classes_in(client.get(path).content, "png") != NODATA).all()


@pytest.mark.parametrize("kind", ["tiles", "imagery/tiles"])
def test_imagery_that_is_away_altogether_is_a_502_for_every_kind_of_tile(
    serve: Serve, pixelwise_model: Path, tmp_path: Path, kind: str
) -> None:
    place = made.two_quads(tmp_path / "imagery")
    path = tile_path(place).replace("/tiles", f"/{kind}", 1)
    with serve(tmp_path / "imagery", pixelwise_model) as client:
        (tmp_path / "imagery").rename(tmp_path / "away")
        assert [client.get(path).status_code for _ in range(2)] == [502, 502]
        (tmp_path / "away").rename(tmp_path / "imagery")
        assert client.get(path).status_code == 200


def test_a_disk_cache_that_cannot_be_written_costs_no_tile(
    serve: Serve, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with serve(two_quads.directory, pixelwise_model, cache_dir=tmp_path / "file" / "cache") as bad:
        answer = bad.get(tile_path(two_quads))
        assert bad.get("/readyz").json()["cache_degraded"]
    with serve(two_quads.directory, pixelwise_model) as good:
        assert good.get("/readyz").json()["cache_degraded"] is None
        assert answer.content == good.get(tile_path(two_quads)).content


def test_a_damaged_cache_entry_is_never_shown(
    serve: Serve, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    with serve(two_quads.directory, pixelwise_model, cache_dir=tmp_path) as before:
        expected = before.get(tile_path(two_quads)).content
    entries = list(tmp_path.glob("*/*"))
    for entry in entries:
        data = bytearray(entry.read_bytes())
        data[len(data) // 2] ^= 1
        entry.write_bytes(data)
    with serve(two_quads.directory, pixelwise_model, cache_dir=tmp_path) as after:
        assert after.get(tile_path(two_quads)).content == expected
        assert services_of(after).landcover.cache.computed == len(entries) > 0


def test_a_scene_that_changes_is_never_mixed_with_what_it_was(
    serve: Serve, pixelwise_model: Path, tmp_path: Path
) -> None:
    place = made.two_quads(tmp_path / "now", year=2017)
    path = tile_path(place, suffix="npy")
    with serve(tmp_path / "now", pixelwise_model) as client:
        before = classes_in(client.get(path).content, "npy")
        other = write_scene(tmp_path / "other.tif", origin=made.WEST, year=2021)
        other.path.replace(place.scenes[0].path)
        z, x, y = tiles_around(*place.scenes[0].lonlat, 17, 2)[0]
        elsewhere = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy"
        statuses = [client.get(elsewhere).status_code for _ in range(2)]
        after = classes_in(client.get(path).content, "npy")
    assert statuses == [502, 200]
    assert (before != after).mean() > 0.1


def test_new_imagery_is_noticed_without_a_restart(
    serve: Serve, pixelwise_model: Path, tmp_path: Path
) -> None:
    made.two_quads(tmp_path)
    with serve(tmp_path, pixelwise_model, refresh_s=0.1) as client:
        assert client.get("/sources").json()["sources"][0]["years"] == [2017]
        made.two_years(tmp_path)
        until(lambda: client.get("/sources").json()["sources"][0]["years"] == [2017, 2019])


def test_fifty_clients_of_one_cold_tile_cost_one_inference_a_block(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    path = tile_path(two_quads)
    with serve(two_quads.directory, pixelwise_model) as client:
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda _: client.get(path), range(50)))
        computed = services_of(client).landcover.cache.computed
        alone = len(set(services_of(client).landcover.cache.memory.store._entries))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert 1 <= computed <= 4
    assert computed == alone


@pytest.mark.slow
def test_a_full_queue_says_when_to_come_back(
    serve: Serve, two_quads: World, slow_model: Path
) -> None:
    # Each lies in one block, and they do not share it.
    tiles = tiles_around(*two_quads.scenes[0].lonlat, 20, 18)
    paths = [f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png" for z, x, y in (tiles[0], tiles[-1])]
    with (
        serve(two_quads.directory, slow_model, queue_blocks=1, infer_workers=1) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(client.get, paths[0])
        until(lambda: services_of(client).gate.inside == 1)
        answer = client.get(paths[1])
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["cache-control"] == "no-store"
        first.result()
        until(lambda: services_of(client).gate.inside == 0)


@pytest.mark.alone
def test_an_answer_that_takes_too_long_is_a_504_and_stops_working(
    serve: Serve, two_quads: World, slow_model: Path
) -> None:
    with serve(two_quads.directory, slow_model, deadline_s=0.2) as client:
        assert client.get(tile_path(two_quads)).status_code == 504
        until(lambda: services_of(client).gate.inside == 0)
        assert services_of(client).landcover.cache.computed == 0


@pytest.mark.alone
def test_a_tile_whose_client_has_gone_is_not_computed(two_quads: World, slow_model: Path) -> None:
    settings = Settings(imagery=two_quads.directory, model=slow_model, infer_workers=1)
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        services: Services = app.state.services
        with (
            pytest.raises(httpx.TimeoutException),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=0.3) as client,
        ):
            client.get(tile_path(two_quads))
        until(
            lambda: services.gate.inside == 0 and not len(services.landcover.cache.single_flight), 2
        )
        assert services.landcover.cache.computed == 0
    finally:
        server.should_exit = True
        thread.join(20)


def test_the_first_request_builds_no_route(
    two_quads: World, pixelwise_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(Settings(imagery=two_quads.directory, model=pixelwise_model))
    built: list[object] = []
    init = TypeAdapter.__init__

    def counted(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        built.append(args)
        init(self, *args, **kwargs)

    with TestClient(app) as client:
        monkeypatch.setattr(TypeAdapter, "__init__", counted)
        prepare_routes(app)
        assert built, "FastAPI builds routes when they are made: this is not needed any more"
        built.clear()
        assert client.get("/healthz").status_code == 200
        assert client.get("/tiles/WebMercatorQuad/3/0/0.png").status_code == 200
    assert not built


def test_bad_files_among_the_imagery_are_named_and_the_rest_is_served(
    serve: Serve, pixelwise_model: Path, tmp_path: Path
) -> None:
    place = made.two_quads(tmp_path)
    bad = made.bad_files(tmp_path / "bad")
    with serve(tmp_path, pixelwise_model) as client:
        problems = services_of(client).sources.get(None).catalog.skipped
        assert {Path(problem.path).stem for problem in problems} == set(bad)
        assert all(len(problem.reason) > 10 for problem in problems)
        assert client.get("/sources").json()["sources"][0]["skipped"] == len(bad)
        answer = client.get(tile_path(place))
    assert (classes_in(answer.content, "png") != NODATA).all()


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Waits for something to become true; fails when it does not."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.01)
