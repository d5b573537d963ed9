"""The run, as one straight story: read, split, draw, step, judge, keep.

Same seed, data and machine: same weights, whether the run was interrupted or not. The learning
rate rises, stays, and falls along a half cosine over the last share of the steps (Hu et al. 2024,
"warmup-stable-decay"), so that a run's length can still be changed while it is under way.
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
from training.checkpoint import Checkpoint
from training.coarse import coarse_scenes
from training.config import Preset
from training.data import Data, digest, draft_card
from training.dataset import Crops, batches
from training.errors import CheckpointError
from training.losses import class_weights, masked_cross_entropy
from training.progress import Advance, Say, echo
from training.report.curves import curves
from training.report.samples import samples
from training.scenes import Scene
from training.schedule import decay_start, rate
from training.unet import UNet, build
from training.validation import note

MAX_GRADIENT = 5.0
"""Norm at which a step's gradient is cut: one odd crop must not undo an hour."""


@dataclass(frozen=True)
class Learner:
    """What changes from step to step: the net, the running mean of its weights, the optimizer."""

    net: UNet
    ema: UNet
    optimizer: torch.optim.Optimizer

    @classmethod
    def fresh(cls, preset: Preset) -> Learner:
        """New weights from the preset's seed."""
        torch.manual_seed(preset.seed)
        net = build(preset).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(
            net.parameters(), lr=preset.learning_rate, weight_decay=preset.weight_decay, fused=True
        )
        return cls(net, copy.deepcopy(net).eval(), optimizer)

    def resume(self, state: Checkpoint) -> None:
        """Takes over the state of a checkpoint."""
        self.net.load_state_dict(state.net)
        self.ema.load_state_dict(state.ema)
        self.optimizer.load_state_dict(state.optimizer)

    def put_into(self, state: Checkpoint) -> None:
        """Hands the state to a checkpoint."""
        state.net, state.ema = self.net.state_dict(), self.ema.state_dict()
        state.optimizer = self.optimizer.state_dict()

    def step(
        self, batch: tuple[Tensor, Tensor, Tensor], weights: Tensor, preset: Preset, doubt: float
    ) -> float:
        """One step down the gradient; returns the loss. Arrays as in losses.py and dataset.py."""
        images, labels, doubtful = batch
        self.net.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=preset.precision == "bfloat16"):
            logits = self.net(images.contiguous(memory_format=torch.channels_last))
        loss = masked_cross_entropy(
            logits.float(), labels, weights, preset.label_smoothing, doubtful, doubt
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
    begin: Checkpoint | None = None,
    say: Say = echo,
    to: Advance | None = None,
    stop_after: int = 0,
) -> Path:
    """Trains into the folder `run` and returns the path of the best checkpoint.

    A `last.pt` in the folder is resumed. A new run begins from the judged weights of `begin`, a
    checkpoint of another run, where given, and is normalized as that was. `stop_after` > 0 ends
    this sitting after that many steps (the run can go on later). `to` is told the share of the
    steps that is done, 0..1. Raises CheckpointError when
    `run` holds another run. `curves.svg` and `samples.png` in the folder show how it goes.
    """
    run.mkdir(parents=True, exist_ok=True)
    card = draft_card(preset, data)
    learner = Learner.fresh(preset)
    state = Checkpoint(
        preset.model_dump(mode="json"), digest(data), 0, {}, {}, {}, card=card.embedded()
    )
    if begin is not None:
        card = _normalized_like(begin, card)
        state = replace(_begun(begin, state), card=card.embedded())
        learner.net.load_state_dict(begin.ema)
        learner.ema.load_state_dict(begin.ema)
    if (run / "last.pt").is_file():
        state = _resumable(run / "last.pt", preset, state.data)
        learner.resume(state)
        say(f"resumed after step {state.step}")
    _write_facts(run, preset, card, data)

    crops = Crops(data.train, preset, card, _own_coarse(preset, begin, data, card))
    weights = _class_weights(preset, data)
    sitting = min(preset.steps, state.step + stop_after) if stop_after else preset.steps
    began, losses = time.monotonic(), list[float]()
    for drawn in batches(crops, state.step, sitting):
        images, labels, doubtful = (torch.from_numpy(a) for a in drawn)
        torch.manual_seed(preset.seed * 1_000_003 + state.step)  # dropout
        for group in learner.optimizer.param_groups:
            group["lr"] = preset.learning_rate * rate(preset, state.step)
        doubt = preset.doubt if state.step >= preset.doubt_after else 0.0
        losses.append(learner.step((images, labels, doubtful), weights, preset, doubt))
        state.step += 1
        if to is not None:
            to(state.step / preset.steps)
        follow(learner.ema, learner.net, preset.ema, state.step)
        if state.step % preset.evaluate_every and state.step < sitting:
            continue
        loss = float(np.mean(losses[-preset.evaluate_every :])) if losses else float("nan")
        better = note(state, learner.ema, card, data, loss)
        learner.put_into(state)
        if better:
            state.save(run / "best.pt")
        state.save(run / "last.pt")
        pace = (time.monotonic() - began) / max(1, len(losses))
        _write_pictures(run, state, learner.ema, card, data)
        say(_line(state, pace, better))
        if preset.patience and state.waited >= preset.patience:
            say(f"no better validation for {state.waited} times: the run ends")
            break
    return run / "best.pt"


