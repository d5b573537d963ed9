"""The weights that a run starts from: a checkpoint, or a model file.

A model file has no batch norm any more: it was merged into the convolutions. Its weights are read
back exactly, and batch norm is put before each activation with the statistics that the training
imagery has there, so that it changes nothing in evaluation and next to nothing in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from model.card import ModelCard
from model.errors import ModelError
from model.session import Session
from training.config import Activation, NetworkName, Preset
from training.config.legend import MAX_CLASSES, MIN_CLASSES
from training.errors import CheckpointError
from training.network.build import Network, build, fold
from training.network.checkpoint import Checkpoint

Weights = dict[str, Tensor]
"""A state dictionary of the network."""

SUFFIX = ".onnx"


def read_initial(path: Path) -> Checkpoint:
    """Read the weights to start from: a checkpoint, or a model file (.onnx) in 32 bits.

    Raises CheckpointError naming the file and what is wrong with it.
    """
    return _of_model_file(path) if path.suffix == SUFFIX else Checkpoint.load(path)


def _of_model_file(path: Path) -> Checkpoint:
    if not path.is_file():
        raise CheckpointError(f"no model file at {path}")
    try:
        card = Session.load(path).card
    except ModelError as error:
        raise CheckpointError(f"{path} is not a model file: {error}") from error
    if not MIN_CLASSES <= len(card.legend.classes) <= MAX_CLASSES:
        raise CheckpointError(f"{path} has {len(card.legend.classes)} classes")
    content = path.read_bytes()
    graph = onnx.load_model_from_string(content).graph
    operators = {node.op_type for node in graph.node}
    if operators & {"QuantizeLinear", "DequantizeLinear"}:
        raise CheckpointError(f"{path} is in 8 bits: start from the file in 32 bits")
    activation: Activation = "elu" if "Elu" in operators else "relu"
    network: NetworkName = "fast" if "Resize" in operators else "unet"
    preset = Preset(
        name=card.training.preset or path.stem,
        network=network,
        activation=activation,
        batch_norm=False,
        bands=card.bands,
        legend=card.legend,
        ground_resolution_m=card.ground_resolution,
    )
    weights = {
        _name(tensor.name): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in graph.initializer
    }
    net = build(preset)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} is not of this network: {' '.join(str(error).split())[:200]}"
        ) from error
    return Checkpoint(
        preset.model_dump(mode="json"),
        hashlib.sha256(content).hexdigest(),
        card.training.steps,
        net=weights,
        ema=weights,
        optimizer={},
        card=card.embedded(),
    )


def _name(tensor: str) -> str:
    """Return the name in the network of a tensor of the graph: `down0.conv1.weight` is
    `down.0.conv1.weight`."""
    for part in ("down", "join", "up"):
        if tensor.startswith(part) and tensor[len(part) :][:1].isdigit():
            return f"{part}.{tensor[len(part) :]}"
    return tensor


def network_of(initial: Checkpoint) -> Network:
    """Return the network of an initial checkpoint, in evaluation mode."""
    net: Network = build(Preset.model_validate(initial.preset))
    net = net.to(memory_format=torch.channels_last)
    net.load_state_dict(initial.ema)
    net.eval()
    return net


def initialize(net: Network, preset: Preset, initial: Checkpoint, images: Iterable[Tensor]) -> None:
    """Load the averaged weights of `initial` into the network of `preset`.

    Bands and classes are taken over by their names; what is new begins as it was drawn. `images`:
    standardized float32 (n, bands, rows, cols) of the training data, for the statistics of batch
    norm where `initial` has none. Raises CheckpointError where networks or activations differ.
    """
    theirs = Preset.model_validate(initial.preset)
    for one, other in (
        (theirs.network, preset.network),
        (theirs.activation, preset.activation),
    ):
        if one != other:
            raise CheckpointError(f"the initial weights are for {one}, the preset for {other}")
    weights = dict(initial.ema)
    if theirs.batch_norm and not preset.batch_norm:
        weights = fold(network_of(initial)).state_dict()
    fresh = net.state_dict()
    _by_name(weights, fresh, "down.0.conv1.weight", 1, theirs.bands, preset.bands)
    names, wanted = (["background", *(c.name for c in p.legend.classes)] for p in (theirs, preset))
    # A transposed convolution has its outputs on the second axis.
    outputs = 1 if isinstance(net.last, nn.ConvTranspose2d) else 0
    for tensor, axis in (("last.weight", outputs), ("last.bias", 0)):
        _by_name(weights, fresh, tensor, axis, names, wanted)
    missing = net.load_state_dict(weights, strict=False)
    if missing.unexpected_keys:
        unknown = missing.unexpected_keys[0]
        raise CheckpointError(f"the initial weights have {unknown}, which the network lacks")
    if preset.batch_norm and not theirs.batch_norm:
        calibrate(net, images)


def _by_name(
    weights: Weights,
    fresh: Weights,
    tensor: str,
    axis: int,
    theirs: Iterable[str],
    wanted: Iterable[str],
) -> None:
    """Replace a tensor by a fresh one into which the parts of the same name are copied."""
    have, names = list(theirs), list(wanted)
    if have == names:
        return
    result = fresh[tensor].clone()
    for index, name in enumerate(names):
        if name in have:
            result.select(axis, index).copy_(weights[tensor].select(axis, have.index(name)))
    weights[tensor] = result


@torch.no_grad()  # type: ignore[untyped-decorator]
def calibrate(net: Network, images: Iterable[Tensor]) -> None:
    """Give every batch norm the mean and variance that `images` have there, and the weights that
    undo them: in evaluation it changes nothing."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    sums = {
        norm: [torch.zeros(norm.num_features, dtype=torch.float64) for _ in range(2)]
        for norm in norms
    }
    seen = dict.fromkeys(norms, 0)

    def note(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].detach().double().cpu()
        sums[norm][0] += values.sum(dim=(0, 2, 3))
        sums[norm][1] += values.square().sum(dim=(0, 2, 3))
        seen[norm] += values.numel() // values.shape[1]

    for norm in norms:
        _set(norm, torch.zeros(norm.num_features), torch.full((norm.num_features,), 1 - norm.eps))
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    was_training = net.training
    net.eval()
    for batch in images:
        net(batch.to(net.last.weight.device))
    net.train(was_training)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        mean = sums[norm][0] / max(1, seen[norm])
        variance = (sums[norm][1] / max(1, seen[norm]) - mean.square()).clamp_min(0)
        _set(norm, mean, variance)


def _set(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Set statistics, and the weights that undo them."""
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.bias.copy_(mean)
    norm.weight.copy_((variance.double() + norm.eps).sqrt())


def normalized_like(initial: Checkpoint, card: ModelCard) -> ModelCard:
    """Return the card with the normalization that the initial weights were learned with; new bands
    keep their own."""
    theirs = ModelCard.parse(initial.card, "the card of the initial checkpoint")
    known = {b: (m, s) for b, m, s in zip(theirs.bands, theirs.mean, theirs.std, strict=True)}
    own = zip(card.bands, card.mean, card.std, strict=True)
    pairs = [known.get(band, (mean, std)) for band, mean, std in own]
    return card.model_copy(
        update={"mean": tuple(m for m, _ in pairs), "std": tuple(s for _, s in pairs)}
    )
