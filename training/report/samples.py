"""What a net says of a few scenes while it trains: one sheet, a scene a row."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image as Pillow

from model.card import ModelCard
from model.segment import Segmentation
from training.augment import resize_scene
from training.coarse import classes_of
from training.report.pictures import pictures_of
from training.scenes import Scene
from training.unet import UNet

ROWS = 6
SIDE = 192
"""Pixels of the card's resolution that are shown of a scene."""


def samples(net: UNet, scenes: Sequence[Scene], card: ModelCard) -> bytes:
    """Imagery, label, prediction and errors (red) of up to six scenes, evenly from all: a PNG."""
    if not scenes:
        raise ValueError("no scene to show")
    chosen = [scenes[i] for i in np.linspace(0, len(scenes) - 1, min(ROWS, len(scenes)), dtype=int)]
    sheet = Pillow.new("RGB", (4 * (SIDE + 4), len(chosen) * (SIDE + 4)), "#ffffff")
    for row, scene in enumerate(chosen):
        side = round(SIDE * card.ground_resolution / scene.resolution)
        part = scene.window(0, 0, *(min(side, n) for n in scene.label.shape))
        image, label = resize_scene(part, card.ground_resolution)
        classes = classes_of(net, image, card)
        read = replace(part, image=image, label=label, resolution=card.ground_resolution)
        shown = pictures_of(read, Segmentation(classes, np.zeros_like(classes)))
        for column, png in enumerate((shown.imagery, shown.label, shown.prediction, shown.errors)):
            picture = Pillow.open(io.BytesIO(png)).convert("RGB")
            sheet.paste(picture, (column * (SIDE + 4), row * (SIDE + 4)))
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()
