"""OpenVINO on the processor: bf16 where it has units for it (AMX, AVX512-BF16), int8, fp32.

Needs the extra `openvino`. Importing the package sends an event to an analytics service by way of
its model converter; the converter is not used here and kept from being imported.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import dataclass, field
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


_MOST_SHAPES = 8
"""Shapes of batches that are kept compiled: those of joined blocks, and some to spare."""


_MOST_PIXELS = 1_500_000
"""Pixels of all shapes whose memory is kept, about 350 bytes each and stream: one of four joined
blocks, or three smaller ones. Without a limit two streams kept 2.7 GB."""


@dataclass(eq=False)
class _Compiled:
    """The model compiled for batches of one shape, and its requests that are not in use."""

    model: Any
    pixels: int
    idle: list[Any] = field(default_factory=list)
    running: int = 0
    holds_memory: bool = False


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
        self._core, self._content = _openvino().Core(), content
        self._config = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams * threads,
            "ENABLE_CPU_PINNING": False,  # beside other processes pinned threads only wait
        }
        try:
            # Refused now, not with the first window.
            self._core.compile_model(self._core.read_model(content), _DEVICE, self._config)
        except RuntimeError as error:
            first_line = str(error).strip().splitlines()[-1]
            raise ArtifactError(f"OpenVINO cannot load it: {first_line}") from error
        self.spec = EngineSpec("openvino", precision)
        self.digest = hashlib.sha256(content).hexdigest()
        self._compiled: OrderedDict[tuple[int, ...], _Compiled] = OrderedDict()
        self._lock = threading.Lock()

    def run(
        self, batch: npt.NDArray[np.float32], cancellation: Cancellation | None = None
    ) -> Probabilities:
        """Return the probabilities of a batch; see `Engine.run`."""
        compiled = self._for(batch.shape)
        try:
            return self._run(compiled, batch, cancellation)
        finally:
            with self._lock:
                compiled.running -= 1

    def _run(
        self,
        compiled: _Compiled,
        batch: npt.NDArray[np.float32],
        cancellation: Cancellation | None,
    ) -> Probabilities:
        with self._lock:
            request = compiled.idle.pop() if compiled.idle else None
        request = request or compiled.model.create_infer_request()
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
                compiled.idle.append(request)
        return probabilities

    def _for(self, shape: tuple[int, ...]) -> _Compiled:
        """Return the model for batches of one shape, counted as running.

        With free sizes a stopped run leaves the sizes of some layers behind, and later runs of
        another shape fail, or are wrong, on the same stream (seen with OpenVINO 2026.4).
        """
        with self._lock:
            compiled = self._compiled.get(shape)
            if compiled is None:
                network = self._core.read_model(self._content)
                network.reshape(list(shape))
                model = self._core.compile_model(network, _DEVICE, self._config)
                pixels = shape[0] * shape[-2] * shape[-1]
                compiled = self._compiled[shape] = _Compiled(model, pixels)
                if len(self._compiled) > _MOST_SHAPES:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(shape)
            compiled.running += 1
            compiled.holds_memory = True
            self._release()
            return compiled

    def _release(self) -> None:
        """Release the memory of the shapes that were used longest ago and do not run."""
        holding = [each for each in self._compiled.values() if each.holds_memory]
        pixels = sum(each.pixels for each in holding)
        for each in holding:
            if pixels <= _MOST_PIXELS:
                return
            if not each.running:
                each.idle.clear()
                each.model.release_memory()
                each.holds_memory = False
                pixels -= each.pixels

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
