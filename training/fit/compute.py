"""Where and how a run computes: on which device, with how many threads, in which precision.

Which is fastest depends on the processor and on what else runs on it (at two threads beside other
work a step in bfloat16 took 17 times as long as in float32 on one thread), so a run measures it at
its start, and records what it took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch

from model.cores import available_cores
from training.config import Precision
from training.errors import ComputeError
from training.progress import Log

Device = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)

STEPS = 3
"""Steps that are timed of each candidate, after one that is not."""

PATIENCE = 3.0
"""A candidate whose first step takes this many times the best one's is not timed further."""


@dataclass(frozen=True)
class Compute:
    """What a run computes with."""

    device: str = "cpu"
    threads: int = 1
    precision: str = "float32"

    def __str__(self) -> str:
        """Return it in words."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.device}, {threads}, {self.precision}"

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return asdict(self)


@dataclass(frozen=True)
class ComputeRequest:
    """What the user leaves open. `threads` None: as many as are fastest; device `auto`: the GPU
    where there is one."""

    device: Device = "auto"
    threads: int | None = None
    precision: Precision = "auto"


def request_of(device: str, threads: int | None) -> ComputeRequest:
    """Return the request of a command's options; ComputeError for an unknown device."""
    for known in DEVICES:
        if device == known:
            return ComputeRequest(known, threads)
    raise ComputeError(f"device {device!r} is not one of {', '.join(DEVICES)}")


def candidates(request: ComputeRequest) -> list[Compute]:
    """Return what this machine offers of a request, the most promising last; ComputeError when it
    has no such device."""
    cuda = torch.cuda.is_available()
    if request.device == "cuda" and not cuda:
        raise ComputeError("this machine or installation of torch has no CUDA device")
    device = "cuda" if cuda and request.device != "cpu" else "cpu"
    cores = available_cores()
    threads = (
        [request.threads] if request.threads else sorted({1, cores} if device == "cpu" else {cores})
    )
    precisions: list[str] = [request.precision]
    if request.precision == "auto":
        precisions = ["float32", *(["bfloat16"] if has_bfloat16(device) else [])]
    return [Compute(device, t, p) for p in precisions for t in threads]


def has_bfloat16(device: str) -> bool:
    """Return whether the device computes products in bfloat16 itself; without, it only pretends."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in known)


def fastest(
    offered: list[Compute], trial: Callable[[Compute], Callable[[], object]], log: Log
) -> Compute:
    """Return the candidate whose steps take least time. `trial` returns, for a candidate, a
    function that does one step. A single candidate is taken unmeasured.
    """
    if len(offered) == 1:
        return offered[0]
    best, shortest = offered[0], float("inf")
    for each in offered:
        torch.set_num_threads(each.threads)
        step = trial(each)
        times = [_timed(step, each)]
        if times[0] < PATIENCE * shortest:
            times = [_timed(step, each) for _ in range(STEPS)]
        log(f"{each}: {min(times):.3f} s/step")
        if min(times) < shortest:
            best, shortest = each, min(times)
    return best


def _timed(step: Callable[[], object], compute: Compute) -> float:
    began = time.perf_counter()
    step()
    if compute.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
