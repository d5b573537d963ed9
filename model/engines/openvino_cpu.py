"""OpenVINO on the processor: bf16 where it has units for it (AMX, AVX512-BF16), int8, fp32.

Needs the extra `openvino`. Importing the package sends an event to an analytics service by way of
its model converter; the converter is not used here and kept from being imported.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from contextlib import nullcontext
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from model.engines.base import Cancellation, EngineSpec, Precision, Probabilities
from model.errors import ArtifactError, Cancelled, EngineError

_DEVICE = "CPU"
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""Precision → what is not quantized is computed in."""


class OpenVinoEngine:
    """A model file compiled by OpenVINO."""

    def __init__(
        self, content: bytes, precision: Precision = "fp32", threads: int = 1, streams: int = 1
    ) -> None:
        """Compile `content` (an ONNX file); EngineError when OpenVINO is not installed or the
        processor lacks the precision, ArtifactError when the file is refused.

        `streams` runs at once have `threads` threads each.
        """
        capabilities = openvino_capabilities()
        if not capabilities:
            raise EngineError("OpenVINO is not installed: pip install 'landcover[openvino]'")
        if precision not in capabilities:
            raise EngineError(
                f"this processor has no {precision}; OpenVINO offers {', '.join(capabilities)}"
            )
        core = _openvino().Core()
        config = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams * threads,
            "ENABLE_CPU_PINNING": False,  # beside other processes pinned threads only wait
        }
        try:
            # Sizes stay free: as fast as fixed ones, and one compilation serves every window.
            self._model = core.compile_model(core.read_model(content), _DEVICE, config)
        except RuntimeError as error:
            first_line = str(error).strip().splitlines()[-1]
            raise ArtifactError(f"OpenVINO cannot load it: {first_line}") from error
        self.spec = EngineSpec("openvino", precision)
        self.digest = hashlib.sha256(content).hexdigest()
        self._idle: list[Any] = []
        self._lock = threading.Lock()

    def run(
        self, batch: npt.NDArray[np.float32], cancellation: Cancellation | None = None
    ) -> Probabilities:
        """Return the probabilities of a batch; see `Engine.run`."""
        with self._lock:
            request = self._idle.pop() if self._idle else None
        request = request or self._model.create_infer_request()
        tensor = _openvino().Tensor(np.ascontiguousarray(batch), shared_memory=True)
        request.set_input_tensor(tensor)
        try:
            with cancellation.stopping(request.cancel) if cancellation else nullcontext():
                request.start_async(share_inputs=True)
                if cancellation is not None and cancellation.cancelled:
                    request.cancel()  # what is not running yet is not stopped
                request.wait()
        except Cancelled:
            raise
        except RuntimeError:
            if cancellation is not None and cancellation.cancelled:
                raise Cancelled("cancelled during the run") from None
            raise
        # Its memory is the request's, which the next run writes to.
        probabilities: Probabilities = np.array(request.get_output_tensor().data, dtype=np.float32)
        if cancellation is None or not cancellation.cancelled:
            with self._lock:
                self._idle.append(request)
        return probabilities

    @staticmethod
    def version() -> str:
        """Return the library's version."""
        return str(_openvino().__version__)


@lru_cache(maxsize=1)
def openvino_capabilities() -> tuple[Precision, ...]:
    """Return the precisions that OpenVINO computes in on this processor; none when it is not
    installed or does not work here."""
    try:
        names = set(_openvino().Core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"))
    except (ImportError, RuntimeError, OSError):
        return ()
    known: dict[str, Precision] = {"FP32": "fp32", "BF16": "bf16", "INT8": "int8"}
    return tuple(precision for name, precision in known.items() if name in names)


@lru_cache(maxsize=1)
def _openvino() -> ModuleType:
    for name in ("openvino.tools.ovc", "openvino_telemetry"):
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment]
    import openvino  # noqa: PLC0415 - an extra, and 0.3 s

    module: ModuleType = openvino
    return module
