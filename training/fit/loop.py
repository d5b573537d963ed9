"""The training loop: draw a batch, step, validate, save.

The same seed, data and machine give the same weights, whether the run was interrupted or not.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.card import ModelCard
from training.config import Preset
from training.data.crops import Batch, Crops, batches
from training.data.dataset import Data, digest, draft_card
from training.data.scenes import Scene
from training.errors import CheckpointError, Interrupted
from training.fit.compute import Compute, ComputeRequest, candidates, fastest
from training.fit.interrupt import noted_signals
from training.fit.learner import Learner, update_ema
from training.fit.monitor import (
    append_log,
    contingency_of,
    record_validation,
    write_pictures,
    write_scalars,
)
from training.fit.resume import BEST, LAST, resumable, save_stable
from training.network.checkpoint import Checkpoint
from training.network.ensemble import Ensemble
from training.network.inference import coarse_scenes
from training.network.initial import initialize, network_of, normalized_like
from training.network.losses import class_weights
from training.network.schedule import decay_start, rate
from training.progress import Log, OnProgress, print_line
from training.report.tables import before_after, names_of

CALIBRATION = 8
"""Batches that give batch norm its statistics when a run starts from a model file."""


def fit(
    preset: Preset,
    data: Data,
    run: Path,
    *,
    init_from: Checkpoint | None = None,
    teachers: Sequence[Checkpoint] = (),
    request: ComputeRequest | None = None,
    log: Log = print_line,
    progress: OnProgress | None = None,
    stop_after: int = 0,
    tensorboard: bool = False,
) -> Path:
    """Train in the folder `run` and return the path of the best checkpoint.

    A `last.pt` in the folder is resumed. A new run starts from the averaged weights of `init_from`,
    a checkpoint of another run or a model file (see `read_initial`), where given, with its
    normalization; then `before_after.md` compares the two on the validation scenes. `request`: what
    is measured at the start, None to compute with torch's present threads. `stop_after` > 0 stops
    after that many steps; the run can be resumed later. `progress` is called with the share of the
    steps done, 0..1. `curves.svg` and `samples.png` in the folder show the state, and the folder
    `tensorboard` where that is asked for. Raises
    CheckpointError when `run` contains another run, Interrupted, the state saved, after a signal.
    """
    _prepare(run, tensorboard)
    state, card, ensemble = _first_state(preset, data, init_from, teachers)
    resumed = (run / LAST).is_file()
    if resumed:
        state = resumable(run, preset, state.data, log)
    coarse = _distilled_scenes(preset, init_from, data, card)
    crops = Crops(data.train, preset, card, coarse, data.unlabeled)
    weights = _class_weights(preset, data)
    compute = _compute(preset, request, state, crops, weights, log)
    learner = Learner.fresh(preset, compute)
    if resumed:
        learner.resume(state)
        log(f"resumed after step {state.step}")
    elif init_from is not None:
        images = (torch.from_numpy(crops.batch(step)[0]) for step in range(CALIBRATION))
        initialize(learner.net, preset, init_from, images)
        learner.ema.load_state_dict(learner.net.state_dict())
    state.compute = compute.record()
    _write_facts(run, preset, card, data, compute)

    stop_at = min(preset.steps, state.step + stop_after) if stop_after else preset.steps
    began = saved = time.monotonic()
    first = state.step
    with noted_signals() as signals:
        for batch in batches(crops, state.step, stop_at):
            _step(learner, state, batch, weights, preset, ensemble)
            if progress is not None:
                progress(state.step / preset.steps)
            if state.step == decay_start(preset):
                learner.store_in(state)
                save_stable(state, run)
            if state.step % preset.evaluate_every == 0 or state.step >= stop_at:
                pace = (time.monotonic() - began) / (state.step - first)
                _validate(learner, state, run, card, data, pace, log, tensorboard)
                saved = time.monotonic()
            elif signals or time.monotonic() - saved >= preset.checkpoint_every_s:
                learner.store_in(state)
                state.save(run / LAST)
                saved = time.monotonic()
            _raise_if_stopped(signals, state, preset, run)
            if preset.patience and state.waited >= preset.patience:
                log(f"no improvement in {state.waited} validations: the run ends")
                break
    if init_from is not None:
        _compare(init_from, run, card, data, log)
    return run / BEST


def _first_state(
    preset: Preset, data: Data, init_from: Checkpoint | None, teachers: Sequence[Checkpoint]
) -> tuple[Checkpoint, ModelCard, Ensemble | None]:
    """Return the state of a new run, its card and its teachers."""
    card = draft_card(preset, data)
    state = Checkpoint(
        preset.model_dump(mode="json"), digest(data), 0, {}, {}, {}, card=card.embedded()
    )
    if init_from is not None:
        card = normalized_like(init_from, card)
        state = replace(_initialized(init_from, state), card=card.embedded())
    ensemble = _ensemble(preset, teachers, card)
    if ensemble is not None:
        marks = [state.data, *(f"{t.data} {t.step}" for t in teachers)]
        state.data = hashlib.sha256(" ".join(marks).encode()).hexdigest()
    return state, card, ensemble


def _prepare(run: Path, tensorboard: bool) -> None:
    if tensorboard:
        importlib.import_module("tensorboard")  # an extra: missing now, not after an hour
    run.mkdir(parents=True, exist_ok=True)
    for unfinished in run.glob(".*.pt.*"):  # of a killed process
        unfinished.unlink()


def _raise_if_stopped(signals: list[int], state: Checkpoint, preset: Preset, run: Path) -> None:
    if signals:
        raise Interrupted(
            f"stopped by {signal.Signals(signals[0]).name} after step {state.step:,} of "
            f"{preset.steps:,}; the state is saved in {run / LAST}: the same command resumes it",
            signals[0],
        )


def _compare(initial: Checkpoint, run: Path, card: ModelCard, data: Data, log: Log) -> None:
    """Write the accuracy on the validation scenes before and after the run, where both know the
    same classes."""
    scenes = [s for side in data.validation.values() for s in side]
    theirs = ModelCard.parse(initial.card, "the card of the initial checkpoint")
    if not scenes or (theirs.legend, theirs.bands) != (card.legend, card.bands):
        return
    nets = network_of(initial), network_of(Checkpoint.load(run / BEST))
    before, after = (contingency_of(net, scenes, card) for net in nets)
    text = str(before_after(before, after, names_of(card.legend)))
    (run / "before_after.md").write_text(text + "\n", encoding="utf-8")
    log(f"on the {len(scenes)} validation scenes, before and after:\n{text}")


def preset_of(run: Path) -> Preset:
    """Return the preset of a run. CheckpointError when the folder is none."""
    try:
        facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
        return Preset.model_validate(facts["preset"])
    except (OSError, ValueError, LookupError) as error:
        raise CheckpointError(f"{run} is no run: {error}") from error


def _ensemble(preset: Preset, teachers: Sequence[Checkpoint], card: ModelCard) -> Ensemble | None:
    """Return the teachers of a preset that distills. CheckpointError when it has none, or teachers
    of other classes or bands."""
    if not preset.distill:
        return None
    if not teachers:
        raise CheckpointError("distill needs teachers: give --teacher")
    cards = [ModelCard.parse(t.card, "the card of a teacher") for t in teachers]
    for theirs in cards:
        if (theirs.legend, theirs.bands) != (card.legend, card.bands):
            raise CheckpointError("a teacher has other classes or bands than this run")
    return Ensemble([network_of(t) for t in teachers], cards, card, preset.distill_flip)


def _step(
    learner: Learner,
    state: Checkpoint,
    batch: Batch,
    weights: Tensor,
    preset: Preset,
    ensemble: Ensemble | None,
) -> None:
    """Do one step: the random numbers depend on the seed and the step alone."""
    images, labels, uncertain = (torch.from_numpy(a) for a in batch)
    torch.manual_seed(preset.seed * 1_000_003 + state.step)  # dropout
    for group in learner.optimizer.param_groups:
        group["lr"] = preset.learning_rate * rate(preset, state.step) * group.get("scale", 1.0)
    noise_threshold = preset.noise_threshold if state.step >= preset.noise_after else 0.0
    soft = ensemble.probabilities(images) if ensemble is not None else None
    loss = learner.step((images, labels, uncertain), weights, preset, noise_threshold, soft)
    state.losses.append(loss)
    state.step += 1
    update_ema(learner.ema, learner.net, preset.ema, state.step)


def _validate(
    learner: Learner,
    state: Checkpoint,
    run: Path,
    card: ModelCard,
    data: Data,
    pace: float,
    log: Log,
    tensorboard: bool,
) -> None:
    """Validate, save, and show the state; `pace`: seconds of a step."""
    ema = learner.averaged()
    better = record_validation(state, ema, card, data, float(np.mean(state.losses)))
    state.losses = []
    learner.store_in(state)
    if better:
        state.save(run / BEST)
    state.save(run / LAST)
    append_log(run, state, pace)
    if tensorboard:
        write_scalars(run, state)
    write_pictures(run, state, ema, card, data)
    log(_line(state, pace, better))


def _compute(
    preset: Preset,
    request: ComputeRequest | None,
    state: Checkpoint,
    crops: Crops,
    weights: Tensor,
    log: Log,
) -> Compute:
    """Return what the run computes with: what it has computed with so far, if that is among what
    was asked for and is there, else the fastest; torch's threads are set to it."""
    if request is None:
        requested = "float32" if preset.precision == "auto" else preset.precision
        return Compute(threads=torch.get_num_threads(), precision=requested)
    offered = candidates(replace(request, precision=preset.precision))
    selected = Compute(**state.compute) if state.compute else None
    if selected not in offered:
        batch = crops.batch(state.step)

        def trial(each: Compute) -> Callable[[], object]:
            learner = Learner.fresh(preset, each)
            parts = tuple(torch.from_numpy(a) for a in batch)
            return lambda: learner.step((parts[0], parts[1], parts[2]), weights, preset, 0.0)

        selected = fastest(offered, trial, log)
        log(f"computing with {selected}")
    torch.set_num_threads(selected.threads)
    return selected


