"""From a checkpoint to the model file, which is refused when it disagrees with torch.

The averaged weights are exported with batch norm folded. The graph is written operator by operator:
nothing depends on an exporter's version, and the same weights always give the same bytes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from model.card import ModelCard
from model.edges import reflect_pad_invalid
from model.normalize import normalize
from model.session import Session
from training.config import Preset
from training.data.resolution import at_resolution, valid_of
from training.data.scenes import Image, Scene
from training.errors import ExportError
from training.export import artifact
from training.network.build import NETWORKS, Network, build, fold
from training.network.checkpoint import Checkpoint
from training.network.fast import FastNet
from training.network.initial import read_initial
from training.network.unet import Level, UNet, parameter_count

TOLERANCE = 1e-4
"""Largest difference of any probability between torch and ONNX Runtime."""

SIDES = (64, 160, 704)
"""Sides of the synthetic windows that are compared; the last is the served one."""

AVERAGED = ("bands", "legend", "mean", "std")
"""What the cards of two models must share for the mean of their weights to mean anything."""

PROBES = 4
"""Real scenes that are compared, of as many places."""


def net_of(state: Checkpoint) -> Network:
    """Return the network of a checkpoint with its averaged weights, in evaluation mode."""
    preset = Preset.model_validate(state.preset)
    if preset.network not in NETWORKS:
        raise ExportError(
            f"a teacher ({preset.network}) is not exported: distill the served network from it"
        )
    net = build(preset)
    net.load_state_dict(state.ema)
    net.eval()
    return net


def export(
    checkpoint: Path,
    out: Path,
    scenes: Sequence[Scene] = (),
    attribution: str = "",
    average_with: Path | None = None,
) -> ModelCard:
    """Write the model file `out` and its card, which has no accuracy yet (see `write_accuracy`) and
    states `attribution` where that is given. `average_with`: see `averaged`.

    Before that, ONNX Runtime is compared with torch on synthetic imagery and on windows of
    `scenes`, and blocks with more context than the halo. Raises CheckpointError for an unusable
    checkpoint, ExportError, nothing written, when the file disagrees or the halo is too small.
    """
    state = Checkpoint.load(checkpoint)
    card = ModelCard.parse(state.card, f"{checkpoint}: card")
    facts = card.training.model_copy(update={"steps": state.before + state.step})
    net = net_of(state) if average_with is None else averaged(state, read_initial(average_with))
    card = card.model_copy(update={"training": facts, "halo": net.halo})
    if attribution:
        card = card.model_copy(update={"attribution": attribution})
    graph = onnx_of(fold(net))
    check_halo(graph, card)
    check_parity(net, graph, card, [*synthetic_windows(card), *real_windows(scenes, card)])
    return artifact.write(graph, card, out)


def averaged(state: Checkpoint, initial: Checkpoint) -> Network:
    """Return the folded network with the mean of the weights of a run and those that it began from.

    What was fine-tuned errs less on other imagery so (Wortsman et al. 2022, "Robust fine-tuning of
    zero-shot models", with a weight of 1/2). ExportError when the two are of different networks,
    bands, legends or normalizations.
    """
    cards = [ModelCard.parse(each.card, "a card to average") for each in (state, initial)]
    presets = [Preset.model_validate(each.preset) for each in (state, initial)]
    for pair, fields in ((presets, ("network", "activation")), (cards, AVERAGED)):
        for field in fields:
            mine, theirs = (getattr(each, field) for each in pair)
            if mine != theirs:
                raise ExportError(
                    f"weights of another {field} cannot be averaged: {theirs}, not {mine}"
                )
    net, other = (fold(net_of(each)) for each in (state, initial))
    weights, others = net.state_dict(), other.state_dict()
    net.load_state_dict({name: (weights[name] + others[name]) / 2 for name in weights})
    return net


def check_halo(graph: onnx.ModelProto, card: ModelCard) -> None:
    """Raise ExportError when a class depends on what lies outside the halo of its block."""
    if not Session(artifact.stamped(graph, card)).halo_covers_reach:
        raise ExportError(f"the network reaches farther than the halo of {card.halo} px")


def check_parity(
    net: Network, graph: onnx.ModelProto, card: ModelCard, windows: Sequence[Image]
) -> float:
    """Return the largest difference of a probability between torch and the exported file over
    `windows`: uint8 (bands, S, S) each. Raises ExportError above TOLERANCE.
    """
    session = Session(artifact.stamped(graph, card))
    worst = 0.0
    for window in windows:
        batch = normalize(window, card)[None]
        difference = float(np.abs(session.predict(batch) - probabilities(net, batch)).max())
        worst = difference if np.isnan(difference) else max(worst, difference)
        if not worst <= TOLERANCE:
            raise ExportError(
                f"the exported file differs from torch by {worst:.2e} (limit {TOLERANCE:.0e})"
            )
    return worst


def synthetic_windows(card: ModelCard, seed: int = 0) -> list[Image]:
    """Return synthetic imagery of the SIDES, uint8 (4, S, S) each: noisy patches with the card's
    mean and standard deviation, and one window of extreme values.
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
    """Return at most `count` windows of real imagery, uint8 (4, window, window) each, as they are
    served (mirrored outside the scene), of different places where possible.
    """
    first = list({s.place: s for s in reversed(scenes)}.values())[::-1]
    windows = []
    for scene in first[:count]:
        image = at_resolution(scene, card.ground_resolution)[:, : card.window, : card.window]
        pixels = np.zeros((len(image), card.window, card.window), np.uint8)
        pixels[:, : image.shape[1], : image.shape[2]] = image
        windows.append(reflect_pad_invalid(pixels, valid_of(pixels)))
    return windows


OPSET = 17
IR_VERSION = 8
INPUT = "image"
OUTPUT = "probabilities"

NEVER = -1.0e4
"""Logit of background: its softmax is exactly 0 in float32 for any other logits."""


class _Graph:
    """Nodes and initializers in order; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def op(self, kind: str, name: str, inputs: list[str], **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def weighted(self, kind: str, name: str, x: str, conv: nn.Module, **attributes: object) -> str:
        weight, bias = (p.detach().numpy() for p in (conv.weight, conv.bias))
        names = [self.hold(f"{name}.weight", weight), self.hold(f"{name}.bias", bias)]
        return self.op(kind, name, [x, *names], **attributes)

    def hold(self, name: str, values: NDArray[np.float32]) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def level(self, name: str, x: str, level: Level) -> str:
        kind = "Relu" if isinstance(level.act, nn.ReLU) else "Elu"
        for number in range(1, level.count + 1):
            conv = getattr(level, f"conv{number}")
            shape = {"kernel_shape": list(conv.kernel_size), "pads": 2 * list(conv.padding)}
            if conv.stride != (1, 1):
                shape["strides"] = list(conv.stride)
            x = self.weighted("Conv", f"{name}.conv{number}", x, conv, **shape)
            x = self.op(kind, f"{name}.act{number}", [x])
        return x

    def pool(self, name: str, x: str) -> str:
        return self.op("MaxPool", name, [x], kernel_shape=[2, 2], strides=[2, 2])

    def nearest(self, name: str, x: str) -> str:
        """Add the repetition of every pixel, 2 x 2."""
        scales = numpy_helper.from_array(np.array([1, 1, 2, 2], dtype=np.float32))
        return self.op(
            "Resize", name, [x, "", self.op("Constant", f"{name}.scales", [], value=scales)],
            mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip

    def softmax(self, logits: str) -> str:
        """Add exp(x - max) / sum over the channels: ONNX Runtime's Softmax over channels transposes
        twice, which made a window 9 % slower (measured, 576 px, one thread)."""
        below = self.op("Sub", "below", [logits, self.op("ReduceMax", "peak", [logits], axes=[1])])
        odds = self.op("Exp", "odds", [below])
        axis = numpy_helper.from_array(np.array([1], dtype=np.int64))
        total = self.op("ReduceSum", "total", [odds, self.op("Constant", "axis", [], value=axis)])
        return self.op("Div", OUTPUT, [odds, total])


def onnx_of(net: Network) -> onnx.ModelProto:
    """Return the graph of a folded network with softmax and background forced to 0.

    Input float32 [N, bands, S, S], standardized; output float32 [N, channels, S, S], probabilities.
    Raises ValueError when batch norm has not been folded (see build.fold).
    """
    if any(isinstance(m, nn.BatchNorm2d) for m in net.modules()):
        raise ValueError("fold batch norm before exporting: training.network.build.fold")
    graph = _Graph()
    graph.softmax(_fast(graph, net) if isinstance(net, FastNet) else _unet(graph, net))
    count, wanted = sum(int(np.prod(w.dims)) for w in graph.weights), parameter_count(net)
    if count != wanted:
        raise AssertionError(f"the graph has {count:,} parameters instead of {wanted:,}")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, "S", "S"])
        for name, channels in ((INPUT, net.bands), (OUTPUT, net.channels))
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "landcover", ends[:1], ends[1:], graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="landcover",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _unet(graph: _Graph, net: UNet) -> str:
    """Add the layers of the U-Net; return the name of the logits."""
    x, skips = _down(graph, net)
    for number in reversed(range(len(net.up))):
        x = graph.weighted(
            "ConvTranspose", f"up{number}", x, net.up[number], kernel_shape=[2, 2], strides=[2, 2]
        )
        x = graph.op("Concat", f"skip{number}", [x, skips.pop()], axis=1)
        x = graph.level(f"join{number}", x, net.join[number])
    return graph.weighted("Conv", "last", x, _without_background(net.last), kernel_shape=[1, 1])


def _fast(graph: _Graph, net: FastNet) -> str:
    """Add the layers of the network `fast`; return the name of the logits."""
    x, skips = _down(graph, net)
    for number in reversed(range(len(net.up))):
        x = graph.weighted("Conv", f"up{number}", x, net.up[number], kernel_shape=[1, 1])
        x = graph.op("Add", f"skip{number}", [graph.nearest(f"twice{number}", x), skips.pop()])
        x = graph.level(f"join{number}", x, net.join[number])
    last = _without_background(net.last)
    return graph.weighted("ConvTranspose", "last", x, last, kernel_shape=[2, 2], strides=[2, 2])


def _down(graph: _Graph, net: Network) -> tuple[str, list[str]]:
    """Add the levels on the way down; return the names of the last one's output and of the
    others'."""
    x, skips = INPUT, list[str]()
    for number, level in enumerate(net.down):
        x = graph.level(f"down{number}", x, level)
        if number < len(net.down) - 1:
            skips.append(x)
            x = graph.pool(f"pool{number}", x)
    return x, skips


@torch.no_grad()  # type: ignore[untyped-decorator]
def probabilities(net: Network, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return torch's probabilities: float32 (N, bands, S, S) to (N, channels, S, S), channel 0
    zero."""
    logits = net(torch.from_numpy(batch))
    logits[:, 0] = NEVER
    answer: NDArray[np.float32] = torch.softmax(logits, dim=1).numpy()
    return answer


def _without_background(last: nn.Module) -> nn.Module:
    """Return the last convolution with zero weights and the bias NEVER for background."""
    out = copy.deepcopy(last)
    with torch.no_grad():
        # A transposed convolution has its outputs on the second axis.
        out.weight.select(1 if isinstance(out, nn.ConvTranspose2d) else 0, 0).zero_()
        out.bias[0] = NEVER
    return out
