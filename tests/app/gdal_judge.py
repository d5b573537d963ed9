"""Reads rasters with the GDAL that comes with pyogrio, newer than the system's and with its driver
for OGC API: JSON in, JSON out.

Not a test module: tests start it with a task on standard input (see tests.app.gis).
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

RASTER, READ = 2, 0
BYTE = 1


def library() -> ctypes.CDLL:
    """GDAL of pyogrio's wheel, its data beside it."""
    spec = find_spec("pyogrio")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    os.environ["GDAL_DATA"] = str(package / "gdal_data")
    os.environ["PROJ_DATA"] = os.environ["PROJ_LIB"] = str(package / "proj_data")
    (path,) = package.parent.joinpath("pyogrio.libs").glob("libgdal*")
    gdal = ctypes.CDLL(str(path))
    for name in ("GDALOpenEx", "GDALGetRasterBand", "GDALGetMetadata"):
        getattr(gdal, name).restype = ctypes.c_void_p
    gdal.GDALVersionInfo.restype = ctypes.c_char_p
    gdal.CPLGetLastErrorMsg.restype = ctypes.c_char_p
    gdal.GDALAllRegister()
    return gdal


def evaluated(gdal: ctypes.CDLL, task: dict[str, Any]) -> dict[str, Any]:
    """Size, geotransform, subdatasets and, for a window, the bands' pixels (hex) of a dataset."""
    pairs = [f"{name}={value}".encode() for name, value in task.get("options", {}).items()]
    options = (ctypes.c_char_p * (len(pairs) + 1))(*pairs, None)
    dataset = gdal.GDALOpenEx(task["open"].encode(), RASTER, None, options, None)
    if not dataset:
        return {"error": gdal.CPLGetLastErrorMsg().decode()}
    handle = ctypes.c_void_p(dataset)
    transform = (ctypes.c_double * 6)()
    gdal.GDALGetGeoTransform(handle, transform)
    answer: dict[str, Any] = {
        "size": [gdal.GDALGetRasterXSize(handle), gdal.GDALGetRasterYSize(handle)],
        "bands": gdal.GDALGetRasterCount(handle),
        "transform": list(transform),
        "subdatasets": _listed(gdal, handle),
    }
    if "window" not in task:
        return answer
    left, bottom, right, top = task["window"]
    cols, rows = task["shape"]
    col = round((left - transform[0]) / transform[1])
    row = round((top - transform[3]) / transform[5])
    width = round((right - left) / transform[1])
    height = round((bottom - top) / transform[5])
    pixels = []
    for band in range(1, answer["bands"] + 1):
        buffer = (ctypes.c_ubyte * (cols * rows))()
        source = ctypes.c_void_p(gdal.GDALGetRasterBand(handle, band))
        failed = gdal.GDALRasterIO(
            source, READ, col, row, width, height, buffer, cols, rows, BYTE, 0, 0
        )
        if failed:
            return {"error": gdal.CPLGetLastErrorMsg().decode()}
        pixels.append(bytes(buffer).hex())
    return answer | {"pixels": pixels}


def _listed(gdal: ctypes.CDLL, handle: ctypes.c_void_p) -> list[str]:
    found = gdal.GDALGetMetadata(handle, b"SUBDATASETS")
    if not found:
        return []
    listed = ctypes.cast(found, ctypes.POINTER(ctypes.c_char_p))
    lines: list[str] = []
    while (line := listed[len(lines)]) is not None:
        lines.append(line.decode())
    return lines


if __name__ == "__main__":
    loaded = library()
    version = loaded.GDALVersionInfo(b"RELEASE_NAME").decode()
    print(json.dumps([version, [evaluated(loaded, task) for task in json.load(sys.stdin)]]))
