"""The one law: a pixel has one class, whoever asks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import morecantile
import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from app.area.raster import write_window
from app.cli import cli
from app.grid.pixel_grid import LONLAT, Block, PixelGrid, transformer
from app.grid.projection import cells_under
from app.grid.tile import TMS, Tile
from app.imagery import mosaic
from app.imagery.catalog.temporal import LATEST
from app.landcover.blocks import Selection
from app.sampling.placer import Placed, classes_under, level_of
from app.sampling.tiles import TilePlan, compose, plan_tile
from app.services import Services
from app.settings import SHIPPED_MODEL, Settings
from model.legend import NODATA
from model.normalize import normalize
from model.segment import segment_window
from model.session import Session
from model.windows import BLOCK, Window, cover
from tests.app.conftest import Classes, Serve, classes_in, raster_at_tile, tiles_around
from tests.benchmarks import halo
from tests.world.graphs import classes_by_hand, decided, probabilities_by_hand
from tests.world.ground import on_grid
from tests.world.scenes import lonlat, write_scene
from tests.world.world import World

GRID = PixelGrid("EPSG:26916")


def mercator(lonlat: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    x, y = transformer(LONLAT, "EPSG:3857").transform(*lonlat)
    return np.asarray(x), np.asarray(y)


def extent_of(world: World) -> Window:
    extent = GRID.inside(world.bounds)
    assert extent is not None
    return extent


def raster_of(imagery: Path, model: Path, grid: PixelGrid, extent: Window, path: Path) -> Path:
    services = Services(Settings(imagery=imagery, model=model))
    try:
        selection = Selection(services.sources.get(None), LATEST, services.model(None))
        asyncio.run(write_window(services.landcover, selection, grid, extent, path))
    finally:
        services.close()
    return path


@pytest.fixture(scope="module")
def raster(
    two_quads: World, neighborhood_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Both quads as one GeoTIFF."""
    path = tmp_path_factory.mktemp("law") / "both.tif"
    return raster_of(two_quads.directory, neighborhood_model, GRID, extent_of(two_quads), path)


def test_the_download_is_what_the_network_says_of_the_whole_ground_at_once(
    raster: Path, two_quads: World
) -> None:
    extent = extent_of(two_quads)
    image = on_grid(extent.col, extent.row, extent.cols, extent.rows)
    probabilities = probabilities_by_hand("neighborhood", image)
    expected = classes_by_hand("neighborhood", image)
    with rasterio.open(raster) as dataset:
        found = dataset.read(1)
    inside = np.zeros(found.shape, dtype=bool)
    # The quads lie staggered: away from all outer edges the mosaic is the ground itself.
    inside[150:-150, 50:-50] = True
    sure = inside & (found != NODATA) & decided(probabilities)
    assert sure.sum() > 1_000_000
    assert (found[sure] != expected[sure]).sum() == 0


FORMS = [
    (".png", "", 256),
    (".webp", "", 256),
    (".tif", "", 256),
    (".npy", "", 256),
    ("@2x.png", "", 512),
    ("@2x.npy", "?tilesize=512", 1024),
    (".npy", "?tilesize=512", 512),
]
NATIVE = [(z, *f) for z in (15, 16, 17, 18, 20) for f in FORMS if 2**z * f[2] >= 2**25]
"""Zooms and forms at which a tile's pixels are no larger than the blocks'."""


@pytest.mark.parametrize(("zoom", "suffix", "query", "size"), NATIVE)
def test_a_tile_of_any_format_and_size_shows_the_classes_of_the_download(
    serve: Serve,
    two_quads: World,
    neighborhood_model: Path,
    raster: Path,
    zoom: int,
    suffix: str,
    query: str,
    size: int,
) -> None:
    lon, lat = two_quads.scenes[0].lonlat
    z, x, y = tiles_around(lon, lat, zoom, 0)[0]
    with serve(two_quads.directory, neighborhood_model, block_budget=1000) as client:
        answer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}{suffix}{query}")
    assert answer.status_code == 200
    found = classes_in(answer.content, suffix.rpartition(".")[2])
    expected = raster_at_tile(raster, z, x, y, size)
    assert found.shape == (size, size)
    assert len(np.unique(expected)) > 2
    assert (found != expected).sum() == 0


