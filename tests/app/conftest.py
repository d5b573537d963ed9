"""A running application over a made world, and what its answers say."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import morecantile
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from PIL import Image
from pyproj import Transformer
from rasterio.io import MemoryFile
from starlette.testclient import TestClient

from app.grid.tile import TMS
from app.imagery.store.reach import Reach
from app.main import create_app
from app.settings import Settings
from model.legend import LEGEND, NODATA
from tests.app.running import server
from tests.world.world import World

HERE = Reach(hosts=["127.0.0.1"])
"""What tests of a source's parts may request: this machine."""
Classes = npt.NDArray[np.uint8]
Serve = Callable[..., AbstractContextManager[TestClient]]


@contextmanager
def _served(imagery: Path, model: Path, **settings: object) -> Iterator[TestClient]:
    selected = Settings.model_validate({"imagery": imagery, "model": model, **settings})
    with TestClient(create_app(selected), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def serve() -> Serve:
    """serve(imagery, model, **settings): the application as a client sees it."""
    return _served


@pytest.fixture(scope="module")
def live(
    two_years: World, pixelwise_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a running server over `two_years`."""
    with server(two_years, pixelwise_model, tmp_path_factory.mktemp("jobs")) as (base, _):
        yield base


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 8 MiB, where the machine lets one be mounted."""
    root = tmp_path / "disk"
    root.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield root
    subprocess.run(["umount", str(root)], check=True)


def classes_in(content: bytes, suffix: str) -> Classes:
    """uint8 (rows, cols): the classes in a tile of any format, 255 where it is transparent."""
    if suffix == "npy":
        values: Classes = np.load(io.BytesIO(content))[0]
        return values
    if suffix == "tif":
        with MemoryFile(content) as memory, memory.open() as dataset:
            band: Classes = dataset.read(1)
        return band
    rgba = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))
    classes = np.full(rgba.shape[:2], NODATA, dtype=np.uint8)
    for value, color in LEGEND.colors().items():
        classes[(rgba[..., :3] == color).all(axis=2) & (rgba[..., 3] == 255)] = value
    return classes


def raster_at_tile(path: Path, z: int, x: int, y: int, size: int) -> Classes:
    """The values of a class GeoTIFF under the centers of a tile's pixels, each projected by PROJ.

    255 outside the raster. Shares nothing with the code under test but the file.
    """
    box = TMS.xy_bounds(morecantile.Tile(x, y, z))
    steps = (np.arange(size) + 0.5) / size
    mercator = np.meshgrid(
        box.left + steps * (box.right - box.left), box.top - steps * (box.top - box.bottom)
    )
    with rasterio.open(path) as dataset:
        east, north = Transformer.from_crs(3857, dataset.crs, always_xy=True).transform(*mercator)
        left, top = dataset.transform.c, dataset.transform.f
        col, row = (east - left) / dataset.res[0], (top - north) / dataset.res[1]
        band = dataset.read(1)
    cols, rows = np.floor(col).astype(int), np.floor(row).astype(int)
    inside = (cols >= 0) & (rows >= 0) & (cols < band.shape[1]) & (rows < band.shape[0])
    values: Classes = np.full(inside.shape, NODATA, dtype=np.uint8)
    values[inside] = band[rows[inside], cols[inside]]
    return values


def tiles_around(lon: float, lat: float, zoom: int, reach: int = 1) -> list[tuple[int, int, int]]:
    """(z, x, y) of the tile that holds a point and of its neighbors."""
    middle = TMS.tile(lon, lat, zoom)
    span = range(-reach, reach + 1)
    return [(zoom, middle.x + dx, middle.y + dy) for dy in span for dx in span]
