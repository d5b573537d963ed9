"""The learning rate of a run: linear warmup, constant, half-cosine decay.

Before the decay the length of the run can still be changed (Hu et al. 2024, MiniCPM, section 4:
"warmup-stable-decay").
"""

from __future__ import annotations

import math

from training.config import Preset


def rate(preset: Preset, step: int) -> float:
    """Return the learning rate of a step as a share of the preset's: 0..1."""
    if step < preset.warmup:
        return (step + 1) / preset.warmup
    falling = decay_start(preset)
    if step < falling:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - falling) / max(1, preset.steps - falling)))


def decay_start(preset: Preset) -> int:
    """Return the first step of the decay."""
    return preset.steps - round(preset.decay * preset.steps)
