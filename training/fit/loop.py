"""The training loop: draw a batch, step, validate, save.

The same seed, data and machine give the same weights, whether the run was interrupted or not.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model.card import ModelCard
from training.config import Preset
from training.data.crops import Crops, batches
from training.data.dataset import Data, digest, draft_card
from training.data.scenes import Scene
from training.errors import CheckpointError
from training.fit.monitor import record_validation, write_pictures
from training.network.checkpoint import Checkpoint
from training.network.inference import coarse_scenes
from training.network.losses import class_weights, masked_cross_entropy
from training.network.schedule import decay_start, rate
from training.network.unet import UNet, build
from training.progress import Log, OnProgress, print_line

MAX_GRADIENT = 5.0
"""Norm at which the gradient is clipped."""


@dataclass(frozen=True)
class Learner:
    """The state of training: network, moving average of its weights, optimizer."""

    net: UNet
    ema: UNet
    optimizer: torch.optim.Optimizer

    @classmethod
    def fresh(cls, preset: Preset) -> Learner:
        """Return new weights from the preset's seed."""
        torch.manual_seed(preset.seed)
        net = build(preset).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(
            net.parameters(), lr=preset.learning_rate, weight_decay=preset.weight_decay, fused=True
        )
        return cls(net, copy.deepcopy(net).eval(), optimizer)

    def resume(self, state: Checkpoint) -> None:
        """Load the state of a checkpoint."""
        self.net.load_state_dict(state.net)
        self.ema.load_state_dict(state.ema)
        self.optimizer.load_state_dict(state.optimizer)

    def store_in(self, state: Checkpoint) -> None:
        """Store the state in a checkpoint."""
        state.net, state.ema = self.net.state_dict(), self.ema.state_dict()
        state.optimizer = self.optimizer.state_dict()

    def step(
        self,
        batch: tuple[Tensor, Tensor, Tensor],
        weights: Tensor,
        preset: Preset,
        noise_threshold: float,
    ) -> float:
        """Do one optimizer step and return the loss. Arrays as in losses.py and crops.py."""
        images, labels, uncertain = batch
        self.net.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=preset.precision == "bfloat16"):
            logits = self.net(images.contiguous(memory_format=torch.channels_last))
        loss = masked_cross_entropy(
            logits.float(), labels, weights, preset.label_smoothing, uncertain, noise_threshold
        )
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), MAX_GRADIENT)
        self.optimizer.step()
        return float(loss.detach())


def fit(
    preset: Preset,
    data: Data,
    run: Path,
    *,
    init_from: Checkpoint | None = None,
    log: Log = print_line,
    progress: OnProgress | None = None,
    stop_after: int = 0,
) -> Path:
    """Train in the folder `run` and return the path of the best checkpoint.

    A `last.pt` in the folder is resumed. A new run starts from the averaged weights of `init_from`,
    a checkpoint of another run, where given, with that run's normalization. `stop_after` > 0 stops
    after that many steps; the run can be resumed later. `progress` is called with the share of the
    steps done, 0..1. `curves.svg` and `samples.png` in the folder show the state. Raises
    CheckpointError when `run` contains another run.
    """
    run.mkdir(parents=True, exist_ok=True)
    card = draft_card(preset, data)
    learner = Learner.fresh(preset)
    state = Checkpoint(
        preset.model_dump(mode="json"), digest(data), 0, {}, {}, {}, card=card.embedded()
    )
    if init_from is not None:
        card = _normalized_like(init_from, card)
        state = replace(_initialized(init_from, state), card=card.embedded())
        learner.net.load_state_dict(init_from.ema)
        learner.ema.load_state_dict(init_from.ema)
    if (run / "last.pt").is_file():
        state = _resumable(run / "last.pt", preset, state.data)
        learner.resume(state)
        log(f"resumed after step {state.step}")
    _write_facts(run, preset, card, data)

    crops = Crops(data.train, preset, card, _distilled_scenes(preset, init_from, data, card))
    weights = _class_weights(preset, data)
    stop_at = min(preset.steps, state.step + stop_after) if stop_after else preset.steps
    started, losses = time.monotonic(), list[float]()
    for batch in batches(crops, state.step, stop_at):
        images, labels, uncertain = (torch.from_numpy(a) for a in batch)
        torch.manual_seed(preset.seed * 1_000_003 + state.step)  # dropout
        for group in learner.optimizer.param_groups:
            group["lr"] = preset.learning_rate * rate(preset, state.step)
        noise_threshold = preset.noise_threshold if state.step >= preset.noise_after else 0.0
        losses.append(learner.step((images, labels, uncertain), weights, preset, noise_threshold))
        state.step += 1
        if progress is not None:
            progress(state.step / preset.steps)
        update_ema(learner.ema, learner.net, preset.ema, state.step)
        if state.step % preset.evaluate_every and state.step < stop_at:
            continue
        loss = float(np.mean(losses[-preset.evaluate_every :])) if losses else float("nan")
        better = record_validation(state, learner.ema, card, data, loss)
        learner.store_in(state)
        if better:
            state.save(run / "best.pt")
        state.save(run / "last.pt")
        pace = (time.monotonic() - started) / max(1, len(losses))
        write_pictures(run, state, learner.ema, card, data)
        log(_line(state, pace, better))
        if preset.patience and state.waited >= preset.patience:
            log(f"no improvement in {state.waited} validations: the run ends")
            break
    return run / "best.pt"


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


