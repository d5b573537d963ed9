"""The county on disk: quarter quads as Cloud Optimized GeoTIFFs, their truth, a note of origin.

DIR/2013/m_3208601_nw_16_1_20130715.tif              uint8, 4 bands, EPSG:26916, 1 m
DIR/truth/m_3208601_nw_16_1_20130715_label.tif       uint8, classes 1..6, same grid
DIR/manifest.json                                    sizes of the files; written last
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp

from app.demo.county import YEARS, county, land
from app.demo.ground import COLS, ROWS
from app.demo.material import class_table
from app.demo.paint import paint
from app.demo.sensor import expose, snap

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

VERSION = 2
"""Raised when pixels change, so that a directory of an older county is written anew."""

WEST, NORTH = 504_350, 3_646_200
"""North-west corner of the county, meters in EPSG:26916."""

BUFFER = 300
"""Meters of every quad outside its quarter, shared with its neighbors."""

README = """Demo County: synthetic imagery

Nothing here was photographed. The pictures look like NAIP aerial imagery (4 bands: red, green,
blue, near infrared; 1 m; NAD83 / UTM zone 16N) and were computed by the land cover tile
service, with the true land cover of every pixel in truth/ (1 buildings, 2 roads or parking
lots, 3 water, 4 harvested, open or bare land, 5 forest, 6 planted or dark cropland).

To the extent possible under law, its makers have waived all rights to it: CC0 1.0,
https://creativecommons.org/publicdomain/zero/1.0/
"""


class Quad(NamedTuple):
    """One quarter quad of one year."""

    year: int
    corner: str
    date: str
    """YYYYMMDD."""
    alpha: bool = False
    """Band 4 is tagged alpha, as in many public copies of NAIP."""
    collar: bool = False
    """Two edges are 0 in all bands, and nodata is 0."""

    @property
    def stem(self) -> str:
        return f"m_3208601_{self.corner}_16_1_{self.date}"

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the county, buffer included."""
        top = 0 if self.corner[0] == "n" else ROWS // 2 - BUFFER
        left = 0 if self.corner[1] == "w" else COLS // 2 - BUFFER
        return (
            slice(top, top + ROWS // 2 + BUFFER),
            slice(left, left + COLS // 2 + BUFFER),
        )


QUADS = (
    Quad(2013, "nw", "20130715"),
    Quad(2013, "ne", "20130715"),
    Quad(2013, "sw", "20130728", collar=True),
    Quad(2013, "se", "20130728"),
    Quad(2017, "nw", "20170903"),
    Quad(2017, "ne", "20170903", alpha=True),
    Quad(2017, "sw", "20170903"),
    Quad(2017, "se", "20170912"),
)


def write_county(directory: Path, *, progress: Callable[[str], None] | None = None) -> list[Path]:
    """Write the county below `directory` unless it is there; the paths of its images.

    Every file appears whole or not at all. `progress` hears a line for each step.
    """
    images = [directory / str(quad.year) / f"{quad.stem}.tif" for quad in QUADS]
    if not _intact(directory):
        with _alone(directory):
            if not _intact(directory):  # another process may have written it meanwhile
                _write_all(directory, progress or (lambda _line: None))
    return images


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Waits until no other process writes there; the system ends the lock of one that dies."""
    directory.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_all(directory: Path, log: Callable[[str], None]) -> None:
    (directory / "truth").mkdir(parents=True, exist_ok=True)
    for year in YEARS:
        (directory / str(year)).mkdir(exist_ok=True)
        log(f"Demo County {year}: drawing the land")
        ground = county(year)
        classes = class_table()[ground.material]
        log(f"Demo County {year}: lighting it")
        bands = [
            expose(light, year, band) for band, light in enumerate(paint(ground, land(), year))
        ]
        for flight, quad in enumerate(QUADS):
            if quad.year != year:
                continue
            log(f"Demo County {year}: writing {quad.stem}")
            image = np.stack([snap(b[quad.window], year, flight, i) for i, b in enumerate(bands)])
            truth = classes[quad.window]
            if quad.collar:
                outside = collar(truth.shape)
                image[:, outside] = 0
                truth = np.where(outside, 0, truth).astype(np.uint8)
            _write(directory / str(year) / f"{quad.stem}.tif", image, quad, truth=False)
            label = directory / "truth" / f"{quad.stem}_label.tif"
            _write(label, truth[None], quad, truth=True)
    _replace(directory / "README.txt", README)
    sizes = {name: (directory / name).stat().st_size for name in _names()}
    _replace(
        directory / "manifest.json", json.dumps({"version": VERSION, "bytes": sizes}, indent=1)
    )


def county_bounds() -> tuple[int, int, int, int]:
    """Left, bottom, right, top of all imagery, meters in EPSG:26916."""
    return WEST, NORTH - ROWS, WEST + COLS, NORTH


def collar(shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """True where a frame flown slightly askew has no picture: west and south edges."""
    rows, cols = shape
    row, col = np.arange(rows)[:, None], np.arange(cols)[None]
    west = col < 42 + 36 * row / rows
    south = rows - row <= 44 + 34 * col / cols
    return np.asarray(west | south)


def _names() -> list[str]:
    names = ["README.txt"]
    for quad in QUADS:
        names += [f"{quad.year}/{quad.stem}.tif", f"truth/{quad.stem}_label.tif"]
    return names


def _intact(directory: Path) -> bool:
    try:
        manifest = json.loads((directory / "manifest.json").read_text("utf-8"))
        if manifest["version"] != VERSION:
            return False
        sizes = manifest["bytes"]
        return all((directory / name).stat().st_size == sizes[name] for name in _names())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(path: Path, image: npt.NDArray[np.uint8], quad: Quad, *, truth: bool) -> None:
    top, left = quad.window[0].start, quad.window[1].start
    profile = {
        "driver": "COG",
        "dtype": "uint8",
        "count": image.shape[0],
        "height": image.shape[1],
        "width": image.shape[2],
        "crs": "EPSG:26916",
        "transform": Affine(1, 0, WEST + left, 0, -1, NORTH - top),
        "blocksize": 512,
        "compress": "DEFLATE",
        "predictor": "NO" if truth else "STANDARD",
        "level": 6,
        "overview_resampling": "MODE" if truth else "AVERAGE",
        "nodata": 0 if quad.collar else None,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tif")
    try:
        with rasterio.open(temporary, "w", **profile) as target:
            if not truth:
                fourth = ColorInterp.alpha if quad.alpha else ColorInterp.undefined
                target.colorinterp = (
                    ColorInterp.red,
                    ColorInterp.green,
                    ColorInterp.blue,
                    fourth,
                )
            date = f"{quad.date[:4]}:{quad.date[4:6]}:{quad.date[6:]} 17:00:00"
            target.update_tags(TIFFTAG_DATETIME=date, TIFFTAG_COPYRIGHT="CC0 1.0")
            target.write(image)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
