"""A run's state on disk: enough to go on as if it had never stopped.

Random numbers are not in it: they follow from the seed and the step (see dataset.py).
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from training.config import Preset
from training.errors import CheckpointError

FREE_TO_CHANGE = frozenset({"name", "steps", "decay", "patience", "evaluate_every"})
"""Preset values a run may change when it is resumed: none of them alters the steps behind it as
long as the learning rate has not begun to fall (fit.py sees to that)."""


@dataclass
class Checkpoint:
    """State after `step` steps, and `before` steps of the run it began from.

    `net`, `ema` and `optimizer` are torch state dictionaries.
    """

    preset: dict[str, Any]
    data: str
    step: int
    net: dict[str, Any]
    ema: dict[str, Any]
    optimizer: dict[str, Any]
    best_score: float = -1.0
    waited: int = 0
    card: str = ""
    before: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Writes beside `path`, then renames: a killed run never leaves half a file."""
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        torch.save(asdict(self), beside)
        beside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Raises CheckpointError when the file is missing, damaged or no checkpoint."""
        if not path.is_file():
            raise CheckpointError(f"no checkpoint at {path}")
        try:
            return cls(**torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises half a dozen kinds for a damaged file
            raise CheckpointError(f"{path} is not a checkpoint of this program: {error}") from error

    def check(self, preset: Preset, data: str) -> None:
        """Raises CheckpointError when the run to be resumed is another one: naming the value."""
        if self.data != data:
            raise CheckpointError(
                f"the checkpoint learned from other data ({self.data[:12]}, not {data[:12]})"
            )
        now = preset.model_dump(mode="json")
        # A value that is newer than the run was what its default does.
        before = Preset.model_validate(self.preset).model_dump(mode="json")
        for key in sorted(now.keys() - FREE_TO_CHANGE):
            if before[key] != now[key]:
                raise CheckpointError(
                    f"{key} is {now[key]!r}, but the checkpoint's run has {before[key]!r}; "
                    "start a new run folder"
                )
