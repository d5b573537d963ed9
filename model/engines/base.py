"""What every engine has in common: its interface, its name, and how a run is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, Self, cast, get_args

import numpy as np
import numpy.typing as npt

from model.errors import Cancelled, EngineError

Probabilities = npt.NDArray[np.float32]
EngineName = Literal["onnxruntime", "openvino", "cuda"]
Precision = Literal["fp32", "bf16", "int8"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """An engine and the precision it computes in, written `openvino:bf16`."""

    name: EngineName
    precision: Precision = "fp32"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name` or `name:precision`; EngineError for any other text."""
        name, _, precision = text.partition(":")
        if name not in ENGINES or (precision or "fp32") not in PRECISIONS:
            raise EngineError(
                f"engine {text!r} is unknown: one of {', '.join(ENGINES)}, "
                f"with :{', :'.join(PRECISIONS)} after it"
            )
        return cls(name, cast(Precision, precision or "fp32"))

    def __str__(self) -> str:
        return f"{self.name}:{self.precision}"


class Cancellation:
    """Stops runs from another thread, within one operator."""

    def __init__(self) -> None:
        self.cancelled = False
        self._lock = threading.Lock()
        self._stops: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Stop the runs that hold this object, now and later."""
        with self._lock:
            self.cancelled = True
            # Under the lock: what a run uses is not stopped once another run may use it.
            for stop in self._stops:
                stop()

    @contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """Call `stop` when it is cancelled inside; Cancelled when it was before."""
        with self._lock:
            if self.cancelled:
                raise Cancelled("cancelled before the run")
            self._stops.append(stop)
        try:
            yield
        finally:
            with self._lock:
                self._stops.remove(stop)


class Engine(Protocol):
    """A network ready to run. Safe to call from several threads at once."""

    @property
    def spec(self) -> EngineSpec:
        """Its name and precision."""
        ...

    @property
    def digest(self) -> str:
        """The sha256 of the file that runs, hexadecimal."""
        ...

    def run(
        self, batch: npt.NDArray[np.float32], cancellation: Cancellation | None = None
    ) -> Probabilities:
        """Return float32 (n, channels, S, S) of a normalized float32 (n, bands, S, S).

        Cancelled when `cancellation` is used before or during the run.
        """
        ...
