"""Normalization of imagery, for training and serving alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.card import ModelCard
from model.errors import ImageError


def normalize(image: npt.NDArray[np.uint8], card: ModelCard) -> npt.NDArray[np.float32]:
    """Return (image / 255 − mean) / std of each band.

    `image`: uint8 (bands, rows, cols), 0..255 → float32 of the same shape, C-contiguous.
    ImageError when the dtype is not uint8 or the number of bands is not the card's.
    """
    if image.dtype != np.uint8:
        raise ImageError(f"imagery must be uint8, got {image.dtype}")
    if image.ndim != 3 or image.shape[0] != len(card.bands):
        raise ImageError(
            f"imagery must be (bands, rows, cols) with {len(card.bands)} bands, got {image.shape}"
        )
    mean = np.asarray(card.mean, dtype=np.float64)
    std = np.asarray(card.std, dtype=np.float64)
    levels = np.arange(256, dtype=np.float64) / 255
    table = ((levels[None, :] - mean[:, None]) / std[:, None]).astype(np.float32)
    out = np.empty(image.shape, dtype=np.float32)
    for band in range(image.shape[0]):
        # No uint8 is out of range; any other mode buffers the output.
        np.take(table[band], image[band], out=out[band], mode="clip")
    return out
