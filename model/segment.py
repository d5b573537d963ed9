"""Imagery → classes: normalize, run the network on aligned windows, take the best class.

No I/O. A block is inferred with its halo of context, which is then thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.edges import reflect_pad_invalid
from model.errors import ImageError
from model.legend import NODATA
from model.normalize import normalize
from model.session import Cancellation, Probabilities, Session
from model.windows import BLOCK, Window, cover

Image = npt.NDArray[np.uint8]
Valid = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Classes and the confidence of the network.

    `classes`: uint8 (rows, cols), legend values, 255 = nodata.
    `confidence`: uint8 (rows, cols), probability of that class in percent 0..100, 255 = nodata.
    """

    classes: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8]


def segment(session: Session, image: Image, valid: Valid) -> Segmentation:
    """Classify an image of any size at the session's ground resolution.

    `image`: uint8 (bands, rows, cols); `valid`: bool (rows, cols), True = data. Blocks start at
    the upper-left corner. Every valid pixel gets a class, every other one nodata.
    """
    _check(image, valid)
    extent = Window(0, 0, valid.shape[1], valid.shape[0])
    classes = np.full(extent.shape, NODATA, dtype=np.uint8)
    confidence = np.full(extent.shape, NODATA, dtype=np.uint8)
    for block in cover(extent):
        window = block.expand(session.card.halo)
        inside = window.intersection(extent)
        core = block.intersection(extent)
        if inside is None or core is None or not valid[core.slices_in(extent)].any():
            continue
        pixels = np.zeros((image.shape[0], *window.shape), dtype=np.uint8)
        data = np.zeros(window.shape, dtype=np.bool_)
        rows, cols = inside.slices_in(window)
        pixels[:, rows, cols] = image[:, *inside.slices_in(extent)]
        data[rows, cols] = valid[inside.slices_in(extent)]
        part = segment_window(session, pixels, data)
        within = core.slices_in(block)
        classes[core.slices_in(extent)] = part.classes[within]
        confidence[core.slices_in(extent)] = part.confidence[within]
    return Segmentation(classes, confidence)


def segment_window(
    session: Session, image: Image, valid: Valid, cancellation: Cancellation | None = None
) -> Segmentation:
    """Classify one block; return it without its halo, 512 × 512.

    `image`: uint8 (bands, window, window), the block and its halo; `valid`: bool (window, window),
    True = data. Cancelled when `cancellation` is used.
    """
    inner = valid[_core(session)]
    if not inner.any():
        empty = np.full((BLOCK, BLOCK), NODATA, dtype=np.uint8)
        return Segmentation(empty, empty.copy())
    return _segmentation(probabilities_of(session, image, valid, cancellation), inner)


def segment_blocks(
    session: Session,
    image: Image,
    valid: Valid,
    rows: int,
    cols: int,
    cancellation: Cancellation | None = None,
) -> tuple[Segmentation, ...]:
    """Classify `rows` × `cols` neighboring blocks in one window with one halo.

    `image`: uint8 (bands, rows · 512 + 2 · halo, cols · 512 + 2 · halo); `valid`: bool of its
    shape, True = data. Return the blocks row by row from the north-west, each as `segment_window`
    returns it to the last bit: where joining would change one, or costs more, they run one by one.
    Cancelled when `cancellation` is used.
    """
    _check(image, valid)
    size, halo = session.card.window, session.card.halo
    expected = rows * BLOCK + 2 * halo, cols * BLOCK + 2 * halo
    if valid.shape != expected:
        raise ImageError(
            f"a window of {rows} × {cols} blocks must be {expected[0]} × {expected[1]} pixels, "
            f"got {valid.shape}"
        )
    extent = Window(0, 0, expected[1], expected[0])
    blocks = [
        Window(halo + col * BLOCK, halo + row * BLOCK, BLOCK, BLOCK)
        for row in range(rows)
        for col in range(cols)
    ]
    inside = [block.expand(halo).slices_in(extent) for block in blocks]
    core = _core(session)
    wanted = [part for part in inside if valid[part][core].any()]
    filled = reflect_pad_invalid(image, valid)
    joined = (
        len(wanted) * size * size > extent.rows * extent.cols
        and (valid.all() or all(_fills_alike(image, valid, filled, part) for part in wanted))
        and session.halo_covers_reach
    )
    if not joined:
        return tuple(
            segment_window(session, image[:, *part], valid[part], cancellation) for part in inside
        )
    probabilities = session.predict(normalize(filled, session.card)[None], cancellation)[0]
    places = [block.slices_in(extent) for block in blocks]
    return tuple(_segmentation(probabilities[:, *place], valid[place]) for place in places)


def probabilities_of(
    session: Session, image: Image, valid: Valid, cancellation: Cancellation | None = None
) -> Probabilities:
    """Return float32 (channels, 512, 512) of one block; arguments as for `segment_window`."""
    _check(image, valid)
    size = session.card.window
    if valid.shape != (size, size):
        raise ImageError(f"a window must be {size} × {size} pixels, got {valid.shape}")
    batch = normalize(reflect_pad_invalid(image, valid), session.card)[None]
    rows, cols = _core(session)
    return session.predict(batch, cancellation)[0, :, rows, cols]


def _core(session: Session) -> tuple[slice, slice]:
    halo = session.card.halo
    return slice(halo, halo + BLOCK), slice(halo, halo + BLOCK)


def _fills_alike(image: Image, valid: Valid, filled: Image, part: tuple[slice, slice]) -> bool:
    """Whether a window alone is continued beyond its data as it is within a larger one."""
    return np.array_equal(reflect_pad_invalid(image[:, *part], valid[part]), filled[:, *part])


def _segmentation(probabilities: Probabilities, inner: Valid) -> Segmentation:
    classes, best = _best(probabilities)
    confidence = np.rint(best * 100).astype(np.uint8)
    classes[~inner] = NODATA
    confidence[~inner] = NODATA
    return Segmentation(classes, confidence)


def _best(probabilities: Probabilities) -> tuple[npt.NDArray[np.uint8], Probabilities]:
    """Return the class of highest probability, the lowest on ties, and that probability."""
    best = probabilities[1].copy()
    classes = np.ones(best.shape, dtype=np.uint8)
    for value in range(2, probabilities.shape[0]):
        better = probabilities[value] > best
        classes[better] = value
        np.maximum(best, probabilities[value], out=best)
    return classes, best


def _check(image: Image, valid: Valid) -> None:
    if image.ndim != 3 or image.shape[1:] != valid.shape:
        raise ImageError(
            f"image {image.shape} and valid {valid.shape} must be (bands, rows, cols) "
            "and (rows, cols) of one size"
        )
    if image.dtype != np.uint8:
        raise ImageError(f"imagery must be uint8, got {image.dtype}")
    if valid.dtype != np.bool_:
        raise ImageError(f"valid must be bool, got {valid.dtype}")
