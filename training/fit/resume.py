"""A run that is continued: resumed where it stopped, or prolonged.

Before the learning rate decays, a run does not depend on its length. So the state at that step is
kept (`stable.pt`), and a longer run continues from there: with the weights that it would have had
if it had been longer from the beginning.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from training.config import Preset
from training.errors import CheckpointError
from training.network.checkpoint import Checkpoint
from training.network.schedule import decay_start
from training.progress import Log

LAST, BEST = "last.pt", "best.pt"
STABLE, STABLE_BEST = "stable.pt", "stable-best.pt"


def save_stable(state: Checkpoint, run: Path) -> None:
    """Keep the state before the decay, and the best checkpoint until then."""
    if (run / BEST).is_file():
        _copy(run / BEST, run / STABLE_BEST)
    state.save(run / STABLE)


def resumable(run: Path, preset: Preset, data: str, log: Log) -> Checkpoint:
    """Return the state that a run continues from, if this preset and data would have given it.

    A run whose length changed after its decay had begun goes back to the state before it; its
    checkpoints are kept as `last-<step>.pt` and `best-<step>.pt`. Raises CheckpointError when the
    preset, the data or an unsuitable length make it another run.
    """
    state = Checkpoint.load(run / LAST)
    state.check(preset, data)
    before = Preset.model_validate(state.preset)
    first = min(decay_start(before), decay_start(preset))
    if decay_start(before) != decay_start(preset) and state.step > first:
        state = _stable(run, preset, state, first, log)
    state.preset = preset.model_dump(mode="json")
    return state


def _stable(run: Path, preset: Preset, last: Checkpoint, first: int, log: Log) -> Checkpoint:
    path = run / STABLE
    stable = Checkpoint.load(path) if path.is_file() else None
    if stable is None or stable.data != last.data or stable.step > decay_start(preset):
        raise CheckpointError(
            f"step {last.step} is after step {first}, where the learning rate begins to decay: "
            f"too late to change the length of the run to {preset.steps} steps"
        )
    _copy(run / LAST, run / f"last-{last.step}.pt")
    if (run / BEST).is_file():
        _copy(run / BEST, run / f"best-{last.step}.pt")
    if (run / STABLE_BEST).is_file():
        _copy(run / STABLE_BEST, run / BEST)
    else:
        (run / BEST).unlink(missing_ok=True)
    stable.save(run / LAST)
    log(
        f"the run is prolonged to {preset.steps} steps: it goes back to step {stable.step}, before "
        f"the decay; the former checkpoints are kept as last-{last.step}.pt and "
        f"best-{last.step}.pt"
    )
    return stable


def _copy(source: Path, target: Path) -> None:
    draft = target.with_name(f".{target.name}.copy")
    shutil.copyfile(source, draft)
    draft.replace(target)
