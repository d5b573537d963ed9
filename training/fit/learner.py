"""The state of training, and one step of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.config import Preset
from training.fit.compute import Compute
from training.network.build import NETWORKS, Network, build
from training.network.checkpoint import Checkpoint
from training.network.losses import masked_cross_entropy, soft_cross_entropy

MAX_GRADIENT = 5.0
"""Norm at which the gradient is clipped."""


@dataclass(frozen=True)
class Learner:
    """The state of training: network, moving average of its weights, optimizer."""

    net: Network
    ema: Network
    optimizer: torch.optim.Optimizer
    compute: Compute

    @classmethod
    def fresh(cls, preset: Preset, compute: Compute | None = None) -> Learner:
        """Return new weights from the preset's seed, the same on every device."""
        compute = compute or Compute()
        torch.manual_seed(preset.seed)
        net = build(preset).to(compute.device, memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(
            _groups(net, preset),
            lr=preset.learning_rate,
            weight_decay=preset.weight_decay,
            fused=True,
        )
        return cls(net, copy.deepcopy(net).eval(), optimizer, compute)

    def resume(self, state: Checkpoint) -> None:
        """Load the state of a checkpoint."""
        self.net.load_state_dict(state.net)
        self.ema.load_state_dict(state.ema)
        self.optimizer.load_state_dict(state.optimizer)

    def store_in(self, state: Checkpoint) -> None:
        """Store the state in a checkpoint."""
        state.net, state.ema = self.net.state_dict(), self.ema.state_dict()
        state.optimizer = self.optimizer.state_dict()

    def averaged(self) -> Network:
        """Return the averaged network on the processor, where scenes are classified."""
        return self.ema if self.compute.device == "cpu" else copy.deepcopy(self.ema).to("cpu")

    def step(
        self,
        batch: tuple[Tensor, Tensor, Tensor],
        weights: Tensor,
        preset: Preset,
        noise_threshold: float,
        soft: Tensor | None = None,
    ) -> float:
        """Do one optimizer step and return the loss. Arrays as in losses.py and crops.py; `soft`:
        the teachers' probabilities, which weigh `preset.distill`."""
        device = self.compute.device
        images, labels, uncertain = (part.to(device) for part in batch)
        self.net.train()
        self.optimizer.zero_grad(set_to_none=True)
        half = self.compute.precision == "bfloat16"
        with torch.autocast(device, torch.bfloat16, enabled=half):
            logits = self.net(images.contiguous(memory_format=torch.channels_last))
        loss = masked_cross_entropy(
            logits.float(),
            labels,
            weights.to(device),
            preset.label_smoothing,
            uncertain,
            noise_threshold,
        )
        if soft is not None:
            taught = soft_cross_entropy(logits.float(), soft.to(device))
            loss = (1 - preset.distill) * loss + preset.distill * taught
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), MAX_GRADIENT)
        self.optimizer.step()
        return float(loss.detach())


def _groups(net: nn.Module, preset: Preset) -> list[dict[str, Any]]:
    """Return the parameters by their learning rate (`scale`, relative to the preset's)."""
    if preset.network in NETWORKS:
        return [{"params": list(net.parameters())}]
    encoder = list(net.encoder.parameters())
    known = {id(p) for p in encoder}
    rest = [p for p in net.parameters() if id(p) not in known]
    return [{"params": encoder, "scale": preset.encoder_rate}, {"params": rest, "scale": 1.0}]


@torch.no_grad()  # type: ignore[untyped-decorator]
def update_ema(ema: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Update the exponential moving average `ema` with the weights and batch norm statistics of
    `net`; in early steps the decay is lower (1 - 10 / (9 + step)).
    """
    keep = min(decay, 1 - 10 / (9 + step)) if step > 1 else 0.0
    theirs = net.state_dict()
    for name, mine in ema.state_dict().items():
        if mine.is_floating_point():
            mine.lerp_(theirs[name], 1 - keep)
        else:
            mine.copy_(theirs[name])
