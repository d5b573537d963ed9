"""Imagery behind a server: the same pixels as from disk, at the least cost, or an error in time."""

from __future__ import annotations

import email.utils
import random
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rasterio.shutil import copy as raster_copy

from app.errors import SourceTooSlow, SourceUnavailable
from app.grid.pixel_grid import PixelGrid
from app.imagery import gdal
from app.imagery.catalog.files import UrlListCatalog
from app.imagery.catalog.index import IndexStore, SkippedFile
from app.imagery.catalog.temporal import LATEST
from app.imagery.reader import Pixels, Reader, RemoteFiles
from app.imagery.scene import ReadOptions, Scene, UnsupportedImage, inspect
from app.imagery.store import Authenticator, SignedRequest
from app.imagery.store.object_store import (
    HEADER_BYTES,
    FileChanged,
    ObjectStore,
    ReadLimits,
)
from app.imagery.store.opener import RangeFile
from app.imagery.store.range_cache import RangeCache
from model.windows import Window
from tests.app.conftest import HERE
from tests.world.range_server import Mode, RangeServer, range_server
from tests.world.scenes import SyntheticScene, write_scene

pytestmark = pytest.mark.alone

Far = Callable[..., ObjectStore]
GRID = PixelGrid("EPSG:26916")
NAME = "m_3208601_nw_16_1_20170903.tif"
QUICK = ReadLimits(read_s=3, request_s=1, retries=2, connections=4, pause_s=0.01)


@pytest.fixture(autouse=True)
def _configured() -> None:
    gdal.configure()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SyntheticScene:
    """A COG of 2,300 × 1,800 pixels, internal tiles of 256."""
    folder = tmp_path_factory.mktemp("remote")
    plain = write_scene(folder / "plain.dat", cols=2300, rows=1800, overviews=False)
    options = {"driver": "COG", "blocksize": 256, "compress": "deflate"}
    raster_copy(plain.path, folder / NAME, overview_resampling="average", **options)
    return replace(plain, path=folder / NAME)


@pytest.fixture
def server(made: SyntheticScene) -> Iterator[RangeServer]:
    with range_server(made.path.parent) as running:
        yield running


@pytest.fixture
def remote() -> Iterator[ObjectStore]:
    running = ObjectStore("far", limits=QUICK, reach=HERE)
    yield running
    running.close()


@pytest.fixture
def far() -> Iterator[Far]:
    """far(access, **limits): another far side, closed in the end."""
    made: list[ObjectStore] = []

    def build(access: Authenticator | None = None, **limits: float) -> ObjectStore:
        options = replace(QUICK, **limits)  # type: ignore[arg-type]
        made.append(ObjectStore("far", access, options, reach=HERE))
        return made[-1]

    yield build
    for each in made:
        each.close()


def scene_at(server: RangeServer, made: SyntheticScene, remote: ObjectStore) -> Scene:
    local = inspect(made.path, ReadOptions())
    return replace(local, href=server.url(made.path), identity="1", store="far")


def window_at(scene: Scene, col: int, row: int, cols: int, rows: int) -> Window:
    extent = scene.extent(GRID)
    assert extent is not None
    return Window(extent.col + col, extent.row + row, cols, rows)


def read_local(made: SyntheticScene, window: Window) -> Pixels:
    return Reader().read(inspect(made.path, ReadOptions()), GRID, window)


@pytest.mark.slow
def test_every_window_has_the_pixels_it_has_on_disk(
    server: RangeServer, made: SyntheticScene, remote: ObjectStore
) -> None:
    scene, reader, draw = scene_at(server, made, remote), Reader({"far": remote}), random.Random(5)
    for _ in range(12):
        cols, rows = draw.randint(1, 900), draw.randint(1, 900)
        window = window_at(scene, draw.randint(0, 1400), draw.randint(0, 900), cols, rows)
        found, expected = reader.read(scene, GRID, window), read_local(made, window)
        assert (found.image == expected.image).all()
        assert (found.valid == expected.valid).all()


