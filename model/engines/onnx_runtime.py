"""ONNX Runtime: on the processor by default, on a GPU where onnxruntime-gpu is installed."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from model.engines.base import Cancellation, EngineName, EngineSpec, Precision, Probabilities
from model.errors import ArtifactError, Cancelled, EngineError

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


class OnnxRuntimeEngine:
    """A model file in an ONNX Runtime session."""

    def __init__(
        self,
        content: bytes,
        threads: int = 1,
        name: EngineName = "onnxruntime",
        precision: Precision = "fp32",
    ) -> None:
        """Load `content` (an ONNX file); ArtifactError when it cannot be loaded, EngineError when
        the precision or the GPU is not there. `threads`: intra-op threads of a run."""
        if precision == "bf16":
            raise EngineError(f"{name} has no bf16 here: openvino:bf16 has, where the processor is")
        if name == "cuda" and not cuda_is_offered():
            raise EngineError("cuda needs onnxruntime-gpu and an NVIDIA GPU")
        # TF32 would round every product to 10 bits.
        wanted: list[Any] = [(_CUDA, {"use_tf32": "0"}), _CPU] if name == "cuda" else [_CPU]
        self.spec = EngineSpec(name, precision)
        self.digest = hashlib.sha256(content).hexdigest()
        self._session = _load(content, threads, wanted)
        if name == "cuda" and self._session.get_providers()[0] != _CUDA:
            raise EngineError("cuda: ONNX Runtime cannot use the GPU of this machine")
        self.inputs, self.outputs = self._session.get_inputs(), self._session.get_outputs()
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(
        self, batch: npt.NDArray[np.float32], cancellation: Cancellation | None = None
    ) -> Probabilities:
        """Return the probabilities of a batch; see `Engine.run`."""
        options = ort.RunOptions()

        def stop() -> None:
            options.terminate = True

        try:
            with cancellation.stopping(stop) if cancellation else nullcontext():
                (probabilities,) = self._session.run(None, {self.inputs[0].name: batch}, options)
        except Cancelled:
            raise
        except Exception:
            # ONNX Runtime raises its own unexported types when a run is terminated.
            if cancellation is not None and cancellation.cancelled:
                raise Cancelled("cancelled during the run") from None
            raise
        result: Probabilities = probabilities
        return result

    @staticmethod
    def version() -> str:
        """Return the library's version."""
        return str(ort.__version__)


def cuda_is_offered() -> bool:
    """Return whether the installed ONNX Runtime is one for NVIDIA GPUs."""
    return _CUDA in ort.get_available_providers()


def _session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    # Planned memory is taken as one chunk per concurrent run and kept: a fifth more in all, and
    # not faster (measured, two windows of 704 px at once).
    options.enable_mem_pattern = False
    # Spinning threads slow whatever else serves on these cores; switching it off costs 5 %.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _load(content: bytes, threads: int, providers: list[Any]) -> ort.InferenceSession:
    """A session on `content`; weights in other files are looked for in an empty folder only."""
    with tempfile.TemporaryDirectory(prefix="landcover-") as empty:
        options = _session_options(threads)
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", empty
        )
        try:
            return ort.InferenceSession(content, options, providers=providers)
        except Exception as error:  # ONNX Runtime's exception types are not exported
            if "external" in str(error).lower() or empty in str(error):
                raise ArtifactError(
                    "its weights lie in other files (external data); export one single file"
                ) from error
            first_line = str(error).splitlines()[0]
            raise ArtifactError(f"ONNX Runtime cannot load it: {first_line}") from error
