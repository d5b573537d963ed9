"""Which blocks a tile needs, and that none are needed where none are shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.grid.tile import Tile
from app.imagery.catalog.temporal import LATEST
from app.landcover.blocks import Selection
from app.sampling.tiles import blocks_near
from app.services import Services
from app.settings import Settings
from model.legend import NODATA
from model.windows import BLOCK
from tests.app.conftest import Serve, classes_in, tiles_around
from tests.world.world import World


@pytest.fixture(scope="module")
def selection(two_quads: World, pixelwise_model: Path) -> Iterator[Selection]:
    services = Services(Settings(imagery=two_quads.directory, model=pixelwise_model))
    yield Selection(services.sources.get(None), LATEST, services.model(None))
    services.close()


@pytest.mark.parametrize("size", [256, 512, 1024])
@pytest.mark.parametrize("zoom", range(19))
def test_no_tile_needs_more_blocks_than_its_pixels_at_the_lowest_zoom_can_show(
    selection: Selection, two_quads: World, zoom: int, size: int
) -> None:
    z, x, y = tiles_around(*two_quads.scenes[0].lonlat, zoom, 0)[0]
    blocks = blocks_near(selection, Tile(z, x, y, size))
    # 32 m a pixel at most (45 m between two zooms), and the edges turned against the grid.
    most = (size * 45 / BLOCK + 5) ** 2
    assert len(blocks) <= most
    assert bool(blocks) == (zoom >= 12)


def test_the_whole_world_is_one_tile_without_classes_at_once(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    with serve(two_quads.directory, pixelwise_model) as client:
        for zoom in range(10):
            z, x, y = tiles_around(*two_quads.scenes[0].lonlat, zoom, 0)[0]
            answer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png")
            assert answer.status_code == 200
            assert np.all(classes_in(answer.content, "png") == NODATA)
