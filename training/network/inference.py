"""Predictions of a network in training, and coarse training scenes labeled with them.

At 4 m most pixels are mixed and photo-interpreted labels are sparse. Below native zoom the estimate
should match what finished blocks show there: the mode of the 1 m classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from model.card import ModelCard
from model.normalize import normalize
from training.data.augment import resize_scene
from training.data.resolution import FACTORS, block_mean, mode_with_tiebreak
from training.data.scenes import Image, Label, Scene
from training.network.build import Network
from training.network.unet import ALIGNMENT


def classes_of(net: Network, image: Image, card: ModelCard) -> Label:
    """Classify a whole image at the card's resolution with a network in evaluation mode: uint8
    (bands, rows, cols) to uint8 (rows, cols), values of the legend. The image is mirrored at its
    edges.
    """
    rows, cols = image.shape[1:]
    more = [(0, -rows % ALIGNMENT), (0, -cols % ALIGNMENT)]
    pixels = torch.from_numpy(normalize(np.pad(image, [(0, 0), *more], "reflect"), card))
    with torch.inference_mode():
        answer = net(pixels[None].contiguous(memory_format=torch.channels_last))
    result: Label = answer[0, 1:, :rows, :cols].argmax(0).to(torch.uint8).numpy() + np.uint8(1)
    return result


def coarse_scenes(
    net: Network, scenes: Iterable[Scene], card: ModelCard
) -> dict[int, tuple[Scene, ...]]:
    """Return, by factor, every scene that many times coarser than the card's resolution, completely
    labeled.

    Synthetic scenes are labeled with their own truth, others by the network. Scenes coarser than
    the card's resolution, or smaller than the largest factor, are skipped.
    """
    result: dict[int, list[Scene]] = {factor: [] for factor in FACTORS}
    for scene in scenes:
        if scene.resolution > card.ground_resolution * 1.001:
            continue
        image, label = resize_scene(scene, card.ground_resolution)
        rows, cols = (n - n % max(FACTORS) for n in label.shape)
        if not (rows and cols):
            continue
        image = image[:, :rows, :cols]
        count = len(card.legend.classes)
        fine = label[:rows, :cols] if scene.synthetic else classes_of(net, image, card)
        for factor in FACTORS:
            mode = mode_with_tiebreak(np.where(fine > 0, fine, 255).astype(np.uint8), factor, count)
            result[factor].append(
                replace(
                    scene,
                    name=f"{scene.name}:x{factor}",
                    image=block_mean(image, factor),
                    label=np.where(mode <= count, mode, 0).astype(np.uint8),
                    resolution=card.ground_resolution * factor,
                    transferred=False,
                    path=None,
                )
            )
    return {factor: tuple(group) for factor, group in result.items() if group}
