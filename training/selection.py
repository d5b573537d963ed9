"""Which scenes an evaluation is made on, and what it is then evidence of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.warp import reproject

from training.assessment import Role
from training.config import Preset
from training.errors import AssessmentError, LabelError
from training.scenes import BANDS, CLASSES, Scene, read_chips, read_county
from training.splits import split_county, split_places


@dataclass(frozen=True)
class Selection:
    """Scenes, a short name for them, and in words what they are."""

    name: str
    role: Role
    description: str
    scenes: tuple[Scene, ...]


def held_out(preset: Preset, chips: Path, county: Path | None) -> list[Selection]:
    """What `preset` holds out: its held-out places, and the core of one quarter of Demo County
    where `county` is given. AssessmentError when that is nothing.
    """
    found = []
    if preset.held_out:
        scenes = split_places(read_chips(chips, without=preset.left_out), preset).test
        found.append(
            Selection(
                "held_out",
                "unseen",
                f"{_chips_of(scenes)}; no chip of these places was used for training or to choose "
                "a checkpoint, of whatever year.",
                scenes,
            )
        )
    if county is not None:
        made = split_county(read_county(county), preset).test
        years = ", ".join(sorted({s.year for s in made}))
        found.append(
            Selection(
                "demo_county",
                "county",
                f"Core of quarter {preset.made_held_out!r} of Demo County ({years}): procedural "
                f"imagery, its ground and {preset.margin_m:g} m around it kept from training in "
                "every scene and year.",
                made,
            )
        )
    if not found:
        raise AssessmentError(
            f"preset {preset.name!r} holds out no place: name places, scenes or your own labels"
        )
    return found


def of_places(chips: Path, places: Sequence[str], role: Role = "unseen") -> Selection:
    """Every chip of some places. LabelError names a place that the list lacks."""
    scenes = read_chips(chips)
    if missing := sorted(set(places) - {s.place for s in scenes}):
        raise LabelError(
            f"{chips} has no place {missing}; it has {sorted({s.place for s in scenes})}"
        )
    chosen = tuple(s for s in scenes if s.place in places)
    return Selection("_".join(places), role, f"{_chips_of(chosen)}.", chosen)


def of_names(chips: Path, names: Iterable[str], role: Role = "region") -> Selection:
    """The chips with these names (image files without their ending). LabelError names one that
    the list lacks, AssessmentError when there are none.
    """
    wanted = list(dict.fromkeys(names))
    scenes = {s.name: s for s in read_chips(chips)}
    if missing := [name for name in wanted if name not in scenes]:
        raise LabelError(f"{chips} has no scene {missing[0]!r}")
    if not wanted:
        raise AssessmentError("the list of scenes is empty")
    chosen = tuple(scenes[name] for name in wanted)
    return Selection("scenes", role, f"{_chips_of(chosen)}.", chosen)


def of_pairs(images: Sequence[Path], labels: Sequence[Path]) -> Selection:
    """A user's own labels: one raster of the legend's values (0, nodata or 255: unlabeled) for
    each image; a label on another grid is placed on the image's pixels by nearest neighbor.

    Raises LabelError naming the file that does not fit.
    """
    if len(images) != len(labels):
        raise AssessmentError(f"{len(images)} images and {len(labels)} labels: one label an image")
    scenes = tuple(_pair(i, k) for i, k in zip(images, labels, strict=True))
    return Selection("own", "own", f"{_chips_of(scenes)}: own labels.", scenes)


def _pair(image_path: Path, label_path: Path) -> Scene:
    for path in (image_path, label_path):
        if not path.is_file():
            raise LabelError(f"{path} is missing")
    with rasterio.open(image_path) as source, rasterio.open(label_path) as labels:
        if source.count < BANDS or source.dtypes[0] != "uint8":
            raise LabelError(
                f"{image_path} has {source.count} bands of {source.dtypes[0]}, "
                f"{BANDS} of uint8 are needed"
            )
        if source.crs is None or not source.crs.is_projected:
            raise LabelError(f"{image_path} is not in a projected CRS: its resolution is unknown")
        if (labels.crs, labels.shape, labels.transform) == (
            source.crs,
            source.shape,
            source.transform,
        ):
            label = labels.read(1)
        elif labels.crs is None:
            raise LabelError(f"{label_path} has no CRS and is not on its image's pixels")
        else:
            label = np.zeros(source.shape, labels.dtypes[0])
            reproject(
                rasterio.band(labels, 1),
                label,
                dst_transform=source.transform,
                dst_crs=source.crs,
                dst_nodata=0,
                resampling=Resampling.nearest,
            )
        unlabeled = {0, 255} | ({labels.nodata} if labels.nodata is not None else set())
        label[np.isin(label, list(unlabeled))] = 0
        if unknown := sorted(set(np.unique(label).tolist()) - set(range(CLASSES + 1))):
            raise LabelError(
                f"{label_path} holds {unknown[0]}, not one of 1..{CLASSES}: bring it into the "
                "legend first (python -m training labels, with a crosswalk)"
            )
        if not label.any():
            raise LabelError(f"{label_path} labels no pixel of {image_path}")
        return Scene(
            name=image_path.stem,
            place=image_path.stem,
            year="",
            image=source.read(list(range(1, BANDS + 1))),
            label=label.astype(np.uint8),
            resolution=abs(source.transform.a) * source.crs.linear_units_factor[1],
            epsg=source.crs.to_epsg(),
            transform=source.transform,
            path=image_path,
        )


def _chips_of(scenes: Sequence[Scene]) -> str:
    places = sorted({s.place for s in scenes})
    years = sorted({s.year for s in scenes if s.year})
    where = ", ".join(places) if len(places) <= 12 else f"{len(places)} places"
    when = f" ({', '.join(years)})" if years else ""
    return f"{len(scenes)} scenes of {where}{when}"
