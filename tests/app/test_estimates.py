"""No zoom shows a hole over imagery, and an estimate is never taken for a class."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pyproj import Transformer
from shapely.geometry import box, mapping
from starlette.testclient import TestClient

from app.grid.tile import Tile
from app.routes import tiles
from app.sampling.tiles import Composed, compose, estimate_factor
from app.scheduling import current_priority
from model.legend import NODATA
from tests.app.conftest import Serve, classes_in, tiles_around
from tests.world.world import World

QUALITY = "x-landcover-quality"


def _path(world: World, zoom: int, suffix: str = "npy") -> str:
    lon, lat = world.scenes[0].lonlat
    z, x, y = tiles_around(lon, lat, zoom, 0)[0]
    return f"/tiles/WebMercatorQuad/{z}/{x}/{y}.{suffix}"


def _tile(world: World, zoom: int) -> Tile:
    lon, lat = world.scenes[0].lonlat
    return Tile(*tiles_around(lon, lat, zoom, 0)[0])


def _inside(world: World, zoom: int) -> npt.NDArray[np.bool_]:
    """bool (256, 256): pixels that lie 100 m or more within the imagery, by projecting each."""

    tile = _tile(world, zoom)
    left, _, right, top = tile.bounds
    size = (right - left) / tile.size
    steps = np.arange(tile.size) + 0.5
    x, y = np.meshgrid(left + steps * size, top - steps * size)
    east, north = Transformer.from_crs(3857, 26916, always_xy=True).transform(x, y)
    w, s, e, n = world.bounds
    # The quads' southern and northern edges are 100 m apart.
    inside: npt.NDArray[np.bool_] = (east > w + 100) & (east < e - 100)
    inside &= (north > s + 200) & (north < n - 200)
    return inside


@pytest.fixture
def client(serve: Serve, two_quads: World, pixelwise_model: Path) -> Iterator[TestClient]:
    with serve(two_quads.directory, pixelwise_model, block_budget=0) as client:
        yield client


@pytest.mark.parametrize("zoom", range(10, 17))
def test_no_zoom_shows_a_hole_over_imagery(client: TestClient, two_quads: World, zoom: int) -> None:
    answer = client.get(_path(two_quads, zoom))
    assert answer.status_code == 200
    assert answer.headers[QUALITY] == "estimate"
    inside = _inside(two_quads, zoom)
    assert inside.any()
    assert (classes_in(answer.content, "npy")[inside] != NODATA).all()


def test_an_estimate_is_revalidated_by_clients_and_replaced_by_exact_blocks(
    client: TestClient, two_quads: World
) -> None:
    path = _path(two_quads, 15)
    first = client.get(path)
    assert first.headers[QUALITY] == "estimate"
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(path, headers={"if-none-match": first.headers["etag"]})
    deadline = time.monotonic() + 20
    while client.get(path).headers[QUALITY] != "full":
        assert time.monotonic() < deadline, "no exact block arrived behind the estimate"
        time.sleep(0.05)
    exact = client.get(path)
    assert again.status_code in {200, 304}
    assert exact.headers["etag"] != first.headers["etag"]
    assert exact.headers["cache-control"].startswith("public")
    assert client.get(path, headers={"if-none-match": first.headers["etag"]}).status_code == 200


def test_no_statistics_and_no_point_read_an_estimate(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    lon, lat = two_quads.scenes[0].lonlat
    area = {
        "type": "Feature",
        "properties": {},
        "geometry": mapping(box(lon - 1e-3, lat - 1e-3, lon + 1e-3, lat + 1e-3)),
    }

    def ask(client: TestClient) -> tuple[object, object]:
        statistics = client.post("/statistics", json=area).json()["properties"]["statistics"]
        return statistics["classes"], client.get(f"/point/{lon},{lat}").json()

    with serve(two_quads.directory, pixelwise_model) as fresh:
        expected = ask(fresh)
    with serve(two_quads.directory, pixelwise_model, block_budget=0) as client:
        assert client.get(_path(two_quads, 12)).headers[QUALITY] == "estimate"
        assert ask(client) == expected


def test_an_exact_tile_is_never_made_of_estimates(
    serve: Serve, two_quads: World, neighborhood_model: Path
) -> None:
    path = _path(two_quads, 15)
    with serve(two_quads.directory, neighborhood_model, block_budget=1000) as fresh:
        expected = fresh.get(path)
        assert expected.headers[QUALITY] == "full"
    with serve(two_quads.directory, neighborhood_model, block_budget=1000) as client:
        estimate = client.get(f"{path}?quality=estimate")
        exact = client.get(path)
    assert estimate.headers[QUALITY] == "estimate"
    assert exact.headers[QUALITY] == "full"
    assert exact.content == expected.content
    assert exact.headers["etag"] != estimate.headers["etag"]


def test_a_client_that_wants_exact_classes_waits_with_retry_after(
    client: TestClient, two_quads: World
) -> None:
    path = f"{_path(two_quads, 15)}?quality=exact"
    answer = client.get(path)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    deadline = time.monotonic() + 20
    while answer.status_code == 503:
        assert time.monotonic() < deadline, "requests repeated did not finish the tile"
        time.sleep(0.05)
        answer = client.get(path)
    assert (answer.status_code, answer.headers[QUALITY]) == (200, "full")


def test_exact_is_refused_where_a_tile_is_too_far_out(client: TestClient, two_quads: World) -> None:
    answer = client.get(f"{_path(two_quads, 10)}?quality=exact")
    assert answer.status_code == 400
    assert answer.json()["field"] == "quality"


def test_native_tiles_are_exact_unless_an_estimate_is_asked_for(
    client: TestClient, two_quads: World
) -> None:
    path = _path(two_quads, 17)
    assert client.get(f"{path}?quality=estimate").headers[QUALITY] == "estimate"
    assert client.get(path).headers[QUALITY] == "full"
    # What is there is not hidden.
    assert client.get(f"{path}?quality=estimate").headers[QUALITY] == "full"


@pytest.mark.parametrize("zoom", [0, 5, 9])
def test_further_out_a_tile_shows_where_imagery_is_and_says_so(
    client: TestClient, two_quads: World, zoom: int
) -> None:
    answer = client.get(_path(two_quads, zoom, "png"))
    assert answer.headers[QUALITY] == "footprints"

    rgba = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))
    assert (rgba[..., 3] > 0).any()
    data = client.get(_path(two_quads, zoom, "npy"))
    assert data.headers[QUALITY] == "footprints"
    assert (classes_in(data.content, "npy") == NODATA).all()


def test_a_place_without_imagery_is_empty_and_whole(client: TestClient) -> None:
    for zoom in (5, 10, 12, 15, 17):
        z, x, y = tiles_around(20.0, 40.0, zoom, 0)[0]
        answer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy")
        assert answer.status_code == 200
        assert (classes_in(answer.content, "npy") == NODATA).all()
        assert answer.headers[QUALITY] in {"full", "footprints"}


@pytest.mark.parametrize(
    ("ground_resolution", "expected"), [(0.3, 4), (1, 4), (7.3, 4), (14.6, 8), (29, 16), (117, 16)]
)
def test_an_estimate_is_as_coarse_as_the_tile_but_no_coarser_than_16(
    ground_resolution: float, expected: int
) -> None:
    assert estimate_factor(ground_resolution, 1.0) == expected


@pytest.mark.parametrize(
    ("priority", "interactive"), [("u=7", False), ("i, u=6", False), ("u=3", True), ("", True)]
)
def test_a_tile_that_is_fetched_ahead_is_computed_in_the_background(
    client: TestClient,
    two_quads: World,
    monkeypatch: pytest.MonkeyPatch,
    priority: str,
    interactive: bool,
) -> None:
    seen = list[bool]()

    async def composed(*args: Any, **how: Any) -> Composed:  # noqa: ANN401
        seen.append(current_priority().interactive)
        return await compose(*args, **how)

    monkeypatch.setattr(tiles, "compose", composed)
    answer = client.get(_path(two_quads, 17), headers={"priority": priority})
    assert answer.status_code == 200
    assert seen == [interactive]