def _distilled_scenes(
    preset: Preset, init_from: Checkpoint | None, data: Data, card: ModelCard
) -> dict[int, tuple[Scene, ...]]:
    """Return training scenes at coarse resolutions, labeled by the initial checkpoint, if the
    preset asks for them."""
    if not (preset.distill_coarse and preset.coarse_share):
        return {}
    if init_from is None:
        raise CheckpointError("distill_coarse needs an initial checkpoint: give --init-from")
    return coarse_scenes(network_of(init_from), data.train, card)


def _initialized(init_from: Checkpoint, state: Checkpoint) -> Checkpoint:
    """Return the state of a new run, with a record of its initial checkpoint."""
    marks = [state.data, init_from.data, init_from.preset["name"], str(init_from.step)]
    data = hashlib.sha256(" ".join(marks).encode()).hexdigest()
    return replace(state, data=data, before=init_from.before + init_from.step)


def _class_weights(preset: Preset, data: Data) -> Tensor:
    return torch.from_numpy(
        class_weights(data.counts(), preset.class_weights, preset.max_class_weight)
    )


def _write_facts(run: Path, preset: Preset, card: ModelCard, data: Data, compute: Compute) -> None:
    sides = {
        f"{kind}_{side}": [s.name for s in getattr(split, side)]
        for kind, split in (("real", data.real), ("synthetic", data.synthetic))
        if split is not None
        for side in ("train", "validation", "test")
    }
    facts = {
        "preset": preset.model_dump(mode="json"),
        "data": digest(data),
        "compute": compute.record(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "card": json.loads(card.embedded()),
        "split": sides,
    }
    (run / "run.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _line(state: Checkpoint, pace: float, better: bool) -> str:
    figures = " ".join(f"{k} {v:.3f}" for k, v in state.history[-1].items() if k != "step")
    star = " *" if better else ""
    return f"step {state.step} {figures} {pace:.2f} s/step{star}"
