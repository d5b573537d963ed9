"""Tiles of a STAC source are the tiles of the same files in a directory, whatever expires."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rasterio
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from model.legend import NODATA
from tests.app.conftest import Serve, classes_in, tiles_around
from tests.world.doubles import Doubles, doubles
from tests.world.stac import EO_BANDS, Projection, item_of
from tests.world.world import World

CONFIG = """
[[source]]
id = "pc"
type = "stac-api"
url = "{stac}"
collection = "naip"
signing = "{signing}"
token_url = "{token}"
token_hosts = ["{host}"]
"""


@pytest.fixture
def services() -> Iterator[Doubles]:
    with doubles() as running:
        yield running


@contextmanager
def served(
    services: Doubles, folder: Path, model: Path, signing: str = "auto"
) -> Iterator[TestClient]:
    config = folder / "sources.toml"
    config.write_text(
        CONFIG.format(
            stac=services.stac_url, signing=signing, token=services.token_url, host=services.host
        )
    )
    settings = Settings.model_validate({"sources": config, "model": model, "refresh_s": 0})
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def listed(services: Doubles, world: World, projection: Projection = "proj:epsg") -> None:
    services.items = [
        item_of(made, services.add(made.path), projection=projection) for made in world.scenes
    ]


def paths_of(world: World, zoom: int = 17) -> list[str]:
    tiles = {tile for made in world.scenes for tile in tiles_around(*made.lonlat, zoom)}
    return [f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy" for z, x, y in sorted(tiles)]


@pytest.mark.parametrize(
    ("world", "projection"),
    [
        ("two_quads", "proj:epsg"),
        pytest.param("fine_quads", "proj:code", marks=pytest.mark.slow),
        pytest.param("utm_seam", "proj:code", marks=pytest.mark.slow),
        pytest.param("two_years", "proj:epsg", marks=pytest.mark.slow),
    ],
)
def test_a_tile_from_stac_is_the_tile_from_a_directory_of_the_same_files(
    serve: Serve,
    services: Doubles,
    pixelwise_model: Path,
    tmp_path: Path,
    world: str,
    projection: Projection,
    request: pytest.FixtureRequest,
) -> None:
    made: World = request.getfixturevalue(world)
    listed(services, made, projection)
    services.closed = 409
    paths = paths_of(made, 16)[::2]
    shown = 0
    with (
        serve(made.directory, pixelwise_model) as local,
        served(services, tmp_path, pixelwise_model) as remote,
    ):
        for path in paths:
            expected = classes_in(local.get(path).content, "npy")
            answer = remote.get(path)
            assert answer.status_code == 200
            found = classes_in(answer.content, "npy")
            assert (found != expected).sum() == 0
            shown += int((expected != NODATA).sum())
    assert shown > 50_000
    assert services.count("/sas/") == 1


def test_bands_in_the_items_order_and_a_nodata_that_no_pixel_has_change_no_class(
    serve: Serve, services: Doubles, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "nir-first"
    folder.mkdir()
    for made in two_quads.scenes:
        with rasterio.open(made.path) as source:
            profile, image = source.profile, source.read()
        with rasterio.open(folder / made.path.name, "w", **profile) as target:
            target.write(image[[3, 0, 1, 2]])
        item = item_of(made, services.add(folder / made.path.name))
        asset = item["assets"]["image"]
        asset["eo:bands"] = [EO_BANDS[n] for n in (3, 0, 1, 2)]
        asset["raster:bands"] = [{"data_type": "uint8", "nodata": -9999}] * 4
        services.items.append(item)
    with (
        serve(two_quads.directory, pixelwise_model) as local,
        served(services, tmp_path, pixelwise_model) as remote,
    ):
        for path in paths_of(two_quads, 16)[::3]:
            expected = classes_in(local.get(path).content, "npy")
            assert (classes_in(remote.get(path).content, "npy") != expected).sum() == 0


def test_tokens_void_in_the_middle_of_an_area_are_no_error_and_cost_one_new_token(
    services: Doubles,
    two_quads: World,
    pixelwise_model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    listed(services, two_quads)
    services.closed = 409
    paths = paths_of(two_quads)
    with served(services, tmp_path, pixelwise_model) as client:
        for number, path in enumerate(paths):
            if number == len(paths) // 2:
                blobs = services.count(".tif")
                services.expire()
            answer = client.get(path)
            assert answer.status_code == 200
            assert "sig=" not in str(answer.headers)
        assert services.count(".tif") > blobs
    assert services.count("/sas/") == 2
    assert any("sig=" in path for _, path in services.requests)
    assert "sig=" not in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("status", [401, 403, 409])
def test_a_storage_that_refuses_for_good_is_unavailable_with_a_plain_message(
    services: Doubles, two_quads: World, pixelwise_model: Path, tmp_path: Path, status: int
) -> None:
    listed(services, two_quads)
    services.broken = status
    with served(services, tmp_path, pixelwise_model) as client:
        answer = client.get(paths_of(two_quads)[4])
    assert answer.status_code == 502
    assert str(status) in answer.json()["detail"]
    assert "sig=" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_ground_that_is_known_is_served_while_the_api_is_down_and_new_ground_is_502(
    services: Doubles, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    listed(services, two_quads)
    path = paths_of(two_quads)[4]
    z, x, y = tiles_around(-100.0, 40.0, 17, 0)[0]
    with served(services, tmp_path, pixelwise_model) as client:
        first = client.get(path)
        services.search_status = 503
        assert client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy").status_code in (502, 504)
        again = client.get(path)
        assert (again.status_code, again.content) == (200, first.content)
        services.search_status = 0


def test_ground_without_imagery_is_an_empty_tile(
    services: Doubles, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    listed(services, two_quads)
    z, x, y = tiles_around(-100.0, 40.0, 17, 0)[0]
    with served(services, tmp_path, pixelwise_model) as client:
        answer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy")
    assert answer.status_code == 200
    assert np.all(classes_in(answer.content, "npy") == NODATA)


def test_an_image_that_is_not_where_its_item_says_is_unavailable_and_never_a_class(
    services: Doubles, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    listed(services, two_quads)
    for item in services.items:
        item["properties"]["proj:transform"][2] += 30
    with served(services, tmp_path, pixelwise_model) as client:
        answer = client.get(paths_of(two_quads)[4])
    assert answer.status_code == 502
    assert "not what its catalog says" in answer.json()["detail"]
