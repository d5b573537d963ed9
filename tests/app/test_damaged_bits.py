"""Single bits that are damaged on the way or on the disk: the right pixels or an error."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.shutil import copy as raster_copy

from app.errors import SourceUnavailable
from app.grid.pixel_grid import PixelGrid
from app.imagery import gdal
from app.imagery.catalog.index import SkippedFile
from app.imagery.reader import Pixels, Reader, RemoteFiles
from app.imagery.scene import ReadOptions, Scene, inspect
from app.imagery.store.checksums import Damaged, TileChecksums, local_tiles
from app.imagery.store.object_store import ObjectStore, ReadLimits
from app.imagery.store.range_cache import Range
from model.windows import Window
from tests.app.conftest import HERE
from tests.world.range_server import range_server
from tests.world.scenes import write_scene

GRID, COARSE = PixelGrid("EPSG:26916"), PixelGrid("EPSG:26916", 4.0)
LIMITS = ReadLimits(read_s=5, request_s=2, retries=0, pause_s=0.01, failures=10_000)
LAYOUTS: dict[str, dict[str, Any]] = {
    "COG": {"driver": "COG", "blocksize": 128, "compress": "deflate", "bigtiff": "no"},
    "predictor": {"driver": "COG", "blocksize": 128, "compress": "deflate", "predictor": 2},
    "BigTIFF": {"driver": "COG", "blocksize": 128, "compress": "deflate", "bigtiff": "yes"},
    "big-endian strips": {"driver": "GTiff", "compress": "deflate", "endianness": "big"},
    "bands apart": {
        "driver": "GTiff", "compress": "deflate", "interleave": "band",
        "tiled": True, "blockxsize": 128, "blockysize": 128,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _configured() -> None:
    gdal.configure()


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    running = ObjectStore("far", limits=LIMITS, reach=HERE)
    yield running
    running.close()


def written(folder: Path, layout: str, *, masked: bool = False) -> Path:
    """A scene of 500 × 400 pixels with an overview; `masked`: with a mask within the file."""
    plain = write_scene(folder / "plain.dat", cols=500, rows=400, overviews=False).path
    if masked:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(plain, "r+") as file:
            mask = file.read(1) > 90
            file.write_mask(mask)
    path = folder / "m_3208601_nw_16_1_20170903.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        raster_copy(plain, path, **LAYOUTS[layout])
        if LAYOUTS[layout]["driver"] == "GTiff":
            with rasterio.open(path, "r+") as file:
                file.build_overviews([2, 4], Resampling.nearest)
    return path


def serve(path: Path, content: bytes) -> None:
    """Write a file whose time is another than before, however soon."""
    changed = path.stat().st_mtime_ns if path.exists() else 0
    path.write_bytes(content)
    os.utime(path, ns=(changed + 1_000_000_000,) * 2)


def tiles_of(path: Path, overview: int | None) -> list[Range]:
    """Where GDAL says that the tiles of the image or of an overview lie, (offset, size)."""
    options = {} if overview is None else {"overview_level": overview}
    found = set()
    with rasterio.open(path, **options) as file:
        for band, (row, col) in product(file.indexes, blocks_of(file)):
            where = f"{col}_{row}"
            offset = file.get_tag_item(f"BLOCK_OFFSET_{where}", "TIFF", bidx=band)
            size = file.get_tag_item(f"BLOCK_SIZE_{where}", "TIFF", bidx=band)
            found.add((int(offset), int(size)))
    return sorted(found)


def blocks_of(file: rasterio.DatasetReader) -> list[tuple[int, int]]:
    return [where for where, _ in file.block_windows(1)]


def indexed(path: Path) -> set[Range]:
    """Where we say that all tiles lie."""
    content = path.read_bytes()
    return set(TileChecksums(lambda at, size: content[at : at + size]).tiles)


def read(scene: Scene, store: ObjectStore | None, grid: PixelGrid = GRID) -> Pixels:
    window = scene.extent(grid)
    assert window is not None
    return Reader({"far": store} if store else {}).read(scene, grid, window)


def same(one: Pixels, other: Pixels) -> bool:
    return bool((one.image == other.image).all() and (one.valid == other.valid).all())


def check(path: Path, store: ObjectStore, grid: PixelGrid, tiles: list[Range], times: int) -> int:
    """Flip a bit of a tile again and again; return how often the read was refused."""
    content, draw, refused = path.read_bytes(), random.Random(7), 0
    local = inspect(path, ReadOptions())
    truth = read(local, None, grid)
    served = path.parent / "served" / path.name
    served.parent.mkdir()
    with range_server(served.parent, claimed_etag='"same"', honor_if_match=False) as running:
        scene = replace(local, href=running.url(served), identity="1", store="far")
        for _ in range(times):
            start, size = draw.choice(tiles)
            at = draw.randrange(start, start + size)
            bit = bytes((content[at] ^ 1 << draw.randrange(8),))
            serve(served, content[:at] + bit + content[at + 1 :])
            store.forget(scene.href, store.stat(scene.href, scene.id))
            try:
                found = read(scene, store, grid)
            except SourceUnavailable:
                refused += 1
            else:
                assert same(found, truth)
        serve(served, content)
        store.stat(scene.href, scene.id)
        assert same(read(scene, store, grid), truth), "damaged bytes were kept"
    return refused


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_bit_flipped_in_a_tile_never_gives_other_pixels(
    tmp_path: Path, store: ObjectStore, layout: str
) -> None:
    path = written(tmp_path, layout)
    tiles = tiles_of(path, None)
    assert indexed(path) == {*tiles, *tiles_of(path, 0), *tiles_of(path, 1)}
    assert check(path, store, GRID, tiles, 12) == 12


def test_nor_in_an_overview(tmp_path: Path, store: ObjectStore) -> None:
    path = written(tmp_path, "COG")
    assert check(path, store, COARSE, tiles_of(path, 1), 10) == 10


def test_nor_in_a_mask_within_the_file(tmp_path: Path, store: ObjectStore) -> None:
    path = written(tmp_path, "COG", masked=True)
    image = {*tiles_of(path, None), *tiles_of(path, 0), *tiles_of(path, 1)}
    masks = sorted(indexed(path) - image)
    assert masks
    assert check(path, store, GRID, masks, 10) > 3


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nor_in_a_local_file(tmp_path: Path, layout: str, masked: bool) -> None:
    """Of the image, an overview and a mask; the other tiles are read as they were."""
    path = written(tmp_path, layout, masked=masked)
    content, draw = path.read_bytes(), random.Random(8)
    scene = inspect(path, ReadOptions())
    full, coarse = read(scene, None), read(scene, None, COARSE)
    image = tiles_of(path, None)
    overviews = [*tiles_of(path, 0), *tiles_of(path, 1)]
    masks = sorted(indexed(path) - {*image, *overviews})
    assert bool(masks) is masked
    for tiles, grid, truth in (
        (image, GRID, full),
        (overviews, COARSE, coarse),
        (masks, GRID, full),
    ):
        for start, size in tiles and (tiles[0], *draw.sample(tiles, min(2, len(tiles)))):
            at = draw.randrange(start + 2, start + size)
            bit = bytes((content[at] ^ 1 << draw.randrange(8),))
            serve(path, content[:at] + bit + content[at + 1 :])
            damaged = inspect(path, ReadOptions())
            with suppress(SourceUnavailable):
                assert same(read(damaged, None, grid), truth)
            if tiles is image:
                with pytest.raises(SourceUnavailable, match=f"{scene.id}: the file is damaged"):
                    read(damaged, None)
    serve(path, content)
    assert same(read(inspect(path, ReadOptions()), None), full)


def test_only_what_is_read_of_a_local_file_is_tested(tmp_path: Path) -> None:
    path = written(tmp_path, "COG")
    truth = read(inspect(path, ReadOptions()), None)
    first, *_ = tiles_of(path, None)
    content = bytearray(path.read_bytes())
    content[first[0] + first[1] // 2] ^= 16
    serve(path, bytes(content))
    scene, reader = inspect(path, ReadOptions()), Reader({})
    extent = scene.extent(GRID)
    assert extent is not None
    corner = Window(extent.col, extent.row, 100, 100)
    inner = Window(extent.col + 128, extent.row + 128, 300, 200)
    for _ in range(2):
        with pytest.raises(SourceUnavailable, match="the file is damaged"):
            reader.read(scene, GRID, corner)
        found = reader.read(scene, GRID, inner)
        assert (found.image == truth.image[:, 128:328, 128:428]).all()


def test_a_disk_that_errs_later_is_noticed_too(tmp_path: Path) -> None:
    """Size and time stay the same, and the tile has been read before."""
    path = written(tmp_path, "COG")
    scene = inspect(path, ReadOptions())
    truth, kept = read(scene, None), path.stat()
    content = bytearray(path.read_bytes())
    start, size = tiles_of(path, None)[3]
    content[start + size // 2] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    with pytest.raises(SourceUnavailable, match="the file is damaged"):
        read(scene, None)
    content[start + size // 2] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert same(read(scene, None), truth)


@pytest.mark.real
def test_every_real_file_is_what_was_written(real_data: Path) -> None:
    paths = sorted(real_data.rglob("*.tif"))
    assert len(paths) > 100
    for path in paths:
        tiles = local_tiles(str(path), "")
        with rasterio.open(path) as file:
            tiles.check(file.shape, slice(0, file.height), slice(0, file.width))


@pytest.mark.slow
def test_nor_in_three_hundred_flips(tmp_path: Path, store: ObjectStore) -> None:
    path = written(tmp_path, "predictor")
    assert check(path, store, GRID, tiles_of(path, None), 300) > 295


def test_a_damaged_tile_is_named_and_read_again(tmp_path: Path, store: ObjectStore) -> None:
    path = written(tmp_path, "COG")
    local = inspect(path, ReadOptions())
    with range_server(tmp_path) as running:
        scene = replace(local, href=running.url(path), identity="1", store="far")
        store.stat(scene.href, scene.id)
        running.fault("corrupt", times=1)
        reader = Reader({"far": store})
        window = scene.extent(GRID)
        assert window is not None
        with pytest.raises(SourceUnavailable, match=f"{local.id}: the file is damaged: the check"):
            reader.read(scene, GRID, window)
        assert same(reader.read(scene, GRID, window), read(local, None))


@pytest.mark.parametrize("known", [False, True])
def test_a_header_that_is_damaged_when_first_read_is_no_scene(
    tmp_path: Path, store: ObjectStore, known: bool
) -> None:
    """Each time another bit: of a file that is new, and of one that is another than it was."""
    path = written(tmp_path, "COG")
    before = ("1-a", SkippedFile("a", "b")) if known else None
    with range_server(tmp_path) as running:
        href, files = running.url(path), RemoteFiles(store, ReadOptions())
        for _ in range(20):
            running.fault("flip", times=2 if known else 1)
            with pytest.raises(SourceUnavailable, match="two reads of its header differ"):
                files.inspect(href, before)
        running.repair()
        _, scene = files.inspect(href, before)
        assert isinstance(scene, Scene)
        assert scene.bounds == inspect(path, ReadOptions()).bounds


def test_a_header_that_is_damaged_when_read_again_gives_no_pixel(
    tmp_path: Path, store: ObjectStore
) -> None:
    path = written(tmp_path, "predictor")
    truth = read(inspect(path, ReadOptions()), None)
    with range_server(tmp_path) as running:
        href = running.url(path)
        _, scene = RemoteFiles(store, ReadOptions()).inspect(href, None)
        assert isinstance(scene, Scene)
        scene = replace(scene, store="far")
        for _ in range(20):
            store.forget(href, store.known(href, "a"))
            running.fault("flip", times=1)
            with pytest.raises(SourceUnavailable, match="two reads of its header differ"):
                read(scene, store)
            running.repair()
            assert same(read(scene, store), truth)


@pytest.mark.parametrize(
    "content",
    [b"", b"II*\0", b"II*\0\x08\0\0\0\xff\xff", b"PK\3\4", b"II+\0\x08\0\0\0" + b"\xff" * 16],
)
def test_directories_that_make_no_sense_are_damaged(content: bytes) -> None:
    with pytest.raises(Damaged):
        TileChecksums(lambda at, size: content[at : at + size])
