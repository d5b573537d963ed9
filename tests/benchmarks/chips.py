"""`python -m tests.benchmarks.chips`: memory and time of cutting a whole, wholly labeled quad.

7,500 × 6,500 pixels of noisy ground, as large and as incompressible as a NAIP quarter quad at 1 m.
The step runs in a process of its own, whose largest resident memory is read from the kernel.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

COLS, ROWS = 6500, 7500

CUT = """
import json, resource, sys, time
from pathlib import Path
from training.data.chips import ChipSettings, cut
began = time.monotonic()
folder = Path(sys.argv[1])
found = cut(folder / "imagery", folder / "labels", ChipSettings(), folder / "chips",
            log=lambda line: None)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"chips": len(found.chips), "seconds": time.monotonic() - began,
                  "peak_mib": peak / 1024}))
"""


def write_quad(folder: Path, rows: int = ROWS, cols: int = COLS) -> None:
    """An image and its label raster, every pixel labeled, written strip by strip."""
    name = "m_3208601_nw_16_1_20170903"
    place = {
        "driver": "GTiff", "dtype": "uint8", "width": cols, "height": rows, "crs": "EPSG:26916",
        "transform": Affine(1, 0, 502_700, 0, -1, 3_648_600), "tiled": True,
        "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1,
    }  # fmt: skip
    paths = folder / "imagery" / f"{name}.tif", folder / "labels" / f"{name}_label.tif"
    for path in paths:
        path.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with (
        rasterio.open(paths[0], "w", count=4, **place) as image,
        rasterio.open(paths[1], "w", count=1, **place) as label,
    ):
        for top in range(0, rows, 512):
            high = min(512, rows - top)
            coarse = rng.integers(1, 7, (-(-high // 32), -(-cols // 32)), dtype=np.uint8)
            classes = np.kron(coarse, np.ones((32, 32), np.uint8))[:high, :cols]
            noise = rng.integers(-12, 13, (4, high, cols), dtype=np.int16)
            window = Window(0, top, cols, high)
            image.write((classes * 30 + 40 + noise).astype(np.uint8), window=window)
            label.write(classes, 1, window=window)


def main() -> None:
    rows, cols = (int(a) for a in sys.argv[1:3]) if len(sys.argv) > 2 else (ROWS, COLS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_quad(folder, rows, cols)
        answer = subprocess.run(
            [sys.executable, "-c", CUT, name], capture_output=True, text=True, check=True
        )
        result = json.loads(answer.stdout)
        pixels = rows * cols * 5
        stored = sum(p.stat().st_size for p in (folder / "chips").iterdir())
    print(
        f"{rows} x {cols} pixels, wholly labeled: {result['chips']:,} chips, "
        f"{stored / 2**30:.2f} GiB, {result['seconds']:.0f} s, peak {result['peak_mib']:.0f} MiB "
        f"(image and label as arrays alone: {pixels / 2**20:.0f} MiB)"
    )


if __name__ == "__main__":
    main()
