"""Chips: windows of labelled imagery on a lattice, in one HDF5 file for each land cover class.

A chip is stored once, in the file of the rarest class it holds, and counted for every class it
holds. Nothing but a strip of an image is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import h5py
import numpy as np
import rasterio
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from rasterio.windows import Window

from model.legend import LEGEND
from training.errors import ChipError, LabelError
from training.files import check_room, sha256, whole
from training.imagery import Picture, find
from training.labels import label_path
from training.manifest import MANIFEST, Chip, ChipScene, ClassFile, Manifest
from training.progress import Say, echo
from training.scenes import BANDS, CLASSES, Image, Label

GDAL_CACHE = 64 * 2**20
"""Bytes of GDAL's cache of decoded tiles: strips that follow each other share them."""

RESERVE = 2**18
"""Bytes kept free while HDF5 files are open: what they still hold is written when they close."""

Advance = Callable[[float], None]
"""Told the share of the work done, 0..1."""


class ChipSettings(BaseModel):
    """How imagery is cut. Sizes are pixels of the imagery."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[int, Field(ge=32, multiple_of=16)] = 256
    """Side of a chip (the article's)."""

    stride: Annotated[int, Field(ge=16)] = 64
    """From one chip to the next along rows and columns (the article's)."""

    max_background: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Chips with a larger share of unlabelled pixels are dropped (the article's)."""

    place: str = ""
    """Place of every chip. Without it that is the folder of its image below the imagery; images
    beside each other at the top have none, and `split` finds places by their ground."""


@dataclass(frozen=True)
class _Found:
    """A chip that is kept: its scene's number, its upper-left pixel, pixels of the classes 1..6."""

    scene: int
    row: int
    col: int
    pixels: tuple[int, ...]


def cut(
    imagery: Path,
    labels: Path,
    settings: ChipSettings,
    out: Path,
    *,
    say: Say = echo,
    advance: Advance = lambda share: None,
) -> Manifest:
    """Writes the chips of every image of `imagery` that has a label raster in `labels` into the
    folder `out`: `<value>_<class>.h5` and `manifest.json`. The folder is replaced as a whole.

    Raises LabelError for a raster that does not fit its image, ChipError when no chip is left.
    """
    pictures = [p for p in find(imagery) if label_path(labels, p).is_file()]
    if not pictures:
        raise ChipError(f"no image of {imagery} has its <name>_label.tif in {labels}")
    for picture in pictures:
        _fits(picture, label_path(labels, picture))
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), whole(out) as draft:
        draft.mkdir(parents=True)
        found: list[_Found] = []
        seen = dropped = 0
        for number, picture in enumerate(pictures):
            kept, labelled = _survey(number, picture, labels, settings)
            found += kept
            seen, dropped = seen + labelled, dropped + labelled - len(kept)
            advance(0.3 * (number + 1) / len(pictures))
            say(f"{picture.name}: {len(kept):,} chips of {labelled:,} with labels")
        if not found:
            raise ChipError(
                f"no chip is left: {seen:,} hold labels, all more than "
                f"{settings.max_background:.0%} background"
            )
        order = _rarest_first(found)
        chips = _write(pictures, labels, settings, found, order, draft, advance)
        manifest = _manifest(pictures, labels, settings, chips, seen, dropped, draft)
        (draft / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    for line in manifest.warnings:
        say(f"warning: {line}")
    return manifest


def starts(length: int, size: int, stride: int) -> range:
    """Where chips begin along one axis: multiples of the stride; the last reaches the end of the
    image, or beyond it (where it has no imagery and no labels).
    """
    beyond = max(0, length - size)
    return range(0, -(-beyond // stride) * stride + 1, stride)


def _fits(picture: Picture, path: Path) -> None:
    with rasterio.open(path) as raster:
        if raster.shape != picture.shape:
            raise LabelError(f"{path} is {raster.shape} pixels, its image {picture.shape}")
        if raster.dtypes[0] != "uint8":
            raise LabelError(f"{path} is {raster.dtypes[0]}, uint8 is needed")
        if raster.crs and picture.crs and raster.crs.to_epsg() != picture.epsg:
            raise LabelError(f"{path} is in {raster.crs}, its image in EPSG:{picture.epsg}")
        if picture.crs and not raster.transform.almost_equals(picture.transform, 1e-3):
            raise LabelError(f"{path} does not lie on the pixels of its image")


def _strips(
    picture: Picture, labels: Path, settings: ChipSettings, rows: Sequence[int]
) -> Iterator[tuple[int, Image, Label]]:
    """For each first row the strip of the whole width: image uint8 (4, size, width), label uint8
    (size, width), where width covers the last chip; 0 beyond the image and in collars.
    """
    height, width = picture.shape
    across = starts(width, settings.size, settings.stride)[-1] + settings.size
    with rasterio.open(picture.path) as source, rasterio.open(label_path(labels, picture)) as known:
        for top in rows:
            window = Window(0, top, width, min(settings.size, height - top))
            image = np.zeros((BANDS, settings.size, across), np.uint8)
            label = np.zeros((settings.size, across), np.uint8)
            part = (slice(0, window.height), slice(0, width))
            label[part] = known.read(1, window=window)
            if label.max() > CLASSES:
                raise LabelError(
                    f"{known.name} holds {label.max()}, not one of 0..{CLASSES}: bring it into the "
                    "legend first (labels, with a crosswalk)"
                )
            if label.any():
                try:
                    pixels = source.read(list(range(1, BANDS + 1)), window=window)
                except rasterio.errors.RasterioError as error:
                    raise LabelError(
                        f"{picture.path} is damaged near row {top}: {error}"
                    ) from error
                image[:, part[0], part[1]] = pixels
                label[part][~picture.valid(pixels)] = 0
            yield top, image, label


def _survey(
    number: int, picture: Picture, labels: Path, settings: ChipSettings
) -> tuple[list[_Found], int]:
    """The chips to keep of one image, and how many hold any label."""
    size, least = settings.size, (1 - settings.max_background) * settings.size**2
    rows = starts(picture.shape[0], size, settings.stride)
    cols = starts(picture.shape[1], size, settings.stride)
    kept, labelled = [], 0
    for top, _, label in _strips(picture, labels, settings, rows):
        if not label.any():
            continue
        for left in cols:
            counts = np.bincount(label[:, left : left + size].ravel(), minlength=CLASSES + 1)[1:]
            total = int(counts.sum())
            labelled += total > 0
            if total and total >= least:
                kept.append(_Found(number, top, left, tuple(int(n) for n in counts)))
    return kept, labelled


def _rarest_first(found: Sequence[_Found]) -> list[int]:
    """The classes' values, by how many chips hold them (then by pixels, then by value)."""
    pixels = np.array([chip.pixels for chip in found], np.int64)
    chips = (pixels > 0).sum(axis=0)
    return [int(i) + 1 for i in np.lexsort((np.arange(CLASSES), pixels.sum(axis=0), chips))]


def _write(
    pictures: Sequence[Picture],
    labels: Path,
    settings: ChipSettings,
    found: Sequence[_Found],
    order: Sequence[int],
    folder: Path,
    advance: Advance,
) -> list[Chip]:
    """Stores the chips, image by image and strip by strip, and says where each lies."""
    size = settings.size
    homes = [next(v for v in order if chip.pixels[v - 1]) for chip in found]
    sizes = np.bincount(homes, minlength=CLASSES + 1)
    filled = [0] * (CLASSES + 1)
    stored: list[Chip] = []
    by_strip: dict[tuple[int, int], list[int]] = {}
    for index, chip in enumerate(found):
        by_strip.setdefault((chip.scene, chip.row), []).append(index)
    with ExitStack() as stack:
        files = {
            v: stack.enter_context(_new_file(folder / file_name(v), int(sizes[v]), size))
            for v in LEGEND.values
        }
        for number, picture in enumerate(pictures):
            rows = sorted(row for scene, row in by_strip if scene == number)
            for top, image, label in _strips(picture, labels, settings, rows):
                check_room(folder, RESERVE + len(by_strip[number, top]) * (BANDS + 1) * size**2)
                for index in by_strip[number, top]:
                    chip, home = found[index], homes[index]
                    across = slice(chip.col, chip.col + size)
                    files[home]["image"][filled[home]] = image[:, :, across]
                    files[home]["label"][filled[home]] = label[:, across]
                    stored.append(
                        Chip(
                            scene=picture.name, row=chip.row, col=chip.col,
                            file=file_name(home), index=filled[home], pixels=chip.pixels,
                        )
                    )  # fmt: skip
                    filled[home] += 1
                advance(0.3 + 0.7 * len(stored) / len(found))
    return stored


def file_name(value: int) -> str:
    """The HDF5 file of a class, e.g. `3_water.h5`."""
    return f"{value}_{LEGEND[value].name}.h5"


def _new_file(path: Path, chips: int, size: int) -> h5py.File:
    file = h5py.File(path, "w", track_order=False)
    for name, shape in (("image", (BANDS, size, size)), ("label", (size, size))):
        file.create_dataset(
            name,
            shape=(chips, *shape),
            dtype=np.uint8,
            chunks=(1, *shape) if chips else None,
            compression="gzip" if chips else None,
            compression_opts=1 if chips else None,
            track_times=False,
        )
    file["image"].attrs["axes"] = "chip, band (red, green, blue, near infrared), row, column"
    file["label"].attrs["axes"] = "chip, row, column; 0 unlabelled"
    return file


def _manifest(
    pictures: Sequence[Picture],
    labels: Path,
    settings: ChipSettings,
    chips: Sequence[Chip],
    seen: int,
    dropped: int,
    folder: Path,
) -> Manifest:
    pixels: NDArray[np.int64] = np.array([chip.pixels for chip in chips], np.int64)
    classes = []
    for c in LEGEND.classes:
        path = folder / file_name(c.value)
        own = pixels[:, c.value - 1]
        classes.append(
            ClassFile(
                value=c.value, name=c.name, file=path.name, sha256=sha256(path),
                stored=sum(chip.file == path.name for chip in chips),
                chips=int((own > 0).sum()), pixels=int(own.sum()),
            )
        )  # fmt: skip
    used = {chip.scene for chip in chips}
    scenes = []
    for picture in pictures:
        if picture.name in used:
            parent = Path(picture.name).parent.as_posix()
            scenes.append(
                ChipScene(
                    name=picture.name, place=settings.place or ("" if parent == "." else parent),
                    year=picture.year, epsg=picture.epsg, resolution=picture.resolution,
                    transform=tuple(picture.transform)[:6], shape=picture.shape,
                    image_sha256=sha256(picture.path),
                    label_sha256=sha256(label_path(labels, picture)),
                )
            )  # fmt: skip
    return Manifest(
        size=settings.size,
        stride=settings.stride,
        max_background=settings.max_background,
        with_labels=seen,
        dropped=dropped,
        classes=tuple(classes),
        warnings=tuple(
            f"no chip holds class {c.value} {c.name}: a model cannot learn it"
            for c in classes
            if not c.chips
        ),
        scenes=tuple(scenes),
        chips=tuple(chips),
    )
