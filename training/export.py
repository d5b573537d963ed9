"""From a checkpoint to the file that is served, refused when the two disagree.

The running mean of the weights is exported, batch norm folded, background out of reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from model.card import ModelCard
from model.edges import reflect_pad_invalid
from model.normalize import normalize
from model.session import Session
from training import artifact
from training.checkpoint import Checkpoint
from training.config import Preset
from training.errors import ExportError
from training.evaluate import at_resolution, valid_of
from training.graph import onnx_of, probabilities
from training.scenes import Image, Scene
from training.unet import UNet, build, fold

TOLERANCE = 1e-4
"""Largest difference of any probability between torch and ONNX Runtime."""

HALO = 96
"""Context of a block in pixels: all that the network can see, so that a class does not depend on
where blocks begin. With 32 the trained network's classes differ in 0.6 % of a block from those with
this context, with 64 in 0.05 %, with 80 in 0.006 % (`python -m tests.benchmarks halo`)."""

SIDES = (64, 160, 704)
"""Sides of the made windows that are compared; the last is the served one."""

PROBES = 4
"""Real scenes that are compared, of as many places."""


def net_of(state: Checkpoint) -> UNet:
    """The judged net of a checkpoint (the running mean), in evaluation mode, as trained."""
    net = build(Preset.model_validate(state.preset))
    net.load_state_dict(state.ema)
    net.eval()
    return net


def export(checkpoint: Path, out: Path, scenes: Sequence[Scene] = ()) -> ModelCard:
    """Writes the model file `out` and its card; the card has no accuracy yet (see evaluate.py).

    The bytes that are written answer through ONNX Runtime as the net does through torch, on made
    imagery and on windows of `scenes`. Raises CheckpointError for an unusable checkpoint,
    ExportError, nothing written, when the file disagrees.
    """
    state = Checkpoint.load(checkpoint)
    card = ModelCard.parse(state.card, f"{checkpoint}: card")
    facts = card.training.model_copy(update={"steps": state.before + state.step})
    card = card.model_copy(update={"training": facts, "halo": HALO})
    net = net_of(state)
    graph = onnx_of(fold(net))
    check_parity(net, graph, card, [*made_windows(card), *real_windows(scenes, card)])
    return artifact.write(graph, card, out)


def check_parity(
    net: UNet, graph: onnx.ModelProto, card: ModelCard, windows: Sequence[Image]
) -> float:
    """The largest difference of a probability between the net as trained and the file as it will
    be run, over `windows`: uint8 (4, S, S) each. Raises ExportError above TOLERANCE.
    """
    session = Session(artifact.stamped(graph, card))
    worst = 0.0
    for window in windows:
        batch = normalize(window, card)[None]
        difference = float(np.abs(session.predict(batch) - probabilities(net, batch)).max())
        worst = difference if np.isnan(difference) else max(worst, difference)
        if not worst <= TOLERANCE:
            raise ExportError(
                f"the exported file differs from the net by {worst:.2e} (limit {TOLERANCE:.0e})"
            )
    return worst


def made_windows(card: ModelCard, seed: int = 0) -> list[Image]:
    """Made imagery of the SIDES: patches of even color under noise, as bright as the card's
    radiometry, and one window of nothing but extremes: uint8 (4, S, S) each.
    """
    rng = np.random.default_rng(seed)
    mean, std = (255 * np.array(v)[:, None, None] for v in (card.mean, card.std))
    windows = []
    for side in SIDES:
        patches = rng.standard_normal((len(card.bands), side // 16, side // 16))
        ground = np.kron(patches, np.ones((16, 16))) + 0.3 * rng.standard_normal((1, side, side))
        windows.append(np.clip(np.rint(mean + std * ground), 0, 255).astype(np.uint8))
    extremes = rng.integers(0, 2, (len(card.bands), SIDES[0], SIDES[0]), dtype=np.uint8)
    return [*windows, extremes * np.uint8(255)]


def real_windows(scenes: Sequence[Scene], card: ModelCard, count: int = PROBES) -> list[Image]:
    """Windows of real imagery as they are served, mirrored beyond the scene: at most `count`, of
    different places where there are: uint8 (4, window, window) each.
    """
    first = list({s.place: s for s in reversed(scenes)}.values())[::-1]
    windows = []
    for scene in first[:count]:
        image = at_resolution(scene, card.ground_resolution)[:, : card.window, : card.window]
        pixels = np.zeros((len(image), card.window, card.window), np.uint8)
        pixels[:, : image.shape[1], : image.shape[2]] = image
        windows.append(reflect_pad_invalid(pixels, valid_of(pixels)))
    return windows
