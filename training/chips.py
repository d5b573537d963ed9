"""Chips: windows of labeled imagery on a lattice, in one HDF5 file for each land cover class.

A chip is stored once, in the file of the rarest class it holds, and counted for every class it
holds. Nothing but a strip of an image is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from model.legend import LEGEND
from training.chip_files import Found, file_name, store
from training.errors import ChipError
from training.files import sha256, whole
from training.imagery import Picture, find
from training.labels import label_path
from training.lattice import ChipSettings, check_label, starts, strips
from training.manifest import MANIFEST, Chip, ChipScene, ClassFile, Manifest
from training.progress import Advance, Say, echo
from training.scenes import CLASSES

GDAL_CACHE = 64 * 2**20
"""Bytes of GDAL's cache of decoded tiles: strips that follow each other share them."""


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
        check_label(picture, label_path(labels, picture))
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), whole(out) as draft:
        draft.mkdir(parents=True)
        found: list[Found] = []
        seen = dropped = 0
        for number, picture in enumerate(pictures):
            kept, labeled = _survey(number, picture, labels, settings)
            found += kept
            seen, dropped = seen + labeled, dropped + labeled - len(kept)
            advance(0.3 * (number + 1) / len(pictures))
            say(f"{picture.name}: {len(kept):,} chips of {labeled:,} with labels")
        if not found:
            raise ChipError(
                f"no chip is left: {seen:,} hold labels, all more than "
                f"{settings.max_background:.0%} background"
            )
        order = _rarest_first(found)
        chips = store(pictures, labels, settings, found, order, draft, advance)
        manifest = _manifest(pictures, labels, settings, chips, seen, dropped, draft)
        (draft / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    for line in manifest.warnings:
        say(f"warning: {line}")
    return manifest


def _survey(
    number: int, picture: Picture, labels: Path, settings: ChipSettings
) -> tuple[list[Found], int]:
    """The chips to keep of one image, and how many hold any label."""
    size, least = settings.size, (1 - settings.max_background) * settings.size**2
    rows = starts(picture.shape[0], size, settings.stride)
    cols = starts(picture.shape[1], size, settings.stride)
    kept, labeled = [], 0
    for top, _, label in strips(picture, labels, settings, rows):
        if not label.any():
            continue
        for left in cols:
            counts = np.bincount(label[:, left : left + size].ravel(), minlength=CLASSES + 1)[1:]
            total = int(counts.sum())
            labeled += total > 0
            if total and total >= least:
                kept.append(Found(number, top, left, tuple(int(n) for n in counts)))
    return kept, labeled


def _rarest_first(found: Sequence[Found]) -> list[int]:
    """The classes' values, by how many chips hold them (then by pixels, then by value)."""
    pixels = np.array([chip.pixels for chip in found], np.int64)
    chips = (pixels > 0).sum(axis=0)
    return [int(i) + 1 for i in np.lexsort((np.arange(CLASSES), pixels.sum(axis=0), chips))]


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
