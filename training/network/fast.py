"""The network `fast`: a small U-Net at half the resolution, with finer details as channels.

Its first convolution reads 6 x 6 pixels every second pixel, which is a 3 x 3 convolution of the
imagery with 2 x 2 pixels as channels (space to depth); its last one writes 2 x 2 pixels. Half of
the shipped network's work is at the two finest resolutions: here there are few channels. Skips are
added instead of concatenated. Depthwise convolutions are not used: they save 8/9 of the products,
but only two thirds of the time of a layer, in ONNX Runtime and in OpenVINO (measured, AVX2).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from training.config import Activation
from training.network.unet import BANDS, CHANNELS, DROPOUT, Level, descend, he_normal

FILTERS = (24, 64, 128, 256)
"""Channels at 1/2, 1/4, 1/8 and 1/16 of the resolution."""

DOWN = (2, 1, 1, 2)
"""Convolutions on the way down."""

JOIN = (2, 1, 1)
"""Convolutions on the way up."""


class FastNet(nn.Module):  # type: ignore[misc]
    """Map standardized imagery to logits of background and the classes."""

    halo = 64
    """Context of a block in pixels, the receptive field: a 3 x 3 convolution reaches as far as the
    pixels of its level are wide. On the way up these are 2 x 2 + 4 + 8, at the bottom 2 x 16, on
    the way down 8 + 4 + 2 x 2: 64, and each level begins at the edge of a coarser pixel. A window
    is a sixth smaller than with a halo of 96."""

    def __init__(
        self,
        activation: Activation = "relu",
        batch_norm: bool = True,
        dropout: Sequence[float] = DROPOUT,
        bands: int = BANDS,
        channels: int = CHANNELS,
    ) -> None:
        """`dropout`: as of the U-Net, of which the finest level is not there."""
        super().__init__()
        self.bands, self.channels = bands, channels
        shares, inputs = tuple(dropout)[1:], (bands, *FILTERS[:-1])
        self.down = nn.ModuleList(
            Level(i, o, d, activation, batch_norm, n)
            for i, o, d, n in zip(inputs, FILTERS, shares, DOWN, strict=True)
        )
        self.down[0].conv1 = nn.Conv2d(bands, FILTERS[0], 6, 2, 2)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(FILTERS))
        self.join = nn.ModuleList(
            Level(f, f, d, activation, batch_norm, n)
            for f, d, n in zip(FILTERS[:-1], shares[:-1], JOIN, strict=True)
        )
        self.last = nn.ConvTranspose2d(FILTERS[0], channels, 2, 2)
        self.apply(he_normal)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 (N, bands, rows, cols), multiples of 16, to logits (N, channels, rows,
        cols)."""
        x, skips = descend(self.down, x)
        for up, join in zip(reversed(self.up), reversed(self.join), strict=True):
            above = nn.functional.interpolate(up(x), scale_factor=2, mode="nearest")
            x = join(above + skips.pop())
        return self.last(x)
