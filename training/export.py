"""From a checkpoint to the file that is served, refused when the two disagree.

The running mean of the weights is exported, batch norm folded, background out of reach.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from model.card import ModelCard
from model.session import Session
from training import artefact
from training.checkpoint import Checkpoint
from training.config import Preset
from training.errors import ExportError
from training.graph import onnx_of, probabilities
from training.unet import UNet, build, fold

TOLERANCE = 1e-4
"""Largest difference of any probability between torch and ONNX Runtime."""

HALO = 96
"""Context of a block in pixels: all that the network can see, so that a class does not depend on
where blocks begin. With 32 the trained network's classes differ in 0.6 % of a block from those with
this context, with 64 in 0.05 %, with 80 in 0.006 % (`python -m tests.benchmarks halo`)."""

PROBES = ((1, 64), (2, 160), (1, 704))
"""Batch and side of the windows that are compared; the last is the served one."""


def net_of(state: Checkpoint) -> UNet:
    """The judged net of a checkpoint (the running mean), in evaluation mode, as trained."""
    net = build(Preset.model_validate(state.preset))
    net.load_state_dict(state.ema)
    net.eval()
    return net


def export(checkpoint: Path, out: Path) -> ModelCard:
    """Writes the model file `out` and its card; the card has no accuracy yet (see evaluate.py).

    Raises CheckpointError for an unusable checkpoint, ExportError when the file disagrees.
    """
    state = Checkpoint.load(checkpoint)
    card = ModelCard.parse(state.card, f"{checkpoint}: card")
    facts = card.training.model_copy(update={"steps": state.before + state.step})
    card = card.model_copy(update={"training": facts, "halo": HALO})
    net = net_of(state)
    graph = onnx_of(fold(net))
    check_parity(net, graph, card)
    return artefact.write(graph, card, out)


def check_parity(net: UNet, graph: onnx.ModelProto, card: ModelCard) -> float:
    """The largest difference between the net as trained and the graph as it will be run, over
    random windows of several sizes. Raises ExportError above TOLERANCE.
    """
    session = Session(artefact.stamped(graph, card))
    rng = np.random.default_rng(0)
    worst = 0.0
    for count, side in PROBES:
        batch = rng.standard_normal((count, len(card.bands), side, side)).astype(np.float32)
        difference = np.abs(session.predict(batch) - probabilities(net, batch)).max()
        worst = max(worst, float(difference))
    if not worst <= TOLERANCE:
        raise ExportError(
            f"the exported file differs from the net by {worst:.2e} (limit {TOLERANCE:.0e})"
        )
    return worst