def test_scenes_of_mixed_resolution_keep_the_law(
    serve: Serve, neighborhood_model: Path, tmp_path: Path
) -> None:
    """1 m, 0.6 m and 0.3 m, each shifted by 300 m: tiles, in any order, are the download."""
    imagery = tmp_path / "mixed"
    for number, meters in enumerate((1.0, 0.6, 0.3)):
        write_scene(
            imagery / f"m_320860{number}_nw_16_{meters:g}_20170903.tif",
            origin=(502_700.0 + 300 * number, 3_648_600.0),
            cols=round(700 / meters),
            rows=round(700 / meters),
            resolution=meters,
        )
    extent = Window(502_700, 6_351_400, 1300, 700)
    raster = raster_of(imagery, neighborhood_model, GRID, extent, tmp_path / "all.tif")
    lon, lat = lonlat(26916, 503_350.0, 3_648_250.0)
    tiles = tiles_around(lon, lat, 17, 1)
    used: set[str] = set()
    for seed in (1, 2):
        random.Random(seed).shuffle(tiles)
        with serve(imagery, neighborhood_model, block_budget=1000) as client:
            for z, x, y in tiles:
                answer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy")
                found = classes_in(answer.content, "npy")
                assert (found != raster_at_tile(raster, z, x, y, 256)).sum() == 0
                used |= set(answer.headers["x-landcover-scenes"].split(","))
    assert len(used - {""}) == 3


def test_every_tile_around_the_overlap_shows_the_classes_of_the_download_in_any_order(
    serve: Serve, two_quads: World, neighborhood_model: Path, raster: Path, tmp_path: Path
) -> None:
    west, east = two_quads.scenes
    lon, lat = (west.lonlat[0] + east.lonlat[0]) / 2, west.lonlat[1]
    tiles = tiles_around(lon, lat, 17, 2)
    cache = tmp_path / "cache"
    for seed in (1, 2):  # the second server starts on the first one's disk cache
        random.Random(seed).shuffle(tiles)
        with serve(
            two_quads.directory, neighborhood_model, cache_dir=cache, block_budget=1000
        ) as client:
            for z, x, y in tiles:
                answer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy")
                found = classes_in(answer.content, "npy")
                assert (found != raster_at_tile(raster, z, x, y, 256)).sum() == 0
            computed = client.app.state.services.landcover.cache.computed  # type: ignore[attr-defined]
        assert bool(computed) == (seed == 1)


