"""Coarse scenes that a net teaches itself: imagery averaged over k x k pixels, labeled with the
mode of the classes that it finds at its own resolution.

An interpreter's label is sparse and fine; at 4 m most pixels are mixed. What the estimate below
native zoom should show is what the finished blocks will show there: the mode of the 1 m classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from model.card import ModelCard
from model.normalize import normalize
from training.augment import resize_scene
from training.lowres import FACTORS, average, mode_of
from training.scenes import CLASSES, Image, Label, Scene
from training.unet import ALIGNMENT, UNet


def classes_of(net: UNet, image: Image, card: ModelCard) -> Label:
    """The classes of a whole image at the card's resolution, 1..6, by a net in evaluation mode:
    uint8 (4, rows, cols) to uint8 (rows, cols). Beyond its edge the image is mirrored.
    """
    rows, cols = image.shape[1:]
    more = [(0, -rows % ALIGNMENT), (0, -cols % ALIGNMENT)]
    pixels = torch.from_numpy(normalize(np.pad(image, [(0, 0), *more], "reflect"), card))
    with torch.inference_mode():
        answer = net(pixels[None].contiguous(memory_format=torch.channels_last))
    found: Label = answer[0, 1:, :rows, :cols].argmax(0).to(torch.uint8).numpy() + np.uint8(1)
    return found


def coarse_scenes(
    net: UNet, scenes: Iterable[Scene], card: ModelCard
) -> dict[int, tuple[Scene, ...]]:
    """factor → every scene that many times coarser than the card's resolution, wholly labeled.

    Demo County is labeled by its own truth, everything else by the net. Scenes coarser than the
    card's resolution, or smaller than the largest factor, are left out.
    """
    found: dict[int, list[Scene]] = {factor: [] for factor in FACTORS}
    for scene in scenes:
        if scene.resolution > card.ground_resolution * 1.001:
            continue
        image, label = resize_scene(scene, card.ground_resolution)
        rows, cols = (n - n % max(FACTORS) for n in label.shape)
        if not (rows and cols):
            continue
        image = image[:, :rows, :cols]
        fine = label[:rows, :cols] if scene.made else classes_of(net, image, card)
        for factor in FACTORS:
            mode = mode_of(np.where(fine > 0, fine, 255).astype(np.uint8), factor)
            found[factor].append(
                replace(
                    scene,
                    name=f"{scene.name}:x{factor}",
                    image=average(image, factor),
                    label=np.where(mode <= CLASSES, mode, 0).astype(np.uint8),
                    resolution=card.ground_resolution * factor,
                    transferred=False,
                    path=None,
                )
            )
    return {factor: tuple(group) for factor, group in found.items() if group}