@torch.no_grad()  # type: ignore[untyped-decorator]
def follow(ema: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Moves the running mean towards the net; young means forget faster (1 - 10 / (9 + step)).

    Batch norm's own running statistics are followed like the weights.
    """
    keep = min(decay, 1 - 10 / (9 + step)) if step > 1 else 0.0
    theirs = net.state_dict()
    for name, mine in ema.state_dict().items():
        if mine.is_floating_point():
            mine.lerp_(theirs[name], 1 - keep)
        else:
            mine.copy_(theirs[name])


def _own_coarse(
    preset: Preset, begin: Checkpoint | None, data: Data, card: ModelCard
) -> dict[int, tuple[Scene, ...]]:
    """What the run it begins from says of the training ground at coarse resolutions, if wanted."""
    if not (preset.own_coarse and preset.coarse_share):
        return {}
    if begin is None:
        raise CheckpointError("own_coarse learns from the run it begins from: give --begin")
    teacher = build(Preset.model_validate(begin.preset)).to(memory_format=torch.channels_last)
    teacher.load_state_dict(begin.ema)
    return coarse_scenes(teacher.eval(), data.train, card)


def _normalized_like(begin: Checkpoint, card: ModelCard) -> ModelCard:
    """The card with the normalization that the weights of `begin` were learned with."""
    theirs = ModelCard.parse(begin.card, "the card of the run to begin from")
    return card.model_copy(update={"mean": theirs.mean, "std": theirs.std})


def _begun(begin: Checkpoint, state: Checkpoint) -> Checkpoint:
    """The state of a new run that knows what it began from."""
    marks = [state.data, begin.data, begin.preset["name"], str(begin.step)]
    data = hashlib.sha256(" ".join(marks).encode()).hexdigest()
    return replace(state, data=data, before=begin.before + begin.step)


def _resumable(path: Path, preset: Preset, data: str) -> Checkpoint:
    """The checkpoint, when the steps behind it are those this preset and data would have made."""
    state = Checkpoint.load(path)
    state.check(preset, data)
    before = Preset.model_validate(state.preset)
    begins = min(decay_start(before), decay_start(preset))
    if decay_start(before) != decay_start(preset) and state.step > begins:
        raise CheckpointError(
            f"step {state.step} lies after step {begins}, where the learning rate begins to fall: "
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
        for kind, split in (("real", data.real), ("made", data.made))
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


def _write_pictures(run: Path, state: Checkpoint, ema: UNet, card: ModelCard, data: Data) -> None:
    """`curves.svg` and `samples.png`: of scenes that are not learned from, where there are any."""
    (run / "curves.svg").write_text(curves(state.history), encoding="utf-8")
    kept = [s for side in data.validation.values() for s in side]
    (run / "samples.png").write_bytes(samples(ema, kept or data.train, card))


def _line(state: Checkpoint, pace: float, better: bool) -> str:
    figures = " ".join(f"{k} {v:.3f}" for k, v in state.history[-1].items() if k != "step")
    star = " *" if better else ""
    return f"step {state.step} {figures} {pace:.2f} s/step{star}"
