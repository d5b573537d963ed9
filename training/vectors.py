"""Labels drawn as features: read, checked, brought into an image's CRS.

Features are named by the number that their file gives them (the fid that QGIS shows).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.enums import TransformDirection

from training.crosswalk import Crosswalk
from training.errors import LabelError
from training.imagery import Picture

Geometries = NDArray[Any]
"""object (n,) of shapely geometries."""


@dataclass
class Findings:
    """What is said about features: their ids, by what is the matter with them."""

    unknown_code: dict[int, str] = field(default_factory=dict)
    empty: list[int] = field(default_factory=list)
    repaired: list[int] = field(default_factory=list)
    unusable: dict[int, str] = field(default_factory=dict)
    outside: list[int] = field(default_factory=list)
    overlaps: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Features:
    """Usable features. ids: int64 (n,). values: uint8 (n,), 1..6. images: the name of the image
    that each was drawn on, where a field tells.
    """

    path: Path
    crs: CRS
    ids: NDArray[np.int64]
    geometries: Geometries
    values: NDArray[np.uint8]
    images: NDArray[Any] | None

    def on(self, picture: Picture, radius: float | None) -> tuple[NDArray[np.intp], Geometries]:
        """The features that meet an image: their positions here, and their polygons in its CRS,
        points grown to circles of `radius` meters.
        """
        mine = np.arange(len(self.ids))
        if self.images is not None:
            mine = np.flatnonzero(np.isin(self.images, [picture.name, picture.path.stem]))
        if picture.crs is None or not len(mine):
            return mine[:0], self.geometries[:0]
        moved = _moved(self.geometries[mine], self.crs, picture)
        points = shapely.get_dimensions(moved) == 0
        if points.any() and radius is not None:
            unit = picture.crs.axis_info[0].unit_conversion_factor
            moved[points] = shapely.buffer(moved[points], radius / unit)
        met = np.flatnonzero(shapely.intersects(moved, shapely.box(*picture.bounds)))
        return mine[met], moved[met]


def read_features(
    path: Path,
    class_field: str,
    crosswalk: Crosswalk,
    findings: Findings,
    *,
    layer: str | None = None,
    image_field: str | None = None,
    radius: float | None = None,
) -> Features:
    """The features of a GeoPackage, GeoJSON or Shapefile that have a class and an area; what has
    not is noted in `findings`.

    Raises LabelError when the file, its layer, field or CRS is missing, when points have no
    `radius`, or when nothing usable is left.
    """
    layer = _layer(path, layer)
    info = pyogrio.read_info(path, layer=layer)
    wanted = [class_field] + ([image_field] if image_field else [])
    for name in wanted:
        if name not in list(info["fields"]):
            raise LabelError(f"{path} has no field {name!r}; it has {sorted(info['fields'])}")
    if not info["crs"]:
        raise LabelError(
            f"{path} has no CRS: save it with one (a Shapefile needs its .prj beside it)"
        )
    meta, fids, blobs, columns = pyogrio.raw.read(
        path, layer=layer, columns=wanted, return_fids=True
    )
    data = dict(zip(meta["fields"], columns, strict=True))
    geometries = shapely.force_2d(shapely.from_wkb(blobs, on_invalid="ignore"))
    values = np.zeros(len(fids), np.uint8)
    for index, (fid, code) in enumerate(zip(fids.tolist(), data[class_field], strict=True)):
        value = crosswalk.value(code)
        if value is None:
            findings.unknown_code[fid] = "" if code is None else str(code)
        values[index] = value or 0
    usable = _usable(geometries, fids, findings) & (values > 0)
    if radius is None and (points := (shapely.get_dimensions(geometries) == 0) & usable).any():
        raise LabelError(
            f"{path} holds {points.sum()} points (the first is feature {fids[points][0]}): "
            "give the radius in meters of the ground that each stands for"
        )
    if not usable.any():
        unknown = sorted(set(findings.unknown_code.values()))
        raise LabelError(
            f"{path}: none of {len(fids)} features has an area and a class of crosswalk "
            f"{crosswalk.name!r}; codes unknown to it: {unknown[:20]}"
        )
    return Features(
        path,
        CRS.from_user_input(info["crs"]),
        fids[usable].astype(np.int64),
        geometries[usable],
        values[usable],
        data[image_field][usable].astype(str) if image_field else None,
    )


def overlaps(
    ids: NDArray[np.int64], values: NDArray[np.uint8], polygons: Geometries, smallest: float
) -> list[dict[str, Any]]:
    """Pairs of polygons of different classes that share more than `smallest` (area in units of the
    CRS): features (the lower id first), classes, area.
    """
    one, other = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    keep = (one < other) & (values[one] != values[other])
    one, other = one[keep], other[keep]
    areas = shapely.area(shapely.intersection(polygons[one], polygons[other]))
    found = []
    for i, j, area in zip(one, other, areas, strict=True):
        if area >= smallest:
            pair = sorted([(int(ids[i]), int(values[i])), (int(ids[j]), int(values[j]))])
            found.append(
                {
                    "features": [p[0] for p in pair],
                    "classes": [p[1] for p in pair],
                    "area": round(float(area), 2),
                }
            )
    return sorted(found, key=lambda o: o["features"])


def _layer(path: Path, layer: str | None) -> str:
    if not path.is_file():
        raise LabelError(f"{path} is missing")
    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
    except pyogrio.errors.DataSourceError as error:
        raise LabelError(f"{path} cannot be read as features: {error}") from error
    if layer is None and len(layers) == 1:
        return layers[0]
    if layer not in layers:
        raise LabelError(f"{path} has layers {layers}: name one of them, not {layer!r}")
    return layer


def _usable(
    geometries: Geometries, fids: NDArray[np.int64], findings: Findings
) -> NDArray[np.bool_]:
    """True for points and polygons; invalid polygons are replaced by the valid area they draw."""
    usable = np.ones(len(geometries), bool)
    for index, (fid, shape) in enumerate(zip(fids.tolist(), geometries, strict=True)):
        if shape is None or shape.is_empty:
            findings.empty.append(fid)
            usable[index] = False
        elif shape.geom_type.endswith(("LineString", "Collection", "LinearRing")):
            findings.unusable[fid] = f"{shape.geom_type}: neither polygon nor point"
            usable[index] = False
        elif not shape.is_valid:
            reason = shapely.is_valid_reason(shape)
            mended = shapely.make_valid(shape, method="structure", keep_collapsed=False)
            if mended.area > 0:
                geometries[index] = mended
                findings.repaired.append(fid)
            else:
                findings.unusable[fid] = reason
                usable[index] = False
    return usable


def _moved(geometries: Geometries, crs: CRS, picture: Picture) -> Geometries:
    """In the image's CRS; what has no place there becomes empty.

    Only features near the image are moved: far from its zone a projection folds over, and what
    lies on the other side of the earth could land on it.
    """
    if picture.crs == crs:
        return geometries.copy()
    moving = Transformer.from_crs(crs, picture.crs, always_xy=True)
    near = shapely.box(
        *moving.transform_bounds(*picture.bounds, direction=TransformDirection.INVERSE)
    )
    reach = 0.01 * (1 + np.sqrt(near.area))
    close = shapely.intersects(geometries, near.buffer(reach))
    moved = np.full(len(geometries), shapely.Polygon(), object)
    if close.any():
        moved[close] = shapely.transform(geometries[close], moving.transform, interleaved=False)
    return moved
