"""The scenes of an evaluation, and the kind of evidence that they give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from model.card import ModelCard
from model.legend import LEGEND, Legend
from training.config import Preset
from training.data.crosswalks import load_crosswalk
from training.data.imagery import inspect_image, read_scene
from training.data.label_features import Report
from training.data.labels import from_raster
from training.data.scenes import BANDS, Scene, read_chips, read_county
from training.data.splits import split_county, split_places
from training.errors import AssessmentError, LabelError
from training.evaluate.results import Role


class _Kind(TypedDict):
    """What a model's card says of labels and imagery."""

    legend: Legend
    bands: int


@dataclass(frozen=True)
class Selection:
    """Scenes, a short name for them, and a description in words."""

    name: str
    role: Role
    description: str
    scenes: tuple[Scene, ...]


def held_out(preset: Preset, chips: Path | None, county: Path | None) -> list[Selection]:
    """Return what `preset` holds out: its held-out places, and the core of one quarter of Demo
    County where `county` is given. AssessmentError when that is nothing, or needs `chips`.
    """
    result = []
    if preset.held_out:
        if chips is None:
            raise AssessmentError(
                f"preset {preset.name!r} holds out {', '.join(preset.held_out)}: give the list of "
                "labeled chips (--chips), or your own --image and --label"
            )
        scenes = split_places(
            read_chips(
                chips, without=preset.left_out, legend=preset.legend, bands=len(preset.bands)
            ),
            preset,
        ).test
        if not scenes:
            raise AssessmentError(
                f"{chips} has none of the places that preset {preset.name!r} holds out: name "
                "places (--place) or scenes"
            )
        result.append(
            Selection(
                "held_out",
                "unseen",
                f"{_chips_of(scenes)}; no chip of these places was used for training or to select "
                "a checkpoint, in any year.",
                scenes,
            )
        )
    if county is not None:
        synthetic = split_county(read_county(county), preset).test
        years = ", ".join(sorted({s.year for s in synthetic}))
        result.append(
            Selection(
                "demo_county",
                "county",
                f"Core of quarter {preset.synthetic_held_out!r} of Demo County ({years}): "
                f"procedural imagery. Its ground and {preset.margin_m:g} m around it were kept "
                "from training in every scene and year.",
                synthetic,
            )
        )
    if not result:
        raise AssessmentError(
            f"preset {preset.name!r} holds out no place: name places, scenes or your own labels"
        )
    return result


def of_places(
    chips: Path, places: Sequence[str], role: Role = "unseen", card: ModelCard | None = None
) -> Selection:
    """Return every chip of some places, labeled with the classes of a model's card. LabelError
    names a place that the list lacks."""
    scenes = read_chips(chips, **_kind(card))
    if missing := sorted(set(places) - {s.place for s in scenes}):
        raise LabelError(
            f"{chips} has no place {missing}; it has {sorted({s.place for s in scenes})}"
        )
    selected = tuple(s for s in scenes if s.place in places)
    return Selection("_".join(places), role, f"{_chips_of(selected)}.", selected)


def of_names(
    chips: Path, names: Iterable[str], role: Role = "region", card: ModelCard | None = None
) -> Selection:
    """Return the chips with these names (image files without suffix). LabelError names one that
    the list lacks; AssessmentError when there are none.
    """
    wanted = list(dict.fromkeys(names))
    scenes = {s.name: s for s in read_chips(chips, **_kind(card))}
    if missing := [name for name in wanted if name not in scenes]:
        raise LabelError(f"{chips} has no scene {missing[0]!r}")
    if not wanted:
        raise AssessmentError("the list of scenes is empty")
    selected = tuple(scenes[name] for name in wanted)
    return Selection("scenes", role, f"{_chips_of(selected)}.", selected)


def _kind(card: ModelCard | None) -> _Kind:
    if card is None:
        return {"legend": LEGEND, "bands": BANDS}
    return {"legend": card.legend, "bands": len(card.bands)}


def of_pairs(
    images: Sequence[Path], labels: Sequence[Path], card: ModelCard | None = None
) -> Selection:
    """Return a user's own labels: one raster of the legend's values (0, nodata or 255: unlabeled)
    for each image; a label on another grid is resampled to the image's by nearest neighbor.

    Raises LabelError naming the file that does not fit.
    """
    if len(images) != len(labels):
        raise AssessmentError(
            f"{len(images)} images and {len(labels)} labels: give one label per image"
        )
    scenes = tuple(_pair(i, k, _kind(card)) for i, k in zip(images, labels, strict=True))
    return Selection("own", "own", f"{_chips_of(scenes)}: own labels.", scenes)


def _pair(image_path: Path, label_path: Path, kind: _Kind) -> Scene:
    legend = kind["legend"]
    for path in (image_path, label_path):
        if not path.is_file():
            raise LabelError(f"{path} is missing")
    picture = inspect_image(image_path, bands=kind["bands"])
    if picture.crs is None:
        raise LabelError(f"{image_path} is not in a projected CRS: its resolution is unknown")
    report = Report(label_path.name, "legend", tuple(c.name for c in legend.classes))
    _, label = next(from_raster(label_path, load_crosswalk("legend", legend), [picture], report))
    if unknown := sorted(set(report.unknown_pixels) - {"255"}):
        raise LabelError(
            f"{label_path} contains {unknown[0]}, not one of 1..{len(legend.classes)}: convert "
            "it to the legend first (landcover-train labels, with a crosswalk)"
        )
    if not label.any():
        raise LabelError(f"{label_path} labels no pixel of {image_path}")
    return read_scene(
        picture, label, name=image_path.stem, place=image_path.stem, year="", legend=legend
    )


def _chips_of(scenes: Sequence[Scene]) -> str:
    places = sorted({s.place for s in scenes})
    years = sorted({s.year for s in scenes if s.year})
    where = ", ".join(places) if len(places) <= 12 else f"{len(places)} places"
    when = f" ({', '.join(years)})" if years else ""
    return f"{len(scenes)} scenes of {where}{when}"
