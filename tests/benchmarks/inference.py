"""The network against the best matrix product of the same number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx

from model.cores import available_cores
from model.session import Session
from tests.benchmarks.report import Finding, paired

GEMM = 1536


def flops_of(path: Path, size: int) -> int:
    """Floating-point operations (2 per multiply-add) of the convolutions for one window."""
    graph = onnx.load(str(path))
    dims = graph.graph.input[0].type.tensor_type.shape.dim
    for dim, value in zip(dims, (1, 4, size, size), strict=True):
        dim.ClearField("dim_param")
        dim.dim_value = value
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(graph).graph.value_info
    }
    weights = {w.name: list(w.dims) for w in graph.graph.initializer}
    total = 0
    for node in graph.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        first, second, height, width = weights[node.input[1]]
        rows, cols = shapes[node.output[0]][2:]
        # A transposed convolution spends its kernel on every input pixel, not every output pixel.
        pixels = rows * cols if node.op_type == "Conv" else rows * cols // (height * width)
        total += 2 * first * second * height * width * pixels
    return total


def measure(model: Path) -> list[Finding]:
    """One finding per thread count: one thread, and every core with a window each."""
    session = Session.load(model, threads=1)
    size = session.card.window
    window = np.random.default_rng(0).standard_normal((1, 4, size, size)).astype(np.float32)
    matrix = np.random.default_rng(1).standard_normal((GEMM, GEMM)).astype(np.float32)
    flops, gemm_flops, repeats = flops_of(model, size), 2 * GEMM**3, 4
    findings = []
    for threads in sorted({1, available_cores()}):
        with ThreadPoolExecutor(threads) as pool:

            def infer(pool: ThreadPoolExecutor = pool, threads: int = threads) -> None:
                list(pool.map(lambda _: session.predict(window), range(threads)))

            def multiply(pool: ThreadPoolExecutor = pool, threads: int = threads) -> None:
                list(pool.map(lambda _: [matrix @ matrix for _ in range(repeats)], range(threads)))

            share, gemm_s, infer_s = paired(multiply, infer)
        rate = flops * threads / infer_s / 1e9
        best = gemm_flops * repeats * threads / gemm_s / 1e9
        findings.append(
            Finding(
                f"inference throughput ÷ sgemm, {threads} thread{'s' * (threads > 1)}",
                share * flops / (gemm_flops * repeats),
                0.85,
                True,
                f"{rate:.0f} of {best:.0f} GFLOP/s; {infer_s / threads * 1000:.0f} ms per window",
            )
        )
    return findings