def test_a_point_has_the_class_of_the_tile_pixel_it_lies_in(
    serve: Serve, two_quads: World, neighborhood_model: Path
) -> None:
    lon, lat = two_quads.scenes[0].lonlat
    z, x, y = tiles_around(lon, lat, 18, 0)[0]
    box = TMS.bounds(morecantile.Tile(x, y, z))
    draw = random.Random(5)
    with serve(two_quads.directory, neighborhood_model, block_budget=1000) as client:
        tile = classes_in(client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy").content, "npy")
        for _ in range(60):
            row, col = draw.randrange(256), draw.randrange(256)
            xy = TMS.xy_bounds(morecantile.Tile(x, y, z))
            east = xy.left + (col + 0.5) / 256 * (xy.right - xy.left)
            north = xy.top - (row + 0.5) / 256 * (xy.top - xy.bottom)
            lon, lat = TMS.lnglat(east, north)
            assert box.left < lon < box.right
            answer = client.get(f"/point/{lon!r},{lat!r}").json()
            assert answer["class"]["value"] == tile[row, col]


def test_the_most_probable_class_of_a_point_is_its_class(
    serve: Serve, two_quads: World, neighborhood_model: Path
) -> None:
    lon, lat = two_quads.scenes[0].lonlat
    with serve(two_quads.directory, neighborhood_model, block_budget=1000) as client:
        answer = client.get(f"/point/{lon},{lat}?probabilities=true").json()
    probabilities = answer["probabilities"]
    assert max(probabilities, key=probabilities.get) == answer["class"]["name"]
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert round(max(probabilities.values()) * 100) == answer["confidence"]


def test_classify_on_the_command_line_writes_the_classes_that_tiles_show(
    serve: Serve, two_quads: World, neighborhood_model: Path, tmp_path: Path
) -> None:
    scene, out = two_quads.scenes[0].path, tmp_path / "classes.tif"
    command = ["classify", str(scene), str(out), "--model", str(neighborhood_model)]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    lon, lat = two_quads.scenes[0].lonlat
    with serve(scene, neighborhood_model, block_budget=1000) as client:
        for z, x, y in tiles_around(lon, lat, 17):
            found = classes_in(client.get(f"/{z}/{x}/{y}.png").content, "png")
            assert (found != raster_at_tile(out, z, x, y, 256)).sum() == 0


def test_a_fourth_band_tagged_alpha_changes_no_class(
    alpha_quads: World, two_quads: World, neighborhood_model: Path, raster: Path, tmp_path: Path
) -> None:
    tagged = raster_of(
        alpha_quads.directory,
        neighborhood_model,
        GRID,
        extent_of(two_quads),
        tmp_path / "alpha.tif",
    )
    with rasterio.open(raster) as plain, rasterio.open(tagged) as other:
        assert (plain.read(1) != other.read(1)).sum() == 0


def test_where_two_zones_meet_tiles_and_points_agree_and_leave_no_hole(
    serve: Serve, utm_seam: World, pixelwise_model: Path
) -> None:
    lon, lat = -84.0, utm_seam.scenes[0].lonlat[1]
    draw = random.Random(7)
    with serve(utm_seam.directory, pixelwise_model, block_budget=1000) as client:
        for z, x, y in tiles_around(lon, lat, 17):
            tile = classes_in(client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy").content, "npy")
            assert (tile == NODATA).sum() == 0
            xy = TMS.xy_bounds(morecantile.Tile(x, y, z))
            for _ in range(12):
                row, col = draw.randrange(256), draw.randrange(256)
                east = xy.left + (col + 0.5) / 256 * (xy.right - xy.left)
                north = xy.top - (row + 0.5) / 256 * (xy.top - xy.bottom)
                at = TMS.lnglat(east, north)
                answer = client.get(f"/point/{at.x!r},{at.y!r}").json()
                assert answer["class"]["value"] == tile[row, col]


@pytest.mark.parametrize("zoom", [13, 14, 15])
def test_below_native_zoom_a_pixel_shows_a_class_no_other_outnumbers(
    serve: Serve, two_quads: World, pixelwise_model: Path, tmp_path: Path, zoom: int
) -> None:
    extent = extent_of(two_quads)
    whole = [block.window for block in (Block.of(GRID, w) for w in cover(extent))]
    blocks = Window(
        min(w.col for w in whole),
        min(w.row for w in whole),
        max(w.col_stop for w in whole) - min(w.col for w in whole),
        max(w.row_stop for w in whole) - min(w.row for w in whole),
    )
    path = raster_of(two_quads.directory, pixelwise_model, GRID, blocks, tmp_path / "all.tif")
    with rasterio.open(path) as dataset:
        full: Classes = dataset.read(1)
    lon, lat = two_quads.scenes[0].lonlat
    z, x, y = tiles_around(lon, lat, zoom, 0)[0]
    tile = Tile(z, x, y)
    level = level_of(tile.ground_resolution, 1.0)
    assert level == 17 - zoom
    with serve(two_quads.directory, pixelwise_model, block_budget=100) as client:
        answer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy")
    assert answer.headers["x-landcover-quality"] == "full"
    shown = classes_in(answer.content, "npy")
    cols, rows = cells_under(tile.grid, tile.window, GRID)
    cell = 1 << level
    checked = 0
    for row, col in zip(*np.nonzero(np.ones_like(shown)), strict=True):
        if (row * 7 + col) % 23:
            continue
        left = (int(cols[row, col]) // cell) * cell - blocks.col
        top = (int(rows[row, col]) // cell) * cell - blocks.row
        under = full[max(top, 0) : top + cell, max(left, 0) : left + cell]
        if under.size < cell * cell or min(left, top) < 0:
            assert shown[row, col] == NODATA
            continue
        counts = np.bincount(under.ravel(), minlength=256)
        assert counts[shown[row, col]] == counts.max()
        checked += 1
    assert checked > 300


@pytest.fixture(scope="module")
def opened(two_quads: World, neighborhood_model: Path) -> Iterator[tuple[Services, Selection]]:
    services = Services(Settings(imagery=two_quads.directory, model=neighborhood_model))
    yield services, Selection(services.sources.get(None), LATEST, services.model(None))
    services.close()


@pytest.mark.parametrize("size", [256, 512, 1024])
@pytest.mark.parametrize("zoom", [17, 18, 19])
def test_a_tile_is_the_area_of_its_pixels_placed_by_the_one_placer(
    opened: tuple[Services, Selection], two_quads: World, raster: Path, zoom: int, size: int
) -> None:
    services, selection = opened
    z, x, y = tiles_around(*two_quads.scenes[0].lonlat, zoom, 0)[0]
    tile = Tile(z, x, y, size)

    async def both() -> tuple[Classes, Classes]:
        plan = await plan_tile(services.landcover, [selection], tile)
        shown = (await compose(services.landcover, plan, "class", budget=16)).placed
        area = await classes_under(services.landcover, selection, tile.grid, tile.window)
        return shown.values, area.values

    shown, area = asyncio.run(both())
    expected = raster_at_tile(raster, z, x, y, size)
    assert len(np.unique(expected)) > 2
    assert (shown != expected).sum() == 0
    assert (area != expected).sum() == 0


def test_a_part_of_a_window_is_what_the_whole_window_shows_there(
    opened: tuple[Services, Selection], two_quads: World
) -> None:
    """Nothing depends on where a window begins, how large it is, or which pixels are wanted."""
    services, selection = opened
    grid = Tile(18, *tiles_around(*two_quads.scenes[0].lonlat, 18, 0)[0][1:]).grid
    col, row = (int(cell) for cell in grid.cells(*mercator(two_quads.scenes[0].lonlat)))
    whole, part = Window(col, row, 333, 217), Window(col + 101, row + 7, 50, 60)
    wanted = np.random.default_rng(4).random(part.shape) < 0.3

    async def both() -> tuple[Classes, Classes]:
        place = partial(classes_under, services.landcover, selection, grid)
        return (await place(whole)).values, (await place(part, wanted)).values

    everything, some = asyncio.run(both())
    there = everything[part.slices_in(whole)]
    assert len(np.unique(there)) > 1
    assert (some == np.where(wanted, there, NODATA)).all()


def test_a_planned_tile_shows_what_was_planned_whatever_is_found_meanwhile(
    neighborhood_model: Path, tmp_path: Path
) -> None:
    """New imagery between the ETag and the pixels does not come under the old ETag and keys."""
    write = partial(write_scene, origin=(502_700.0, 3_648_600.0), cols=700, rows=700)
    write(tmp_path / "m_3208601_nw_16_1_20170903.tif", year=2017)
    services = Services(Settings(imagery=tmp_path, model=neighborhood_model))
    selection = Selection(services.sources.get(None), LATEST, services.model(None))
    tile = Tile(*tiles_around(*lonlat(26916, 503_050.0, 3_648_250.0), 17, 0)[0])

    async def planned() -> TilePlan:
        return await plan_tile(services.landcover, [selection], tile)

    async def composed(plan: TilePlan) -> Placed:
        return (await compose(services.landcover, plan, "class", budget=16)).placed

    async def story() -> None:
        plan = await planned()
        write(tmp_path / "m_3208601_nw_16_1_20190903.tif", year=2019)
        await selection.source.reads.run(selection.source.refresh)
        old, later = await composed(plan), await planned()
        new = await composed(later)
        assert {scene.date[:4] for scene in old.scenes} == {"2017"}
        assert {scene.date[:4] for scene in new.scenes} == {"2019"}
        assert plan.digest != later.digest
        assert (old.values != new.values).any()
        assert (old.values == (await composed(plan)).values).all()

    try:
        asyncio.run(story())
    finally:
        services.close()


@pytest.fixture(scope="module")
def shipped() -> Session:
    """The model that ships."""
    return Session.load(SHIPPED_MODEL)


@pytest.mark.real
def test_the_shipped_model_keeps_the_law_on_real_imagery(
    serve: Serve, real_data: Path, tmp_path: Path
) -> None:
    scene = real_data / "naip" / "awkward" / "m_4208701_ne_16_060_20200902.tif"
    out = tmp_path / "classes.tif"
    assert CliRunner().invoke(cli, ["classify", str(scene), str(out)]).exit_code == 0
    with rasterio.open(out) as dataset:
        lon, lat = dataset.lnglat()
    with serve(scene, SHIPPED_MODEL, block_budget=1000) as client:
        for z, x, y in [*tiles_around(lon, lat, 17), *tiles_around(lon, lat, 19, 0)]:
            found = classes_in(client.get(f"/{z}/{x}/{y}.png").content, "png")
            assert (found != raster_at_tile(out, z, x, y, 256)).sum() == 0


@pytest.mark.real
@pytest.mark.slow
def test_a_wider_halo_changes_hardly_a_class_of_real_imagery(
    real_data: Path, shipped: Session
) -> None:
    shares, pixels = halo.shares_changed(shipped, real_data)
    assert pixels > 500_000
    assert shares[shipped.card.halo] <= 1e-4
    assert shares[32] > shares[64] > 0  # it can tell


@pytest.mark.real
@pytest.mark.slow
def test_a_block_of_real_imagery_is_what_one_pass_over_the_whole_image_says(
    real_data: Path, shipped: Session
) -> None:
    """At 5 m, the only real imagery here that is larger than a block and its halo."""
    size, edge = shipped.card.window, shipped.card.halo
    differing = pixels = 0
    for path in sorted((real_data / "naip" / "north_dakota_5m").glob("*.tif"))[:3]:
        with rasterio.open(path) as dataset:
            image = dataset.read(indexes=(1, 2, 3, 4))[:, :720, :928]
        whole = shipped.predict(normalize(image, shipped.card)[None])[0].argmax(axis=0)
        for row, col in ((0, 0), (16, 112), (16, 224)):
            window = image[:, row : row + size, col : col + size]
            valid = np.ones(window.shape[1:], dtype=bool)
            classes = segment_window(shipped, window, valid).classes
            core = whole[row + edge : row + edge + BLOCK, col + edge : col + edge + BLOCK]
            differing += int((classes != core).sum())
            pixels += classes.size
    assert differing / pixels <= 1e-4


def test_the_mosaic_is_read_with_its_halo_across_the_boundary_of_two_scenes(
    two_quads: World, neighborhood_model: Path
) -> None:
    services = Services(Settings(imagery=two_quads.directory, model=neighborhood_model))
    selection = Selection(services.sources.get(None), LATEST, services.model(None))
    west, east = two_quads.scenes
    middle = (east.bounds[0] + west.bounds[2]) / 2
    window = GRID.touching((middle - 1, west.bounds[3] - 700, middle + 1, west.bounds[3] - 690))
    block = Block.of(GRID, next(cover(window)))
    plan = services.landcover.plan(selection, block)
    assert plan is not None
    pixels = mosaic.read(services.reader, plan.scenes, GRID, block.window.expand(32)).pixels
    services.close()
    whole = block.window.expand(32)
    assert pixels.valid.all()
    assert (pixels.image == on_grid(whole.col, whole.row, whole.cols, whole.rows)).all()