def test_a_reduced_window_has_the_pixels_it_has_on_disk(
    server: RangeServer, made: SyntheticScene, remote: ObjectStore
) -> None:
    coarse = PixelGrid(GRID.crs, 2.0)
    scene, local = scene_at(server, made, remote), inspect(made.path, ReadOptions())
    window = scene.extent(coarse)
    assert window is not None
    found, expected = (
        Reader({"far": remote}).read(scene, coarse, window),
        Reader({"far": remote}).read(local, coarse, window),
    )
    assert (found.image == expected.image).all()


def tile_ranges(path: Path, col: int, row: int, cols: int, rows: int) -> list[tuple[int, int]]:
    """(offset, size) of the internal tiles of the full image under a window, out of the TIFF."""
    data = path.read_bytes()
    assert data[:4] == b"II*\0"
    at = struct.unpack_from("<I", data, 4)[0]
    tags = {}
    for entry in range(struct.unpack_from("<H", data, at)[0]):
        tag, kind, count, value = struct.unpack_from("<HHII", data, at + 2 + 12 * entry)
        tags[tag] = (kind, count, value)
    across = -(-tags[256][2] // tags[322][2])
    (_, count, offsets), (kind, _, sizes) = tags[324], tags[325]
    form = f"<{count}" + {3: "H", 4: "I"}[kind]
    starts = struct.unpack_from(f"<{count}I", data, offsets)
    lengths = struct.unpack_from(form, data, sizes)
    return [
        (starts[y * across + x], lengths[y * across + x])
        for y in range(row // 256, (row + rows - 1) // 256 + 1)
        for x in range(col // 256, (col + cols - 1) // 256 + 1)
    ]


def test_a_cold_block_costs_the_header_and_its_tiles_and_no_more(
    server: RangeServer, made: SyntheticScene, remote: ObjectStore
) -> None:
    scene = scene_at(server, made, remote)
    where = (700, 500, 704, 704)
    Reader({"far": remote}).read(scene, GRID, window_at(scene, *where))
    tiles = tile_ranges(made.path, *where)
    rows_of_tiles = (where[1] + where[3] - 1) // 256 - where[1] // 256 + 1
    assert len(server.requested) <= 1 + rows_of_tiles
    assert server.nbytes <= 1.2 * (HEADER_BYTES + sum(size for _, size in tiles))
    assert (remote.stats.requests, remote.stats.bytes) == (len(server.requested), server.nbytes)


def test_bytes_that_neighbors_share_are_asked_for_once(
    server: RangeServer, made: SyntheticScene, remote: ObjectStore
) -> None:
    scene, reader = scene_at(server, made, remote), Reader({"far": remote})
    for col in (0, 512, 1024):
        reader.read(scene, GRID, window_at(scene, col, 0, 704, 704))
    tiles = set(tile_ranges(made.path, 0, 0, 1728, 704))
    assert server.nbytes <= HEADER_BYTES + 1.05 * sum(size for _, size in tiles)
    before = len(server.requested)
    threads = [
        threading.Thread(
            target=lambda: Reader({"far": remote}).read(
                scene, GRID, window_at(scene, 300, 100, 300, 300)
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requested) == before


# ---- faults --------------------------------------------------------------------------------------


def test_a_server_that_fails_twice_is_asked_again(
    server: RangeServer, made: SyntheticScene, remote: ObjectStore
) -> None:
    scene = scene_at(server, made, remote)
    window = window_at(scene, 10, 10, 400, 300)
    server.fault("503", times=2)
    found = Reader({"far": remote}).read(scene, GRID, window)
    assert (found.image == read_local(made, window).image).all()
    assert remote.stats.retries == 2
    assert remote.stats.failures == 0


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize(
    "mode", ["503", "truncate", "corrupt", "404", "403", "no-range", "redirect"]
)
def test_a_fault_is_an_error_and_never_a_pixel_and_is_over_when_it_ends(
    server: RangeServer, made: SyntheticScene, remote: ObjectStore, mode: Mode, opened: bool
) -> None:
    scene, reader = scene_at(server, made, remote), Reader({"far": remote})
    window = window_at(scene, 900, 900, 500, 400)
    if opened:
        reader.read(scene, GRID, window_at(scene, 0, 0, 10, 10))
    server.fault(mode)
    for _ in range(3):
        with pytest.raises(SourceUnavailable) as refusal:
            reader.read(scene, GRID, window)
        assert server.base not in str(refusal.value)
    server.repair()
    remote.circuit.succeeded()
    found = reader.read(scene, GRID, window)
    assert (found.image == read_local(made, window).image).all()


def test_of_a_hundred_damaged_answers_none_gives_a_pixel(
    server: RangeServer, made: SyntheticScene, far: Far
) -> None:
    draw = random.Random(2)
    remote = far(retries=0, failures=1000)
    scene, reader = scene_at(server, made, remote), Reader({"far": remote})
    refused = 0
    for number in range(100):
        window = window_at(scene, draw.randint(0, 1900), draw.randint(0, 1500), 300, 250)
        server.fault("corrupt" if number % 2 else "truncate", times=1)
        try:
            found = reader.read(scene, GRID, window)
        except SourceUnavailable:
            refused += 1
        else:
            assert (found.image == read_local(made, window).image).all()
            assert server.times == 1 or number == 0, "a damaged answer was taken for pixels"
    assert refused > 30


def test_a_server_that_hangs_is_given_up_within_the_limit(
    server: RangeServer, made: SyntheticScene, remote: ObjectStore
) -> None:
    scene, reader = scene_at(server, made, remote), Reader({"far": remote})
    reader.read(scene, GRID, window_at(scene, 0, 0, 10, 10))
    server.fault("hang")
    began = time.monotonic()
    with pytest.raises(SourceTooSlow):
        reader.read(scene, GRID, window_at(scene, 900, 900, 300, 300))
    assert time.monotonic() - began < QUICK.read_s + 2


def test_after_five_failures_the_source_is_left_alone_and_then_tried_once(
    server: RangeServer, made: SyntheticScene, far: Far
) -> None:
    remote = far(retries=0, rest_s=0.3)
    scene, reader = scene_at(server, made, remote), Reader({"far": remote})
    window = window_at(scene, 0, 0, 10, 10)
    server.fault("503")
    for _ in range(5):
        with pytest.raises(SourceUnavailable):
            reader.read(scene, GRID, window)
    assert remote.unavailable == "the server answers 503"
    requested = len(server.requested)
    with pytest.raises(SourceUnavailable, match="left alone") as refusal:
        reader.read(scene, GRID, window)
    assert refusal.value.retry_after >= 1
    assert len(server.requested) == requested
    time.sleep(0.4)
    with pytest.raises(SourceUnavailable):
        reader.read(scene, GRID, window)
    assert len(server.requested) == requested + 1
    server.repair()
    time.sleep(0.4)
    reader.read(scene, GRID, window)
    assert remote.unavailable is None


@pytest.mark.parametrize("requested", ["2", "date"])
def test_a_retry_after_is_waited_for(
    server: RangeServer, made: SyntheticScene, far: Far, requested: str
) -> None:
    remote = far(read_s=20)
    scene = scene_at(server, made, remote)
    date = email.utils.formatdate(time.time() + 2, usegmt=True)
    server.fault("503", times=1, retry_after=date if requested == "date" else requested)
    began = time.monotonic()
    Reader({"far": remote}).read(scene, GRID, window_at(scene, 0, 0, 20, 20))
    # Without the header the pause is 0.01 s; a date has whole seconds.
    assert time.monotonic() - began > 0.9
    assert remote.stats.retries == 1


@pytest.mark.parametrize("requested", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_retry_after_beyond_the_deadline_is_handed_on_and_heeded(
    server: RangeServer, made: SyntheticScene, far: Far, requested: str
) -> None:
    remote = far(failures=1)
    scene = scene_at(server, made, remote)
    server.fault("503", times=1, retry_after=requested)
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(SourceUnavailable) as refusal:
            Reader({"far": remote}).read(scene, GRID, window_at(scene, 0, 0, 10, 10))
        assert 50 < refusal.value.retry_after <= 60
    assert time.monotonic() - began < QUICK.read_s
    assert len(server.requested) == 1


def test_rubbish_while_half_open_does_not_keep_a_source_out(
    server: RangeServer, made: SyntheticScene, far: Far
) -> None:
    class Failing:
        broken = False

        def address(
            self, href: str, headers: Mapping[str, str], *, renew: bool = False
        ) -> SignedRequest:
            del renew
            if self.broken:
                raise RuntimeError(f"{href}?sig=SECRET")
            return SignedRequest(href, headers)

    access = Failing()
    remote = far(access, retries=0, failures=1, rest_s=0.05)
    scene = scene_at(server, made, remote)
    window = window_at(scene, 0, 0, 10, 10)
    for broken in (False, False, True, True):
        server.fault("503", retry_after="²")
        access.broken = broken
        with pytest.raises((SourceUnavailable, RuntimeError)):
            Reader({"far": remote}).read(scene, GRID, window)
        assert "SECRET" not in str(remote.unavailable)
        time.sleep(0.1)
    access.broken = False
    server.repair()
    assert Reader({"far": remote}).read(scene, GRID, window).valid.all()


@pytest.mark.parametrize("guard", ["If-Match", "ETag of the answer"])
def test_each_guard_of_a_changing_file_holds_alone(tmp_path: Path, far: Far, guard: str) -> None:
    """See RangeServer: one server ignores If-Match, the other claims the old entity tag."""
    made = write_scene(tmp_path / NAME, cols=1500, rows=900)
    remote = far()
    with range_server(tmp_path) as server:
        scene, reader = scene_at(server, made, remote), Reader({"far": remote})
        reader.read(scene, GRID, window_at(scene, 0, 0, 300, 300))
        if guard == "If-Match":
            server.claimed_etag = remote.known(scene.href, scene.id).etag
        else:
            server.honor_if_match = False
        write_scene(tmp_path / NAME, cols=1500, rows=900, year=2019)
        with pytest.raises(FileChanged):
            reader.read(scene, GRID, window_at(scene, 800, 500, 300, 300))
        _, *ranged = server.requested
        assert ranged
        assert all("if-match" in {name.lower() for name in each.headers} for each in ranged)


@pytest.mark.parametrize("opened", [False, True])
def test_a_file_that_changes_midway_is_never_mixed(tmp_path: Path, far: Far, opened: bool) -> None:
    made = write_scene(tmp_path / NAME, cols=1500, rows=900)
    remote = far()
    with range_server(tmp_path) as server:
        catalog = UrlListCatalog(
            lambda: [server.url(made.path)], RemoteFiles(remote, ReadOptions()), ReadOptions()
        )
        (scene,) = catalog.scenes
        reader = Reader({"far": remote})
        if opened:
            reader.read(scene, GRID, window_at(scene, 0, 0, 300, 300))
        other = write_scene(tmp_path / NAME, cols=1500, rows=900, year=2019)
        window = window_at(scene, 800, 500, 300, 300)
        for _ in range(2):
            with pytest.raises(FileChanged):
                reader.read(scene, GRID, window)
        catalog.refresh()
        (renewed,) = catalog.scenes
        assert renewed.key != scene.key
        assert catalog.generation == 1
        found = reader.read(renewed, GRID, window)
        assert (found.image == read_local(other, window).image).all()


def test_a_file_that_is_not_what_its_catalog_says_is_unavailable(
    server: RangeServer, made: SyntheticScene, remote: ObjectStore
) -> None:
    scene = scene_at(server, made, remote)
    left, bottom, right, top = scene.bounds
    moved = replace(scene, bounds=(left + 5, bottom, right + 5, top))
    with pytest.raises(SourceUnavailable, match="not what its catalog says"):
        Reader({"far": remote}).read(moved, GRID, window_at(moved, 0, 0, 10, 10))


# ---- the list ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for quarter, east in (("nw", 0), ("ne", 400)):
        write_scene(
            tmp_path / f"m_3208601_{quarter}_16_1_20170903.tif",
            origin=(502_700.0 + east, 3_648_600.0),
            cols=500,
            rows=300,
        )
    write_scene(tmp_path / "three.tif", cols=300, rows=260, bands=3, overviews=False)
    return tmp_path


def test_a_list_serves_what_the_files_are_and_names_the_others(
    folder: Path, remote: ObjectStore
) -> None:
    with range_server(folder) as server:
        urls = [server.url(path) for path in folder.glob("*.tif")] + [server.url("gone.tif")]
        catalog = UrlListCatalog(lambda: urls, RemoteFiles(remote, ReadOptions()), ReadOptions())
        assert [scene.id for scene in catalog.scenes] == [
            "m_3208601_ne_16_1_20170903",
            "m_3208601_nw_16_1_20170903",
        ]
        local = inspect(folder / NAME, ReadOptions())
        (found,) = [scene for scene in catalog.scenes if scene.id == local.id]
        assert (found.crs, found.bounds, found.acquired) == (
            local.crs,
            local.bounds,
            local.acquired,
        )
        reasons = {Path(problem.path).stem: problem.reason for problem in catalog.skipped}
        assert reasons["three"].startswith("has 3 bands")
        assert reasons["gone"] == "cannot be read: the file has vanished"
        ground = catalog.lonlat_bounds
        assert catalog.is_loaded(ground, LATEST)
        assert len(catalog.within(ground, LATEST)) == 2


def test_what_is_known_of_files_outlives_the_process(
    folder: Path, tmp_path: Path, far: Far
) -> None:
    store = IndexStore(tmp_path / "index.json", ReadOptions())
    with range_server(folder) as server:
        urls = [server.url(path) for path in folder.glob("m_*.tif")]
        first = UrlListCatalog(
            lambda: urls, RemoteFiles(far(), ReadOptions()), ReadOptions(), store
        )
        requested = len(server.requested)
        again = UrlListCatalog(
            lambda: urls, RemoteFiles(far(), ReadOptions()), ReadOptions(), store
        )
        assert len(server.requested) == requested
        assert again.scenes == first.scenes
        other = IndexStore(tmp_path / "index.json", ReadOptions(bands=(4, 1, 2, 3)))
        assert other.load() == {}
        server.fault("503")
        third = UrlListCatalog(
            lambda: urls, RemoteFiles(far(), ReadOptions()), ReadOptions(), store
        )
        assert third.scenes == first.scenes
        (tmp_path / "index.json").write_text("{")
        with pytest.raises(SourceUnavailable):
            UrlListCatalog(
                lambda: urls, RemoteFiles(far(retries=0), ReadOptions()), ReadOptions(), store
            )


# ---- what neighbors share -----------------------------------------------------------------------


def test_segments_give_back_what_was_put_and_name_what_is_missing() -> None:
    draw = random.Random(4)
    content = bytes(draw.randrange(256) for _ in range(2000))
    for _ in range(60):
        segments, held = RangeCache(10_000), np.zeros(2000, dtype=bool)
        for _ in range(draw.randint(0, 6)):
            start = draw.randrange(1900)
            stop = min(start + draw.randint(1, 500), 2000)
            segments.put("f", start, content[start:stop])
            if not held[start:stop].all():
                held[start:stop] = True
        start, size = draw.randrange(1500), draw.randint(1, 500)
        missing = np.zeros(2000, dtype=bool)
        for offset, length in segments.missing("f", (start, size)):
            missing[offset : offset + length] = True
        data = segments.get("f", (start, size))
        assert not (missing & ~np.isin(np.arange(2000), np.arange(start, start + size))).any()
        assert (data is None) == missing.any()
        if data is not None:
            assert data == content[start : start + size]
            assert held[start : start + size].all()


def test_segments_stay_within_their_limit() -> None:
    segments = RangeCache(1000)
    for number in range(50):
        segments.put(str(number % 7), number, bytes(90))
        assert segments.nbytes <= 1000
    segments.put("huge", 0, bytes(900))
    assert segments.get("huge", (0, 900)) is None
    segments.forget("6")
    assert segments.missing("6", (48, 5)) == [(48, 5)]


def test_a_signed_address_is_renewed_once_and_shown_nowhere(
    server: RangeServer, made: SyntheticScene, far: Far, caplog: pytest.LogCaptureFixture
) -> None:
    class Signing:
        renewed = 0

        def address(
            self, href: str, headers: Mapping[str, str], *, renew: bool = False
        ) -> SignedRequest:
            self.renewed += renew
            return SignedRequest(f"{href}?sig=SECRET{self.renewed}", headers)

    access = Signing()
    remote = far(access)
    scene = scene_at(server, made, remote)
    server.fault("403", times=1)
    with caplog.at_level("DEBUG"):
        Reader({"far": remote}).read(scene, GRID, window_at(scene, 0, 0, 20, 20))
        assert access.renewed == 1
        server.fault("403")
        with pytest.raises(SourceUnavailable) as refusal:
            Reader({"far": remote}).read(scene, GRID, window_at(scene, 900, 900, 20, 20))
    assert access.renewed == 2
    assert "SECRET" not in str(refusal.value)
    assert "SECRET" not in caplog.text
    assert "SECRET" not in scene.key


@pytest.mark.parametrize("share", [0.3, 0.7, 0.8, 0.9, 0.97])
@pytest.mark.parametrize("overviews", [False, True])
def test_an_uncompressed_file_that_was_cut_shows_no_wrong_pixel(
    tmp_path: Path, remote: ObjectStore, overviews: bool, share: float
) -> None:
    """Cut before it was served: no checksum tells, but its length does."""
    made = write_scene(tmp_path / "a.tif", cols=900, rows=700, compress=None, overviews=overviews)
    content = made.path.read_bytes()
    made.path.write_bytes(content[: int(len(content) * share)])
    with range_server(tmp_path) as running:
        _, result = RemoteFiles(remote, ReadOptions()).inspect(running.url(made.path), None)
    assert isinstance(result, SkippedFile)
    assert "truncated" in result.reason or "not a readable GeoTIFF" in result.reason
    with pytest.raises(UnsupportedImage):
        inspect(made.path, ReadOptions())


def test_an_uncompressed_file_that_is_cut_while_it_is_served_shows_no_wrong_pixel(
    tmp_path: Path, remote: ObjectStore
) -> None:
    """By a server that gives no other entity tag and obeys no If-Match: the length alone tells."""
    made = write_scene(tmp_path / "a.tif", cols=2300, rows=1800, compress=None, overviews=False)
    claims = {"claimed_etag": '"same"', "honor_if_match": False}
    with range_server(tmp_path, **claims) as running:
        _, scene = RemoteFiles(remote, ReadOptions()).inspect(running.url(made.path), None)
        assert isinstance(scene, Scene)
        reader, content = Reader({"far": remote}), made.path.read_bytes()
        made.path.write_bytes(content[: len(content) * 9 // 10])
        with pytest.raises(FileChanged):
            reader.read(scene, GRID, window_at(scene, 0, 0, 700, 700))


def test_a_body_that_is_cut_in_transit_is_an_error_and_not_kept(
    tmp_path: Path, remote: ObjectStore
) -> None:
    made = write_scene(tmp_path / "a.tif", cols=900, rows=700, compress=None, overviews=False)
    with range_server(tmp_path) as running:
        _, scene = RemoteFiles(remote, ReadOptions()).inspect(running.url(made.path), None)
        assert isinstance(scene, Scene)
        reader, window = Reader({"far": remote}), window_at(scene, 100, 100, 700, 500)
        running.fault("truncate")
        with pytest.raises(SourceUnavailable, match=r"connection failed|ends early"):
            reader.read(scene, GRID, window)
        running.repair()
        assert (reader.read(scene, GRID, window).image == read_local(made, window).image).all()


def test_a_range_that_reaches_past_the_end_is_an_error_and_no_data(
    server: RangeServer, made: SyntheticScene, remote: ObjectStore
) -> None:
    stat = remote.stat(server.url(made.path), "a")
    file = RangeFile(remote, server.url(made.path), "a", stat)
    assert file.get_byte_ranges([stat.length - 10], [20]) == [bytes(20)]
    assert file.error is not None
    assert "truncated" in str(file.error)
