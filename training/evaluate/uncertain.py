"""Where a model is least sure: squares of ground to draw labels on, as a GeoPackage.

A label teaches most where the model errs, and it errs most where it is least sure (uncertainty
sampling, Lewis & Gale 1994). The file has the fields that `labels` reads: give a square its class,
or draw finer polygons into the same layer, and hand it back (`labels --corrections`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from model.legend import NODATA
from model.segment import segment
from model.session import Session
from training.data.files import atomic
from training.data.imagery import Picture, find
from training.data.labels import label_path
from training.data.mosaic import write_polygons
from training.data.resolution import read_at, resize_nearest, valid_of
from training.errors import AssessmentError
from training.progress import Log, OnProgress, print_line

LAYER = "labels"
MIN_VALID = 0.5
"""Share of a square that must be imagery."""


@dataclass(frozen=True)
class Square:
    """A square of an image: row and column of the squares, mean confidence 0..1, and the class that
    most of its pixels get."""

    picture: Picture
    row: int
    col: int
    confidence: float
    predicted: int

    def outline(self, side: float) -> shapely.Polygon:
        """Return the square of `side` pixels of the image, in the image's CRS."""
        t, (rows, cols) = self.picture.transform, self.picture.shape
        left, right = self.col * side, min((self.col + 1) * side, cols)
        top, bottom = self.row * side, min((self.row + 1) * side, rows)
        return shapely.box(t.c + left * t.a, t.f + bottom * t.e, t.c + right * t.a, t.f + top * t.e)


def uncertain(
    session: Session,
    imagery: Path,
    out: Path,
    *,
    count: int = 50,
    side_m: float = 32.0,
    labels: Path | None = None,
    log: Log = print_line,
    progress: OnProgress = lambda share: None,
) -> list[Square]:
    """Write the `count` squares of `side_m` meters where the model is least sure, not next to each
    other, into the layer `labels` of the GeoPackage `out`; return them, least sure first.

    `labels`: a folder of label rasters; squares with a labeled pixel are left out. Raises
    LabelError for imagery that cannot be read, AssessmentError where no square is left.
    """
    pictures = [p for p in find(imagery, len(session.card.bands)) if p.crs is not None]
    squares: list[Square] = []
    for number, picture in enumerate(pictures, 1):
        squares += squares_of(session, picture, side_m, labels)
        progress(number / len(pictures))
    selected = _spread(sorted(squares, key=lambda s: s.confidence), count)
    if not selected:
        raise AssessmentError(f"no square of {side_m:g} m of {imagery} is left to label")
    with atomic(out) as draft:
        _write(draft, selected, side_m, session)
    log(
        f"{len(selected)} squares of {side_m:g} m in {len({s.picture.name for s in selected})} "
        f"images, mean confidence {np.mean([s.confidence for s in selected]):.2f}"
    )
    return selected


def squares_of(
    session: Session, picture: Picture, side_m: float, labels: Path | None = None
) -> list[Square]:
    """Return the squares of an image, from its north-west, that are imagery and not labeled."""
    card = session.card
    image = read_at(picture.path, card.ground_resolution, picture.resolution, len(card.bands))
    answer = segment(session, image, valid_of(image))
    side = max(1, round(side_m / card.ground_resolution))
    free = answer.classes != NODATA
    taken = _labeled(picture, labels, free.shape)
    result = []
    for row in range(-(-free.shape[0] // side)):
        for col in range(-(-free.shape[1] // side)):
            part = (slice(row * side, (row + 1) * side), slice(col * side, (col + 1) * side))
            here = free[part]
            if here.sum() < MIN_VALID * side * side or taken[part].any():
                continue
            confidence = float(answer.confidence[part][here].mean()) / 100
            predicted = int(np.bincount(answer.classes[part][here]).argmax())
            result.append(Square(picture, row, col, confidence, predicted))
    return result


def _labeled(picture: Picture, labels: Path | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return bool (rows, cols) at the model's resolution, True where a label is."""
    path = label_path(labels, picture) if labels else None
    if path is None or not path.is_file():
        return np.zeros(shape, np.bool_)
    with rasterio.open(path) as raster:
        return resize_nearest(raster.read(1), shape) > 0


def _spread(squares: Iterable[Square], count: int) -> list[Square]:
    """Return the first `count` squares of which none touches an earlier one of its image."""
    selected: list[Square] = []
    taken: set[tuple[str, int, int]] = set()
    for s in squares:
        around = {(s.picture.name, s.row + i, s.col + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
        if len(selected) < count and not around & taken:
            selected.append(s)
            taken.add((s.picture.name, s.row, s.col))
    return selected


def _write(path: Path, squares: Sequence[Square], side_m: float, session: Session) -> None:
    legend, outlines = session.card.legend, []
    for s in squares:
        side = round(side_m / session.card.ground_resolution) * session.card.ground_resolution
        moving = Transformer.from_crs(s.picture.crs, 4326, always_xy=True)
        outline = s.outline(side / s.picture.resolution)
        outlines.append(shapely.transform(outline, moving.transform, interleaved=False))
    columns = {
        "classvalue": np.array([None] * len(squares), object),
        "image": np.array([s.picture.name for s in squares], object),
        "predicted": np.array([legend[s.predicted].name for s in squares], object),
        "confidence": np.array([round(s.confidence, 3) for s in squares]),
    }
    write_polygons(path, LAYER, outlines, columns, "GPKG")
