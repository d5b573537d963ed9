"""Chips: square windows of labeled imagery, stored in one HDF5 file for each land cover class.

A chip is stored once, in the file of the rarest class it contains, and counted for every class it
contains. Only a strip of an image is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import h5py
import numpy as np
import rasterio
from numpy.typing import NDArray
from pydantic import Field
from rasterio.windows import Window

from model.legend import LEGEND, Legend
from training.config.base import StrictModel
from training.config.legend import DEFAULT_BANDS
from training.data.files import atomic, check_room, sha256
from training.data.imagery import Picture, find, inspect_image
from training.data.labels import label_path
from training.data.manifest import MANIFEST, Chip, ChipScene, ClassFile, Manifest
from training.data.scenes import BANDS, Image, Label, chip_list
from training.errors import ChipError, LabelError
from training.progress import Log, OnProgress, print_line

GDAL_CACHE = 64 * 2**20
"""Bytes of GDAL's cache of decoded tiles, which consecutive strips share."""

RESERVE = 2**18
"""Bytes kept free while HDF5 files are open: their buffers are written when they close."""


class ChipSettings(StrictModel):
    """How imagery is cut. Sizes are pixels of the imagery."""

    size: Annotated[int, Field(ge=32, multiple_of=16)] = 256
    """Side of a chip (the article's)."""

    stride: Annotated[int, Field(ge=16)] = 64
    """From one chip to the next along rows and columns (the article's)."""

    max_background: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Chips with a larger share of unlabeled pixels are dropped (the article's)."""

    place: str = ""
    """Place of every chip. By default that is the folder of its image below the imagery, or the
    place that a list of chips names; images at the top have none, and `split` finds places by
    their ground."""


@dataclass(frozen=True)
class LabeledImage:
    """An image and the label raster on its pixels. resolution: ground meters per pixel."""

    picture: Picture
    label: Path
    place: str
    year: str
    resolution: float


@dataclass(frozen=True)
class KeptChip:
    """A chip to store: number of its image, its upper-left pixel, pixels of every class."""

    image: int
    row: int
    col: int
    pixels: tuple[int, ...]


def cut(
    imagery: Path,
    labels: Path | None,
    settings: ChipSettings,
    out: Path,
    *,
    legend: Legend = LEGEND,
    bands: Sequence[str] = DEFAULT_BANDS,
    log: Log = print_line,
    progress: OnProgress = lambda share: None,
) -> Manifest:
    """Write chips into the folder `out`: `<value>_<class>.h5` and `manifest.json`. The folder is
    replaced as a whole.

    `imagery`: an image or a folder, whose label rasters are in `labels`; or a list of labeled chips
    (chips.csv), which names its labels. `legend`: the classes of the labels; `bands`: names of the
    first bands of every image. Raises LabelError for a raster that does not fit its image,
    ChipError when no chip is left.
    """
    images = labeled_images(imagery, labels, settings.place, len(bands))
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), atomic(out) as draft:
        draft.mkdir(parents=True)
        kept: list[KeptChip] = []
        seen = 0
        for number, image in enumerate(images):
            chips, labeled = _survey(number, image, settings, legend)
            kept += chips
            seen += labeled
            progress(0.3 * (number + 1) / len(images))
            log(f"{image.picture.name}: {len(chips):,} chips of {labeled:,} with labels")
        if not kept:
            raise ChipError(
                f"no chip is left: {seen:,} have labels, all more than "
                f"{settings.max_background:.0%} background"
            )
        stored = _store(images, settings, legend, kept, draft, progress)
        manifest = _manifest(images, settings, stored, seen, draft, legend, tuple(bands))
        (draft / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    for line in manifest.warnings:
        log(f"warning: {line}")
    return manifest


def labeled_images(
    imagery: Path, labels: Path | None, place: str = "", bands: int = BANDS
) -> list[LabeledImage]:
    """Return the images that have a label raster (arguments as of `cut`), after checking that
    each raster lies on the pixels of its image.

    Raises LabelError for one that does not, ChipError when there is none.
    """
    images = []
    if imagery.suffix.lower() == ".csv":
        for row in chip_list(imagery):
            name = Path(row["image"]).with_suffix("").as_posix()
            images.append(
                LabeledImage(
                    inspect_image(imagery.parent / row["image"], name, bands),
                    imagery.parent / row["label"],
                    place or row["place"],
                    row["year"],
                    float(row["resolution_m"]),
                )
            )
    elif labels is None:
        raise ChipError(f"{imagery} is no list of chips (.csv): give the folder of its labels")
    else:
        for picture in find(imagery, bands):
            if (label := label_path(labels, picture)).is_file():
                folder = Path(picture.name).parent.as_posix()
                home = place or ("" if folder == "." else folder)
                images.append(LabeledImage(picture, label, home, picture.year, picture.resolution))
    if not images:
        raise ChipError(f"no image of {imagery} has its <name>_label.tif in {labels}")
    for image in images:
        check_label(image.picture, image.label)
    return images


def check_label(picture: Picture, path: Path) -> None:
    """Raise LabelError unless the label raster at `path` lies on the pixels of its image."""
    if not path.is_file():
        raise LabelError(f"{path} is missing")
    with rasterio.open(path) as raster:
        if raster.shape != picture.shape:
            raise LabelError(f"{path} is {raster.shape} pixels, its image {picture.shape}")
        if raster.dtypes[0] != "uint8":
            raise LabelError(f"{path} is {raster.dtypes[0]}, uint8 is needed")
        if raster.crs and picture.crs and raster.crs.to_epsg() != picture.epsg:
            raise LabelError(f"{path} is in {raster.crs}, its image in EPSG:{picture.epsg}")
        if picture.crs and not raster.transform.almost_equals(picture.transform, 1e-3):
            raise LabelError(f"{path} does not lie on the pixels of its image")


def chip_offsets(length: int, size: int, stride: int) -> range:
    """Return where chips begin along one axis: multiples of the stride; the last chip reaches the
    end of the image, or beyond it (where it has no imagery and no labels).
    """
    excess = max(0, length - size)
    return range(0, -(-excess // stride) * stride + 1, stride)


def _strips(
    image: LabeledImage, settings: ChipSettings, legend: Legend, rows: Sequence[int]
) -> Iterator[tuple[int, Image, Label]]:
    """Yield for each first row the strip of the whole width: image uint8 (bands, size, width),
    label uint8 (size, width), where width includes the last chip; 0 outside the image and in
    collars.
    """
    height, width = image.picture.shape
    across = chip_offsets(width, settings.size, settings.stride)[-1] + settings.size
    with rasterio.open(image.picture.path) as source, rasterio.open(image.label) as known:
        for top in rows:
            window = Window(0, top, width, min(settings.size, height - top))
            pixels = np.zeros((image.picture.bands, settings.size, across), np.uint8)
            label = np.zeros((settings.size, across), np.uint8)
            part = (slice(0, window.height), slice(0, width))
            label[part] = known.read(1, window=window)
            if label.max() > (most := len(legend.classes)):
                raise LabelError(
                    f"{known.name} contains {label.max()}, not one of 0..{most}: convert it to "
                    "the legend first (labels, with a crosswalk)"
                )
            if label.any():
                try:
                    read = source.read(list(range(1, image.picture.bands + 1)), window=window)
                except rasterio.errors.RasterioError as error:
                    raise LabelError(
                        f"{image.picture.path} is damaged near row {top}: {error}"
                    ) from error
                pixels[:, part[0], part[1]] = read
                label[part][~image.picture.valid(read)] = 0
            yield top, pixels, label


def _survey(
    number: int, image: LabeledImage, settings: ChipSettings, legend: Legend
) -> tuple[list[KeptChip], int]:
    """Return the chips to keep of one image, and how many have any label."""
    size, least = settings.size, (1 - settings.max_background) * settings.size**2
    rows, cols = (chip_offsets(n, size, settings.stride) for n in image.picture.shape)
    kept, labeled, classes = [], 0, len(legend.classes)
    for top, _, label in _strips(image, settings, legend, rows):
        if not label.any():
            continue
        for left in cols:
            counts = np.bincount(label[:, left : left + size].ravel(), minlength=classes + 1)[1:]
            total = int(counts.sum())
            labeled += total > 0
            if total and total >= least:
                kept.append(KeptChip(number, top, left, tuple(int(n) for n in counts)))
    return kept, labeled


def _rarest_first(chips: Sequence[KeptChip]) -> list[int]:
    """Return the class values by how many chips contain them, then by pixels, then by value."""
    pixels = np.array([chip.pixels for chip in chips], np.int64)
    order = np.lexsort((np.arange(pixels.shape[1]), pixels.sum(axis=0), (pixels > 0).sum(axis=0)))
    return [int(i) + 1 for i in order]


def _store(
    images: Sequence[LabeledImage],
    settings: ChipSettings,
    legend: Legend,
    kept: Sequence[KeptChip],
    folder: Path,
    progress: OnProgress,
) -> list[Chip]:
    """Store the chips, image by image and strip by strip; return where each is stored."""
    size, order = settings.size, _rarest_first(kept)
    homes = [next(v for v in order if chip.pixels[v - 1]) for chip in kept]
    sizes = np.bincount(homes, minlength=len(legend.classes) + 1)
    filled = [0] * len(sizes)
    bands = images[0].picture.bands
    stored: list[Chip] = []
    by_strip: dict[tuple[int, int], list[int]] = {}
    for index, chip in enumerate(kept):
        by_strip.setdefault((chip.image, chip.row), []).append(index)
    with ExitStack() as stack:
        files = {
            v: stack.enter_context(
                _new_file(folder / file_name(v, legend), int(sizes[v]), size, bands)
            )
            for v in legend.values
        }
        for number, image in enumerate(images):
            rows = sorted(row for owner, row in by_strip if owner == number)
            for top, pixels, label in _strips(image, settings, legend, rows):
                check_room(folder, RESERVE + len(by_strip[number, top]) * (bands + 1) * size**2)
                for index in by_strip[number, top]:
                    chip, home = kept[index], homes[index]
                    across = slice(chip.col, chip.col + size)
                    files[home]["image"][filled[home]] = pixels[:, :, across]
                    files[home]["label"][filled[home]] = label[:, across]
                    stored.append(
                        Chip(
                            scene=image.picture.name, row=chip.row, col=chip.col,
                            file=file_name(home, legend), index=filled[home], pixels=chip.pixels,
                        )
                    )  # fmt: skip
                    filled[home] += 1
                progress(0.3 + 0.7 * len(stored) / len(kept))
    return stored


def file_name(value: int, legend: Legend = LEGEND) -> str:
    """Return the HDF5 file of a class, e.g. `3_water.h5`."""
    return f"{value}_{legend[value].name}.h5"


def _new_file(path: Path, chips: int, size: int, bands: int) -> h5py.File:
    file = h5py.File(path, "w", track_order=False)
    for name, shape in (("image", (bands, size, size)), ("label", (size, size))):
        file.create_dataset(
            name,
            shape=(chips, *shape),
            dtype=np.uint8,
            chunks=(1, *shape) if chips else None,
            compression="gzip" if chips else None,
            compression_opts=1 if chips else None,
            track_times=False,
        )
    file["image"].attrs["axes"] = "chip, band, row, column"
    file["label"].attrs["axes"] = "chip, row, column; 0 unlabeled"
    return file


def _manifest(
    images: Sequence[LabeledImage],
    settings: ChipSettings,
    chips: Sequence[Chip],
    seen: int,
    folder: Path,
    legend: Legend,
    bands: tuple[str, ...],
) -> Manifest:
    pixels: NDArray[np.int64] = np.array([chip.pixels for chip in chips], np.int64)
    classes = []
    for c in legend.classes:
        path, own = folder / file_name(c.value, legend), pixels[:, c.value - 1]
        classes.append(
            ClassFile(
                value=c.value, name=c.name, file=path.name, sha256=sha256(path),
                stored=sum(chip.file == path.name for chip in chips),
                chips=int((own > 0).sum()), pixels=int(own.sum()),
            )
        )  # fmt: skip
    used = {chip.scene for chip in chips}
    return Manifest(
        size=settings.size,
        stride=settings.stride,
        max_background=settings.max_background,
        with_labels=seen,
        dropped=seen - len(chips),
        classes=tuple(classes),
        warnings=tuple(
            f"no chip contains class {c.value} {c.name}: a model cannot learn it"
            for c in classes
            if not c.chips
        ),
        scenes=tuple(
            ChipScene(
                name=image.picture.name, place=image.place, year=image.year,
                epsg=image.picture.epsg, resolution=image.resolution,
                transform=tuple(image.picture.transform)[:6], shape=image.picture.shape,
                image_sha256=sha256(image.picture.path), label_sha256=sha256(image.label),
            )
            for image in images
            if image.picture.name in used
        ),
        chips=tuple(chips),
        legend=legend,
        bands=bands,
    )  # fmt: skip
