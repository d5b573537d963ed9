"""What teachers say of imagery: soft labels to distill a network from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.card import ModelCard


class Ensemble:
    """Teachers in evaluation mode, whose probabilities are averaged."""

    def __init__(
        self,
        nets: Sequence[nn.Module],
        cards: Sequence[ModelCard],
        card: ModelCard,
        flip: bool = True,
    ) -> None:
        """`cards`: with what each was normalized; `card`: with what the images are; `flip`: average
        over a flip, too."""
        self._nets = [net.eval() for net in nets]
        self._affine = [_between(card, theirs) for theirs in cards]
        self._flips = (False, True) if flip else (False,)

    def probabilities(self, images: Tensor) -> Tensor:
        """Return float32 (N, classes, rows, cols), the mean over the teachers (and a flip), of
        standardized float32 (N, bands, rows, cols)."""
        total = None
        with torch.inference_mode():
            for net, (scale, offset) in zip(self._nets, self._affine, strict=True):
                own = images * scale + offset
                for flipped in self._flips:
                    logits = net(own.flip(3) if flipped else own)[:, 1:]
                    share = torch.softmax(logits.float(), dim=1)
                    share = share.flip(3) if flipped else share
                    total = share if total is None else total + share
        if total is None:
            raise ValueError("there is no teacher")
        return (total / (len(self._flips) * len(self._nets))).clone()


def _between(card: ModelCard, theirs: ModelCard) -> tuple[Tensor, Tensor]:
    """Return scale and offset, float32 (1, bands, 1, 1), from one normalization to another."""
    mean, std = np.array(card.mean), np.array(card.std)
    their_mean, their_std = np.array(theirs.mean), np.array(theirs.std)
    scale, offset = std / their_std, (mean - their_mean) / their_std
    return _per_band(scale), _per_band(offset)


def _per_band(values: NDArray[np.float64]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[None, :, None, None]
