"""The state of a run on disk: enough to resume it with the same result.

Random numbers are not in it: they depend on the seed and the step (see data/crops.py).
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from training.config import Preset
from training.errors import CheckpointError

FREE_TO_CHANGE = frozenset(
    {"name", "steps", "decay", "patience", "evaluate_every", "checkpoint_every_s", "precision"}
)
"""Preset values that may change when a run is resumed: none of them alters the steps done, as long
as the decay of the learning rate has not begun (fit/resume.py); the precision alters rounding."""


@dataclass
class Checkpoint:
    """State after `step` steps, and after `before` steps of the run that it was initialized from.

    `net`, `ema` and `optimizer` are torch state dictionaries. `compute`: what the run computes
    with. `losses`: of the steps since the last validation.
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
    compute: dict[str, Any] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write beside `path`, then rename: a killed run never leaves half a file."""
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        torch.save(asdict(self), beside)
        beside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint. Raises CheckpointError when it is missing, damaged or no
        checkpoint."""
        if not path.is_file():
            raise CheckpointError(f"no checkpoint at {path}")
        if not zipfile.is_zipfile(path):
            raise CheckpointError(
                f"{path} is not a checkpoint of this program: it is damaged, or no file of torch"
            )
        try:
            return cls(**torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises half a dozen kinds for a damaged file
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"{path} is not a checkpoint of this program: {reason}"
            ) from error

    def check(self, preset: Preset, data: str) -> None:
        """Raise CheckpointError, naming the value, when the run to be resumed is another one."""
        if self.data != data:
            raise CheckpointError(
                f"the checkpoint was trained on other data ({self.data[:12]}, not {data[:12]})"
            )
        now = preset.model_dump(mode="json")
        # Keys that are newer than the run get their defaults.
        before = Preset.model_validate(self.preset).model_dump(mode="json")
        for key in sorted(now.keys() - FREE_TO_CHANGE):
            if before[key] != now[key]:
                raise CheckpointError(
                    f"{key} is {now[key]!r}, but the checkpoint's run has {before[key]!r}; "
                    "start a new run folder"
                )
