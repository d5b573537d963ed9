"""Labels drawn as features: read, checked, transformed to an image's CRS, and reported on.

Features are identified by the number that their file gives them (the fid that QGIS shows).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.enums import TransformDirection

from model.legend import LEGEND
from training.data.crosswalks import Crosswalk, is_missing
from training.data.imagery import Picture
from training.errors import LabelError

Geometries = NDArray[Any]
"""object (n,) of shapely geometries."""


class NoFeatures(LabelError):
    """No feature of a file has an area and a class."""


@dataclass
class FeatureIssues:
    """Ids of features that have a problem, by problem."""

    unknown_code: dict[int, str] = field(default_factory=dict)
    no_class: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    repaired: list[int] = field(default_factory=list)
    unusable: dict[int, str] = field(default_factory=dict)
    outside: list[int] = field(default_factory=list)
    overlaps: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Features:
    """Usable features. ids: int64 (n,). values: uint8 (n,), of the legend. images: the name of the
    image that each was drawn on, where a field names it.
    """

    path: Path
    crs: CRS
    ids: NDArray[np.int64]
    geometries: Geometries
    values: NDArray[np.uint8]
    images: NDArray[Any] | None

    def on(self, picture: Picture, radius: float | None) -> tuple[NDArray[np.intp], Geometries]:
        """Return the features that meet an image: their indices, intp (m,), and their polygons in
        its CRS, points buffered to circles of `radius` meters.
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
    issues: FeatureIssues,
    *,
    layer: str | None = None,
    image_field: str | None = None,
    radius: float | None = None,
) -> Features:
    """Read the features of a GeoPackage, GeoJSON or Shapefile that have a class and an area; the
    others are added to `issues`.

    Raises LabelError when the file, its layer, field or CRS is missing, when points have no
    `radius`, or when nothing usable is left.
    """
    layer = _layer(path, layer)
    info = pyogrio.read_info(path, layer=layer)
    class_field = _field(path, class_field, list(info["fields"]))
    image_field = image_field and _field(path, image_field, list(info["fields"]))
    wanted = [class_field] + ([image_field] if image_field else [])
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
        if is_missing(code):
            issues.no_class.append(fid)
        elif value is None:
            issues.unknown_code[fid] = str(code)
        values[index] = value or 0
    usable = _usable(geometries, fids, issues) & (values > 0)
    if radius is None and (points := (shapely.get_dimensions(geometries) == 0) & usable).any():
        raise LabelError(
            f"{path} holds {points.sum()} points (the first is feature {fids[points][0]}): "
            "give the radius in meters that each represents"
        )
    if not usable.any():
        unknown = sorted(set(issues.unknown_code.values()))
        raise NoFeatures(
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
    """Return pairs of polygons of different classes that overlap by more than `smallest` (area in
    units of the CRS): features (the lower id first), classes, area.
    """
    one, other = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    keep = (one < other) & (values[one] != values[other])
    one, other = one[keep], other[keep]
    areas = shapely.area(shapely.intersection(polygons[one], polygons[other]))
    result = []
    for i, j, area in zip(one, other, areas, strict=True):
        if area >= smallest:
            pair = sorted([(int(ids[i]), int(values[i])), (int(ids[j]), int(values[j]))])
            result.append(
                {
                    "features": [p[0] for p in pair],
                    "classes": [p[1] for p in pair],
                    "area": round(float(area), 2),
                }
            )
    return sorted(result, key=lambda o: o["features"])


def fields_of(path: Path) -> list[str]:
    """Return the names of the fields of a file's only layer. Raises LabelError."""
    return list(pyogrio.read_info(path, layer=_layer(path, None))["fields"])


def _layer(path: Path, layer: str | None) -> str:
    """Return the layer of that name; by default the only one with geometries: QGIS keeps styles in
    a table beside them."""
    if not path.exists():
        raise LabelError(f"{path} is missing")
    try:
        listed = {str(name): kind for name, kind in pyogrio.list_layers(path)}
    except pyogrio.errors.DataSourceError as error:
        raise LabelError(f"{path} cannot be read as features: {error}") from error
    layers = [name for name, kind in listed.items() if kind is not None]
    if layer is None and len(layers) == 1:
        return layers[0]
    if layer not in listed:
        raise LabelError(f"{path} has layers {layers}: name one of them, not {layer!r}")
    return layer


def _field(path: Path, name: str, fields: Iterable[str]) -> str:
    """Return a field's name as the file spells it: GeoPackages, Shapefiles and geodatabases do not
    tell upper from lower case."""
    there = list(map(str, fields))
    alike = [each for each in there if each.casefold() == name.casefold()]
    if name in there or len(alike) == 1:
        return name if name in there else alike[0]
    raise LabelError(f"{path} has no field {name!r}; it has {sorted(there)}")


def _usable(
    geometries: Geometries, fids: NDArray[np.int64], issues: FeatureIssues
) -> NDArray[np.bool_]:
    """Return True for points and polygons; invalid polygons are repaired in place."""
    usable = np.ones(len(geometries), bool)
    for index, (fid, shape) in enumerate(zip(fids.tolist(), geometries, strict=True)):
        if shape is None or shape.is_empty:
            issues.empty.append(fid)
            usable[index] = False
        elif shape.geom_type.endswith(("LineString", "Collection", "LinearRing")):
            issues.unusable[fid] = f"{shape.geom_type}: neither polygon nor point"
            usable[index] = False
        elif not shape.is_valid:
            reason = shapely.is_valid_reason(shape)
            repaired_shape = shapely.make_valid(shape, method="structure", keep_collapsed=False)
            if repaired_shape.area > 0:
                geometries[index] = repaired_shape
                issues.repaired.append(fid)
            else:
                issues.unusable[fid] = reason
                usable[index] = False
    return usable


def _moved(geometries: Geometries, crs: CRS, picture: Picture) -> Geometries:
    """Transform features to the image's CRS; those far from the image become empty.

    Far from its zone a projection folds over, so that features on the other side of the earth
    could land on the image.
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


REPORT = "labels.json"
NAMES = tuple(c.name for c in LEGEND.classes)


@dataclass
class Report:
    """The outcome of labeling. classes: their names. images: name → labeled pixels of every class,
    for every image that has some. overlap_pixels: unlabeled because polygons of two classes contain
    them. crosswalk: its name. unknown_pixels: code → pixels with a code that the crosswalk lacks.
    """

    source: str
    crosswalk: str
    classes: tuple[str, ...] = NAMES
    images: dict[str, list[int]] = field(default_factory=dict)
    unlabeled_images: list[str] = field(default_factory=list)
    overlap_pixels: int = 0
    features: FeatureIssues = field(default_factory=FeatureIssues)
    unknown_pixels: dict[str, int] = field(default_factory=dict)

    def counts(self) -> NDArray[np.int64]:
        """Return labeled pixels of every class: int64 (classes,)."""
        total = np.zeros(len(self.classes), np.int64)
        for counts in self.images.values():
            total += counts
        return total

    def lines(self) -> list[str]:
        """Return the report for people, with up to 20 ids of a kind."""
        result = self.features
        codes = result.unknown_code.items()
        issue_lines: list[tuple[str, Sequence[object]]] = [
            ("without a class (unlabeled)", result.no_class),
            ("of an unknown class (unlabeled)", [f"{i} ({c!r})" for i, c in codes]),
            ("without geometry", result.empty),
            ("invalid, repaired", result.repaired),
            ("unusable", [f"{i} ({why})" for i, why in result.unusable.items()]),
            ("outside the imagery", result.outside),
            (
                f"overlapping another class ({self.overlap_pixels:,} pixels left unlabeled)",
                [f"{a}+{b}" for a, b in (o["features"] for o in result.overlaps)],
            ),
        ]  # fmt: skip
        lines = [f"features {what}: {_some(ids)}" for what, ids in issue_lines if ids]
        lines += [
            f"code {code!r} is not in crosswalk {self.crosswalk}: {n:,} pixels left unlabeled"
            for code, n in self.unknown_pixels.items()
        ]
        names = {c: int(n) for c, n in zip(self.classes, self.counts(), strict=True)}
        lines.append("labeled pixels: " + ", ".join(f"{k} {n:,}" for k, n in names.items()))
        lines += [f"warning: no pixel of class {k}" for k, n in names.items() if not n]
        return lines


def _some(ids: Sequence[object]) -> str:
    shown = ", ".join(str(i) for i in ids[:20])
    return shown if len(ids) <= 20 else f"{shown} … ({len(ids)} in all, see {REPORT})"
