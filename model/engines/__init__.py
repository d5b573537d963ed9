"""What runs the network: ONNX Runtime, or OpenVINO where it is installed, in one precision each.

An engine takes a checked batch and returns probabilities; which file, card and classes these are
is the business of `model.session`.
"""

from __future__ import annotations

from model.engines.base import (
    ENGINES,
    PRECISIONS,
    Cancellation,
    Engine,
    EngineSpec,
    Probabilities,
)
from model.engines.onnx_runtime import OnnxRuntimeEngine, cuda_is_offered
from model.engines.openvino_cpu import OpenVinoEngine, openvino_capabilities
from model.errors import EngineError

__all__ = [
    "DEFAULT",
    "ENGINES",
    "PRECISIONS",
    "Cancellation",
    "Engine",
    "EngineSpec",
    "OnnxRuntimeEngine",
    "OpenVinoEngine",
    "Probabilities",
    "create",
    "offered",
    "versions",
]

DEFAULT = EngineSpec("onnxruntime", "fp32")
"""What every other engine is compared with."""


def create(
    spec: EngineSpec, fp32: bytes, int8: bytes | None, threads: int = 1, streams: int = 1
) -> Engine:
    """Return the engine of `spec` on the model file `fp32`, or on `int8` when it runs in 8 bits.

    `threads`: threads of one run; `streams`: runs at once that have threads of their own.
    EngineError when this machine or installation has no such engine, ArtifactError when the
    engine refuses the file.
    """
    content = fp32
    if spec.precision == "int8":
        if int8 is None:
            raise EngineError(f"{spec} needs <name>.int8.onnx beside the model file")
        content = int8
    if spec.name == "openvino":
        return OpenVinoEngine(content, spec.precision, threads, streams)
    return OnnxRuntimeEngine(content, threads, spec.name, spec.precision)


def offered(int8: bool) -> list[EngineSpec]:
    """Return what this machine and installation can run besides the default, the most promising
    first. `int8`: whether there is a file in 8 bits."""
    specs: list[EngineSpec] = []
    if cuda_is_offered():
        specs.append(EngineSpec("cuda", "fp32"))
    precisions = openvino_capabilities()
    if "bf16" in precisions:
        specs.append(EngineSpec("openvino", "bf16"))
    if int8 and "int8" in precisions:
        specs.append(EngineSpec("openvino", "int8"))
    if int8:
        specs.append(EngineSpec("onnxruntime", "int8"))
    if "fp32" in precisions:
        specs.append(EngineSpec("openvino", "fp32"))
    return specs


def versions() -> dict[str, str]:
    """Return library → version, of the engines that are installed."""
    installed = {"onnxruntime": OnnxRuntimeEngine.version()}
    if openvino_capabilities():
        installed["openvino"] = OpenVinoEngine.version()
    return installed
