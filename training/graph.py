"""The net as an ONNX graph, written operator by operator.

The graph is small and fixed, so it is spelled out instead of traced: nothing depends on an
exporter's version, and the same weights always give the same bytes.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from training.unet import BANDS, CLASSES, FILTERS, PARAMETERS, Level, UNet, parameter_count

OPSET = 17
IR_VERSION = 8
INPUT = "image"
OUTPUT = "probabilities"

NEVER = -1.0e4
"""Logit of background: its softmax is exactly 0 in float32, whatever the other logits are."""


class _Graph:
    """Nodes and initialisers in order; every method returns the name of its result."""

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
        for number, conv in (("1", level.conv1), ("2", level.conv2)):
            x = self.weighted(
                "Conv", f"{name}.conv{number}", x, conv, kernel_shape=[3, 3], pads=[1, 1, 1, 1]
            )
            x = self.op(kind, f"{name}.act{number}", [x])
        return x

    def softmax(self, logits: str) -> str:
        """exp(x - max) / sum over the channels: ONNX Runtime's Softmax over channels transposes
        there and back, which made a window 9 % slower (measured, 576 px, one thread)."""
        below = self.op("Sub", "below", [logits, self.op("ReduceMax", "peak", [logits], axes=[1])])
        odds = self.op("Exp", "odds", [below])
        axis = numpy_helper.from_array(np.array([1], dtype=np.int64))
        total = self.op("ReduceSum", "total", [odds, self.op("Constant", "axis", [], value=axis)])
        return self.op("Div", OUTPUT, [odds, total])


def onnx_of(net: UNet) -> onnx.ModelProto:
    """The folded net with softmax and background forced to 0, without metadata.

    Input float32 [N, 4, S, S], standardized; output float32 [N, 7, S, S], probabilities. Raises
    ValueError when batch norm has not been folded (see unet.fold).
    """
    if any(isinstance(m, nn.BatchNorm2d) for m in net.modules()):
        raise ValueError("fold batch norm before exporting: training.unet.fold")
    graph, skips, x = _Graph(), list[str](), INPUT
    for number, level in enumerate(net.down):
        x = graph.level(f"down{number}", x, level)
        if number < len(FILTERS) - 1:
            skips.append(x)
            x = graph.op("MaxPool", f"pool{number}", [x], kernel_shape=[2, 2], strides=[2, 2])
    for number in reversed(range(len(FILTERS) - 1)):
        x = graph.weighted(
            "ConvTranspose", f"up{number}", x, net.up[number], kernel_shape=[2, 2], strides=[2, 2]
        )
        x = graph.op("Concat", f"skip{number}", [x, skips.pop()], axis=1)
        x = graph.level(f"join{number}", x, net.join[number])
    x = graph.weighted("Conv", "last", x, _without_background(net.last), kernel_shape=[1, 1])
    graph.softmax(x)

    count = sum(int(np.prod(w.dims)) for w in graph.weights)
    if count != PARAMETERS or parameter_count(net) != PARAMETERS:
        raise AssertionError(f"the graph has {count:,} parameters instead of {PARAMETERS:,}")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, "S", "S"])
        for name, channels in ((INPUT, BANDS), (OUTPUT, CLASSES))
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "landcover", ends[:1], ends[1:], graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="landcover",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


@torch.no_grad()  # type: ignore[untyped-decorator]
def probabilities(net: UNet, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """The answer by torch: float32 (N, 4, S, S) to (N, 7, S, S), channel 0 zero."""
    logits = net(torch.from_numpy(batch))
    logits[:, 0] = NEVER
    answer: NDArray[np.float32] = torch.softmax(logits, dim=1).numpy()
    return answer


def _without_background(last: nn.Conv2d) -> nn.Conv2d:
    """The last convolution with background's filter zero and its bias out of reach."""
    out = nn.Conv2d(last.in_channels, last.out_channels, 1)
    with torch.no_grad():
        out.weight.copy_(last.weight)
        out.bias.copy_(last.bias)
        out.weight[0] = 0.0
        out.bias[0] = NEVER
    return out
