"""The article's U-Net: 1,941,351 parameters with four bands in and seven channels out (background
and six classes); other bands and legends change the first and the last layer only.

Two 3 x 3 convolutions per level with 16, 32, 64, 128 and 256 filters, dropout between the two,
2 x 2 max pooling, 2 x 2 transposed convolutions without activation, the skip concatenated after
the upsampled half, a 1 x 1 convolution at the end (Ronneberger et al. 2015, and the notebooks
of the article). Batch norm is only used in training: `build.fold` merges it into the convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from training.config import Activation

BANDS = 4
CHANNELS = 7
"""Output channels: background and six classes."""

FILTERS = (16, 32, 64, 128, 256)
PARAMETERS = 1_941_351
DROPOUT = (0.1, 0.1, 0.2, 0.2, 0.3)

ALIGNMENT = 2 ** (len(FILTERS) - 1)
"""Rows and columns must be multiples of this: four poolings by two."""


class Level(nn.Module):  # type: ignore[misc]
    """Convolutions of one resolution, each with an activation, and dropout after the first."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        dropout: float,
        activation: Activation,
        batch_norm: bool,
        count: int = 2,
    ) -> None:
        super().__init__()
        self.count = count
        for number in range(1, count + 1):
            conv = nn.Conv2d(inputs if number == 1 else outputs, outputs, 3, padding=1)
            self.add_module(f"conv{number}", conv)
            norm = nn.BatchNorm2d(outputs) if batch_norm else nn.Identity()
            self.add_module(f"norm{number}", norm)
            if number == 1:
                self.dropout = Dropout(dropout)
        self.act = nn.ReLU(inplace=True) if activation == "relu" else nn.ELU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 (N, inputs, rows, cols) to float32 (N, outputs, rows, cols)."""
        for number in range(1, self.count + 1):
            conv, norm = getattr(self, f"conv{number}"), getattr(self, f"norm{number}")
            x = self.act(norm(conv(x)))
            if number == 1:
                x = self.dropout(x)
        return x


def descend(levels: nn.ModuleList, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return what the last level makes of float32 (N, bands, rows, cols), and the outputs of the
    others, the finest first, each of which 2 x 2 max pooling hands down."""
    skips: list[Tensor] = []
    for level in levels[:-1]:
        x = level(x)
        skips.append(x)
        x = nn.functional.max_pool2d(x, 2)
    return levels[-1](x), skips


class UNet(nn.Module):  # type: ignore[misc]
    """Map standardized imagery to logits of background and the classes."""

    halo = 96
    """Context of a block in pixels: the receptive field, so that a class does not depend on where
    blocks begin. With 32 the trained network's classes differ in 0.6 % of a block from those with
    this context, with 64 in 0.05 %, with 80 in 0.006 % (`python -m tests.benchmarks halo`)."""

    def __init__(
        self,
        activation: Activation = "relu",
        batch_norm: bool = True,
        dropout: Sequence[float] = DROPOUT,
        bands: int = BANDS,
        channels: int = CHANNELS,
    ) -> None:
        super().__init__()
        self.bands, self.channels = bands, channels
        inputs = (bands, *FILTERS[:-1])
        self.down = nn.ModuleList(
            Level(i, o, d, activation, batch_norm)
            for i, o, d in zip(inputs, FILTERS, dropout, strict=True)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(FILTERS))
        self.join = nn.ModuleList(
            Level(2 * f, f, d, activation, batch_norm)
            for f, d in zip(FILTERS[:-1], dropout[:-1], strict=True)
        )
        self.last = nn.Conv2d(FILTERS[0], channels, 1)
        self.apply(he_normal)
        if (count := parameter_count(self)) != (wanted := parameters_of(bands, channels)):
            raise AssertionError(f"the U-Net has {count:,} parameters instead of {wanted:,}")

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 (N, bands, rows, cols), multiples of 16, to logits (N, channels, rows,
        cols)."""
        x, skips = descend(self.down, x)
        for up, join in zip(reversed(self.up), reversed(self.join), strict=True):
            x = join(torch.cat([up(x), skips.pop()], dim=1))
        return self.last(x)


def parameters_of(bands: int, channels: int) -> int:
    """Return the parameters of the network: the article's but for its first and last layer."""
    first, last = 9 * FILTERS[0], FILTERS[0] + 1
    return PARAMETERS + first * (bands - BANDS) + last * (channels - CHANNELS)


def parameter_count(net: nn.Module) -> int:
    """Count weights and biases of the convolutions: all that is left after folding batch norm."""
    convolutions = (m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))
    return sum(p.numel() for m in convolutions for p in m.parameters(recurse=False))


def he_normal(module: nn.Module) -> None:
    """Initialize as He et al. 2015 (Keras' he_normal, as in the notebooks), biases zero."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


LEVELS = 256
"""The dropped share is a multiple of 1 / 256."""


class Dropout(nn.Module):  # type: ignore[misc]
    """Dropout (Srivastava et al. 2014) from torch's random state, with eight draws per random word:
    torch's own draws one per value on one core, which took a fifth of a training step.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self._dropped = round(share * LEVELS)

    def forward(self, x: Tensor) -> Tensor:
        """Map float (N, C, rows, cols) to the same."""
        if not self.training or self._dropped == 0:
            return x
        n, c, rows, cols = x.shape
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        words.random_(-(2**63), None)
        drawn = words.view(torch.uint8)[: x.numel()].view(n, rows, cols, c).permute(0, 3, 1, 2)
        keep = (drawn >= self._dropped).to(x.dtype)
        return x * keep.mul_(LEVELS / (LEVELS - self._dropped))
