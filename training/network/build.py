"""The network of a preset, and its form that is exported."""

from __future__ import annotations

import copy

import torch
from torch import nn

from training.config import Preset
from training.network.fast import FastNet
from training.network.unet import UNet

Network = UNet | FastNet
"""Networks that are served; a teacher has their interface."""

NETWORKS: dict[str, type[Network]] = {"unet": UNet, "fast": FastNet}
"""By their names in a preset."""


def build(preset: Preset) -> Network:
    """Return the network of a preset, with new weights from torch's current random state (a
    teacher's encoder with those of ImageNet; it has the interface of the others)."""
    channels = 1 + len(preset.legend.classes)
    if preset.network not in NETWORKS:
        from training.network.teacher import Teacher  # noqa: PLC0415 (an extra)

        return Teacher(preset.bands, channels)
    kind = NETWORKS[preset.network]
    return kind(preset.activation, preset.batch_norm, preset.dropout, len(preset.bands), channels)


def fold(net: Network) -> Network:
    """Return a copy in evaluation mode with batch norm merged into the convolutions.

    w' = w * g / sqrt(v + eps) and b' = (b - m) * g / sqrt(v + eps) + beta, computed in float64
    (Jacob et al. 2018, section 3.2). Outputs differ by rounding only.
    """
    folded: Network = copy.deepcopy(net).eval()
    for level in (*folded.down, *folded.join):
        for number in range(1, level.count + 1):
            norm = getattr(level, f"norm{number}")
            if isinstance(norm, nn.BatchNorm2d):
                _fold_one(getattr(level, f"conv{number}"), norm)
                setattr(level, f"norm{number}", nn.Identity())
    return folded


@torch.no_grad()  # type: ignore[untyped-decorator]
def _fold_one(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = (conv.bias.double() - norm.running_mean.double()) * scale + norm.bias.double()
    conv.weight.copy_(conv.weight.double() * scale[:, None, None, None])
    conv.bias.copy_(bias)
