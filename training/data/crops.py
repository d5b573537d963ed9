"""Scenes to batches: which crop is drawn, at which resolution, and how it is augmented.

Step n of a run always draws the same crops: the random numbers depend on the seed and n alone, so
a resumed run gives the same weights as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.card import ModelCard
from model.normalize import normalize
from training.config import Preset
from training.config.legend import is_default
from training.data.augment import leaf_off, photometric, random_dihedral, resize
from training.data.scenes import Image, Label, Scene
from training.errors import LabelError

Batch = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]
Crop = tuple[Image, Label, NDArray[np.bool_]]

TRIES = 8
"""Draws of a crop before one with few labels is accepted."""

PIECE_M = 154.0
"""Side in meters of a piece of a coarse mosaic: that of a chip of 256 pixels of 0.6 m."""

MIN_LABELED = 0.05
"""Share of a crop that must be labeled for it to be accepted at once."""


@dataclass(frozen=True)
class _Places:
    """The labeled ground of one group of scenes.

    weight: float64 (places, scenes, classes), labeled m2 of each class; transferred labels count
    by their weight.
    """

    scenes: tuple[Scene, ...]
    names: tuple[str, ...]
    weight: NDArray[np.float64]


@dataclass(frozen=True)
class _Groups:
    """Real and synthetic places; at least one of them."""

    real: _Places | None
    synthetic: _Places | None

    @classmethod
    def of(cls, scenes: Sequence[Scene], preset: Preset) -> _Groups:
        real, synthetic = ([s for s in scenes if s.synthetic is kind] for kind in (False, True))
        return cls(
            _index(real, preset) if real else None, _index(synthetic, preset) if synthetic else None
        )

    def choose(self, synthetic: bool) -> _Places:
        """Return the requested group, or the other where there is none."""
        group = (self.synthetic if synthetic else self.real) or self.real or self.synthetic
        if group is None:
            raise LabelError("no scene to draw from")
        return group


class Crops:
    """An endless, repeatable stream of training batches."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        preset: Preset,
        card: ModelCard,
        coarse: Mapping[int, Sequence[Scene]] | None = None,
        unlabeled: Sequence[Scene] = (),
    ) -> None:
        """`coarse`: by factor, scenes that many times coarser than the preset's resolution, from
        which coarse crops are drawn. `unlabeled`: imagery of which teachers say what it is. Raises
        LabelError when no scene has a labeled pixel."""
        labeled = [s for s in scenes if s.label.any()]
        if not labeled:
            raise LabelError(f"none of the {len(scenes)} training scenes has a labeled pixel")
        self._preset, self._card = preset, card
        self._unlabeled = tuple(unlabeled)
        self._fine = _Groups.of(labeled, preset)
        self._coarse = {
            factor: _Groups.of([s for s in group if s.label.any()], preset)
            for factor, group in (coarse or {}).items()
        }

    def batch(self, step: int) -> Batch:
        """Return batch number `step`: float32 (batch, bands, crop, crop) standardized by the card,
        int64 (batch, crop, crop) with 0 where unlabeled, bool (batch, crop, crop) True where the
        label was drawn on an image of another year.
        """
        rng = np.random.default_rng([self._preset.seed, step])
        crops = [self._crop(rng) for _ in range(self._preset.batch)]
        images = np.stack([normalize(image, self._card) for image, _, _ in crops])
        labels = np.stack([label for _, label, _ in crops]).astype(np.int64)
        return images, labels, np.stack([uncertain for _, _, uncertain in crops])

    def _crop(self, rng: np.random.Generator) -> Crop:
        preset = self._preset
        if rng.random() < preset.coarse_share:
            return self._coarse_mosaic(rng)
        unlabeled = self._unlabeled and rng.random() < preset.unlabeled_share
        zoom = preset.ground_resolution_m
        if rng.random() >= preset.exact_zoom:
            zoom *= float(np.exp(rng.uniform(*np.log(preset.zoom))))
        if unlabeled:
            return self._anywhere(rng, preset.crop, zoom)
        return self._sample(rng, self._fine, preset.crop, zoom)

    def _anywhere(self, rng: np.random.Generator, size: int, zoom: float) -> Crop:
        """Draw a piece of unlabeled imagery; larger images are drawn more often."""
        area = np.array([s.label.size * s.resolution**2 for s in self._unlabeled])
        scene = self._unlabeled[int(rng.choice(len(area), p=area / area.sum()))]
        side = max(16, round(size * zoom / scene.resolution))
        row, col = (int(rng.integers(n)) for n in scene.label.shape)
        top, left = (
            _start(at, side, n, rng) for at, n in zip((row, col), scene.label.shape, strict=True)
        )
        image, label = resize(*_window(scene, top, left, side), size)
        image, label = random_dihedral(image, label, rng)
        return photometric(image, self._preset, rng), label, np.zeros(label.shape, np.bool_)

    def _coarse_mosaic(self, rng: np.random.Generator) -> Crop:
        """Draw a crop at a coarse resolution. A chip is smaller than that, so the crop is a mosaic
        of independently augmented pieces.
        """
        size, groups = self._preset.crop, self._fine
        if self._coarse:
            factor = sorted(self._coarse)[rng.integers(len(self._coarse))]
            groups, zoom = self._coarse[factor], self._preset.ground_resolution_m * factor
        else:
            zoom = float(np.exp(rng.uniform(*np.log(self._preset.coarse))))
        side = max(16, min(size, round(PIECE_M / zoom)))
        many = -(-size // side)
        parts = [[self._sample(rng, groups, side, zoom) for _ in range(many)] for _ in range(many)]
        image, label, uncertain = (
            np.concatenate([np.concatenate([p[i] for p in row], axis=-1) for row in parts], axis=-2)
            for i in range(3)
        )
        return image[:, :size, :size], label[:size, :size], uncertain[:size, :size]

    def _sample(self, rng: np.random.Generator, groups: _Groups, size: int, zoom: float) -> Crop:
        """Draw one piece of ground, `size` pixels of `zoom` meters."""
        preset = self._preset
        group = groups.choose(rng.random() < preset.synthetic_share)
        for _ in range(TRIES):
            image, label, transferred = _draw(group, rng, round(size * zoom, 3), preset)
            if (label > 0).mean() >= MIN_LABELED:
                break
        image, label = resize(image, label, size)
        image, label = random_dihedral(image, label, rng)
        if rng.random() < preset.leaf_off_share and is_default(preset.legend, preset.bands):
            image, label = leaf_off(image, label, rng)
        uncertain = np.full(label.shape, transferred)
        return photometric(image, preset, rng), label, uncertain


def batches(crops: Crops, first: int, end: int) -> Iterator[Batch]:
    """Yield batches first … end - 1. They are not prefetched in a thread: while the network uses
    every core, a second set of torch's threads made a step a fifth slower.
    """
    for step in range(first, end):
        yield crops.batch(step)


def _index(scenes: Sequence[Scene], preset: Preset) -> _Places:
    names = tuple(sorted({s.place for s in scenes}))
    weight = np.zeros((len(names), len(scenes), len(scenes[0].legend.classes)))
    for i, scene in enumerate(scenes):
        share = preset.transferred_weight if scene.transferred else 1.0
        weight[names.index(scene.place), i] = scene.counts() * scene.resolution**2 * share
    return _Places(tuple(scenes), names, weight)


def _draw(
    group: _Places, rng: np.random.Generator, meters: float, preset: Preset
) -> tuple[Image, Label, bool]:
    """Draw a square of ground around a pixel of a uniformly drawn class, in the scene's own pixels;
    return image, label, and whether the label was transferred."""
    by_scene = group.weight.sum(axis=0)
    if rng.random() < preset.even_places:
        by_scene = group.weight[rng.integers(len(group.names))]
    value = int(rng.choice(np.flatnonzero(by_scene.sum(axis=0)))) + 1
    # The square root keeps the largest patch of a rare class from dominating.
    share = np.sqrt(by_scene[:, value - 1])
    scene = group.scenes[int(rng.choice(len(group.scenes), p=share / share.sum()))]
    row, col = _pixel_of(scene.label, value, rng)
    side = max(16, round(meters / scene.resolution))
    top = _start(row, side, scene.label.shape[0], rng)
    left = _start(col, side, scene.label.shape[1], rng)
    return *_window(scene, top, left, side), scene.transferred


def _pixel_of(label: Label, value: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw row and column of a pixel of that class uniformly."""
    for _ in range(64):  # cheap where the class is frequent
        row, col = int(rng.integers(label.shape[0])), int(rng.integers(label.shape[1]))
        if label[row, col] == value:
            return row, col
    where = np.flatnonzero(label.ravel() == value)
    row, col = divmod(int(rng.choice(where)), label.shape[1])
    return row, col


def _start(center: int, side: int, length: int, rng: np.random.Generator) -> int:
    """Draw the first row (or column) of a window of `side` that contains `center` and, if
    possible, is inside `length`; a longer window contains the whole length.
    """
    start = center - int(rng.integers(side))
    low, high = sorted((0, length - side))
    return min(max(start, low), high)


def _window(scene: Scene, top: int, left: int, side: int) -> tuple[Image, Label]:
    """Return the window; outside the scene its image is mirrored and its label 0."""
    rows, cols = (np.arange(start, start + side) for start in (top, left))
    height, width = scene.label.shape
    if top >= 0 and left >= 0 and top + side <= height and left + side <= width:
        part = (slice(top, top + side), slice(left, left + side))
        return scene.image[:, part[0], part[1]], scene.label[part]
    r, c = _mirrored(rows, height), _mirrored(cols, width)
    label = scene.label[np.ix_(r, c)].copy()
    label[(rows < 0) | (rows >= height), :] = 0
    label[:, (cols < 0) | (cols >= width)] = 0
    return scene.image[:, r[:, None], c], label


def _mirrored(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Reflect indices without repeating the edge pixel, as numpy's pad mode `reflect`."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    folded = np.abs(index) % period
    near: NDArray[np.intp] = np.minimum(folded, period - folded)
    return near