def _distilled_scenes(
    preset: Preset, init_from: Checkpoint | None, data: Data, card: ModelCard
) -> dict[int, tuple[Scene, ...]]:
    """Return training scenes at coarse resolutions, labeled by the initial checkpoint, if the
    preset asks for them."""
    if not (preset.distill_coarse and preset.coarse_share):
        return {}
    if init_from is None:
        raise CheckpointError("distill_coarse needs an initial checkpoint: give --init-from")
    teacher = build(Preset.model_validate(init_from.preset)).to(memory_format=torch.channels_last)
    teacher.load_state_dict(init_from.ema)
    return coarse_scenes(teacher.eval(), data.train, card)


def _normalized_like(init_from: Checkpoint, card: ModelCard) -> ModelCard:
    """The card with the normalization that the weights of `begin` were learned with."""
    theirs = ModelCard.parse(init_from.card, "the card of the initial checkpoint")
    return card.model_copy(update={"mean": theirs.mean, "std": theirs.std})


def _initialized(init_from: Checkpoint, state: Checkpoint) -> Checkpoint:
    """Return the state of a new run, with a record of its initial checkpoint."""
    marks = [state.data, init_from.data, init_from.preset["name"], str(init_from.step)]
    data = hashlib.sha256(" ".join(marks).encode()).hexdigest()
    return replace(state, data=data, before=init_from.before + init_from.step)


def _resumable(path: Path, preset: Preset, data: str) -> Checkpoint:
    """Return the checkpoint, if this preset and data would have given the same steps."""
    state = Checkpoint.load(path)
    state.check(preset, data)
    before = Preset.model_validate(state.preset)
    first = min(decay_start(before), decay_start(preset))
    if decay_start(before) != decay_start(preset) and state.step > first:
        raise CheckpointError(
            f"step {state.step} is after step {first}, where the learning rate begins to decay: "
            "too late to change the length of the run"
        )
    state.preset = preset.model_dump(mode="json")
    return state


def _class_weights(preset: Preset, data: Data) -> Tensor:
    return torch.from_numpy(
        class_weights(data.counts(), preset.class_weights, preset.max_class_weight)
    )


def _write_facts(run: Path, preset: Preset, card: ModelCard, data: Data) -> None:
    sides = {
        f"{kind}_{side}": [s.name for s in getattr(split, side)]
        for kind, split in (("real", data.real), ("synthetic", data.synthetic))
        if split is not None
        for side in ("train", "validation", "test")
    }
    facts = {
        "preset": preset.model_dump(mode="json"),
        "data": digest(data),
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
