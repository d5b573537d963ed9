"""Random fields over the county: float32 (rows, cols), mean 0, standard deviation about 1.

Every field has a number of its own, so adding one never changes the others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Field = npt.NDArray[np.float32]

SEED = 3_208_601
"""The block and quad of the county: one seed, one county."""


def generator(*number: int) -> np.random.Generator:
    """The random numbers of one thing, the same on every run."""
    return np.random.default_rng([SEED, *number])


def smooth(shape: tuple[int, int], meters: float, *number: int) -> Field:
    """A smooth field (rows, cols) whose hills are about `meters` (= pixels) across."""
    rows, cols = shape
    coarse = (int(rows / meters) + 4, int(cols / meters) + 4)
    values = generator(*number).standard_normal(coarse, dtype=np.float32)
    box = (1.0, 1.0, 1.0 + cols / meters, 1.0 + rows / meters)
    image = Image.fromarray(values).resize((cols, rows), Image.Resampling.BICUBIC, box=box)
    field = np.asarray(image, dtype=np.float32)
    return np.asarray(field / max(float(field.std()), 1e-6), dtype=np.float32)


def cloudy(shape: tuple[int, int], meters: float, *number: int) -> Field:
    """Three octaves of `smooth`, the coarsest of `meters`."""
    field = smooth(shape, meters, *number, 0)
    field = field + 0.6 * smooth(shape, meters / 2.7, *number, 1)
    field = field + 0.4 * smooth(shape, meters / 7.1, *number, 2)
    return np.asarray(field / 1.23, dtype=np.float32)


def white(shape: tuple[int, int], *number: int) -> Field:
    """Independent pixels (rows, cols)."""
    return generator(*number).standard_normal(shape, dtype=np.float32)


def soften(field: Field) -> Field:
    """The field (rows, cols) under the 3 × 3 binomial blur; the border row repeats itself."""
    padded = np.pad(field, ((1, 1), (0, 0)), mode="edge")
    down = padded[:-2] + padded[2:] + 2 * padded[1:-1]
    padded = np.pad(down, ((0, 0), (1, 1)), mode="edge")
    across = padded[:, :-2] + padded[:, 2:] + 2 * padded[:, 1:-1]
    return np.asarray(across / 16, dtype=np.float32)
