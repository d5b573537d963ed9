"""How many classes of a block would change with all the context the network can see.

No real image here is as large as a block and its halo at the resolution served, so the share is
put together: small cores of real imagery are classified with ever less context, differences from
the full context are counted by the distance to the window's edge, and a block is made of pixels
at known distances from its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio

from model.normalize import normalize
from model.session import Session
from model.windows import BLOCK
from tests.benchmarks.report import Finding

REACH = 96
"""The network's dependence ends within so many pixels, for cores aligned to 16."""

CORE = 64


def images(data: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """uint8 (4, 256, 256), real chips of several cities and years at 0.6 m."""
    for path in sorted((data / "naip" / "multi_year").glob("*.tif"))[::2]:
        with rasterio.open(path) as dataset:
            image = dataset.read(indexes=(1, 2, 3, 4))
        if min(image.shape[1:]) >= CORE + 2 * REACH:
            yield image


def shares_changed(session: Session, data: Path) -> tuple[dict[int, float], int]:
    """({halo: share of a block's classes that full context would change}, pixels compared)."""
    differing, compared = np.zeros(2 * BLOCK), np.zeros(2 * BLOCK)
    near = _distance(CORE)
    for image in images(data):
        full = _classes(session, image, REACH)
        for halo in range(0, REACH, 16):
            changed = _classes(session, image, halo) != full
            np.add.at(compared, (near + halo).ravel(), 1)
            np.add.at(differing, (near + halo).ravel(), changed.ravel())
    rate = differing / np.maximum(compared, 1)
    edges = _distance(BLOCK)
    halos = sorted({32, 48, 64, 80, session.card.halo})
    return {halo: float(rate[edges + halo].mean()) for halo in halos}, int(compared.sum())


def measure(model: Path, data: Path) -> Finding:
    """The shipped model's halo, held against the share that may change."""
    session = Session.load(model)
    shares, pixels = shares_changed(session, data)
    each = ", ".join(f"{halo}: {100 * share:.4f} %" for halo, share in shares.items())
    return Finding(
        f"% of classes that more context would change (halo {session.card.halo})",
        100 * shares[session.card.halo],
        0.01,
        False,
        f"by halo: {each}; from {pixels:,} pixels of real imagery",
    )


def _distance(size: int) -> npt.NDArray[np.intp]:
    """(size, size): pixels between each pixel and the nearest edge."""
    line = np.minimum(np.arange(size), np.arange(size)[::-1])
    return np.minimum(line[:, None], line[None, :])


def _classes(session: Session, image: npt.NDArray[np.uint8], halo: int) -> npt.NDArray[np.intp]:
    row, col = (image.shape[1] - CORE) // 2, (image.shape[2] - CORE) // 2
    window = image[:, row - halo : row + CORE + halo, col - halo : col + CORE + halo]
    probabilities = session.predict(normalize(window, session.card)[None])[0]
    core: npt.NDArray[np.intp] = probabilities[:, halo : halo + CORE, halo : halo + CORE].argmax(0)
    return core
