"""Engines: whoever runs the network, classes, cancellation and errors are the same."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from model import engines
from model.engines import DEFAULT, Cancellation, Engine, EngineSpec
from model.errors import ArtifactError, Cancelled, EngineError
from model.session import Session
from tests.world import graphs

SHIPPED = Path(__file__).parents[2] / "model" / "weights" / "landcover.onnx"


@pytest.fixture(params=["onnxruntime:fp32", "openvino:fp32"])
def spec(request: pytest.FixtureRequest) -> EngineSpec:
    """Every engine that can run here in fp32."""
    spec = EngineSpec.parse(request.param)
    if spec.name == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    return spec


def engine_of(spec: EngineSpec, kind: graphs.Kind, streams: int = 1) -> Engine:
    return engines.create(spec, graphs.model_bytes(kind), None, streams=streams)


def batch_of(seed: int, size: int = 64, count: int = 1) -> npt.NDArray[np.float32]:
    shape = (count, 4, size, size)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


# ---- names ----


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("onnxruntime", "onnxruntime:fp32"),
        ("openvino:bf16", "openvino:bf16"),
        ("cuda:fp32", "cuda:fp32"),
    ],
)
def test_an_engine_is_written_name_colon_precision(text: str, shown: str) -> None:
    assert str(EngineSpec.parse(text)) == shown


@pytest.mark.parametrize("text", ["", "auto", "openvino:fp16", "tensorrt", "openvino:int8:x"])
def test_an_unknown_engine_is_refused_by_name(text: str) -> None:
    with pytest.raises(EngineError, match=rf"engine {text!r} is unknown: one of onnxruntime"):
        EngineSpec.parse(text)


@pytest.mark.parametrize("name", ["onnxruntime", "cuda"])
def test_what_onnx_runtime_cannot_do_here_is_refused(name: str) -> None:
    with pytest.raises(EngineError, match=name):
        engines.create(EngineSpec.parse(f"{name}:bf16"), graphs.model_bytes("pixelwise"), None)


def test_int8_needs_its_file() -> None:
    with pytest.raises(EngineError, match=r"openvino:int8 needs <name>.int8.onnx beside"):
        engines.create(EngineSpec.parse("openvino:int8"), graphs.model_bytes("pixelwise"), None)


def test_openvino_refuses_a_precision_the_processor_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("model.engines.openvino_cpu.openvino_capabilities", lambda: ("fp32",))
    with pytest.raises(EngineError, match="this processor has no bf16; OpenVINO offers fp32"):
        engines.OpenVinoEngine(graphs.model_bytes("pixelwise"), "bf16")


def test_openvino_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.engines.openvino_cpu.openvino_capabilities", tuple)
    with pytest.raises(EngineError, match=r"pip install 'landcover\[openvino\]'"):
        engines.OpenVinoEngine(graphs.model_bytes("pixelwise"))


def test_what_is_offered_can_be_created() -> None:
    for spec in engines.offered(int8=False):
        assert engine_of(spec, "pixelwise").spec == spec


def test_a_file_that_is_no_model_is_refused(spec: EngineSpec) -> None:
    with pytest.raises(ArtifactError, match="cannot load it"):
        engines.create(spec, b"not a model", None)


# ---- what they compute ----


@pytest.mark.parametrize("kind", ["pixelwise", "neighborhood"])
@pytest.mark.parametrize(("size", "count"), [(64, 1), (16, 3), (208, 1)])
def test_every_engine_computes_the_same(
    spec: EngineSpec, kind: graphs.Kind, size: int, count: int
) -> None:
    batch = batch_of(1, size, count)
    expected = engine_of(DEFAULT, kind).run(batch)
    result = engine_of(spec, kind).run(batch)
    assert result.dtype == np.float32
    assert result.shape == (count, 7, size, size)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_results_do_not_share_memory_with_a_later_run(spec: EngineSpec) -> None:
    engine = engine_of(spec, "pixelwise")
    first = engine.run(batch_of(1))
    kept = first.copy()
    engine.run(batch_of(2))
    assert np.array_equal(first, kept)


def test_threads_that_share_an_engine_get_what_each_would_get_alone(spec: EngineSpec) -> None:
    engine = engine_of(spec, "neighborhood", streams=2)
    batches = [batch_of(seed, size=16 * (4 + seed % 3)) for seed in range(24)]
    alone = [engine.run(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(engine.run, batches))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_session_run_by_another_engine_is_the_same_model(spec: EngineSpec) -> None:
    session = Session(graphs.model_bytes("neighborhood"))
    other = session.with_engine(engine_of(spec, "neighborhood"))
    assert (other.card, other.sha256) == (session.card, session.sha256)
    np.testing.assert_allclose(other.predict(batch_of(3)), session.predict(batch_of(3)), atol=1e-5)


def test_the_identity_names_every_engine_but_the_default(spec: EngineSpec) -> None:
    session = Session(graphs.model_bytes("pixelwise"))
    assert session.identity == session.sha256
    other = session.with_engine(engine_of(spec, "pixelwise"))
    named = f"{session.sha256} {spec} {session.sha256}"
    assert other.identity == (session.sha256 if spec == DEFAULT else named)


def test_an_engine_that_computes_no_probabilities_is_refused() -> None:
    class Doubling:
        spec, digest = EngineSpec("openvino", "int8"), "0" * 64

        def run(
            self, batch: npt.NDArray[np.float32], cancellation: Cancellation | None = None
        ) -> npt.NDArray[np.float32]:
            doubled: npt.NDArray[np.float32] = 2 * own.run(batch, cancellation)
            return doubled

    own = engine_of(DEFAULT, "pixelwise")
    with pytest.raises(ArtifactError, match="does not sum to 1"):
        Session(graphs.model_bytes("pixelwise")).with_engine(Doubling())


def test_the_shipped_model_has_the_same_classes_in_fp32(spec: EngineSpec) -> None:
    session = Session.load(SHIPPED)
    with np.load(SHIPPED.parents[1] / "probe" / "naip.npz") as kept:
        image = kept["images"][0].astype(np.float32)[None] / 128 - 1
    expected = session.predict(image)
    result = session.with_engine(engines.create(spec, SHIPPED.read_bytes(), None)).predict(image)
    assert (result.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9999


# ---- stopping them ----


def test_a_long_run_is_stopped_within_one_operator(spec: EngineSpec) -> None:
    engine, batch = engine_of(spec, "slow"), batch_of(0, 272)
    engine.run(batch)
    started = time.monotonic()
    whole = engine.run(batch)
    full = time.monotonic() - started

    cancellation = Cancellation()
    timer = threading.Timer(full / 8, cancellation.cancel)
    started = time.monotonic()
    timer.start()
    with pytest.raises(Cancelled, match="during the run"):
        engine.run(batch, cancellation)
    assert time.monotonic() - started < full * 0.75
    timer.join()
    assert np.array_equal(engine.run(batch, Cancellation()), whole)


def test_a_stopped_run_stops_no_other(spec: EngineSpec) -> None:
    engine, batch = engine_of(spec, "slow", streams=2), batch_of(0, 272)
    expected = engine.run(batch)
    stopped, other = Cancellation(), Cancellation()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(engine.run, batch, stopped)
        second = pool.submit(engine.run, batch, other)
        time.sleep(0.05)
        stopped.cancel()
        with pytest.raises(Cancelled):
            first.result()
        assert np.array_equal(second.result(), expected)


def test_one_cancellation_stops_every_run_that_holds_it(spec: EngineSpec) -> None:
    engine, batch = engine_of(spec, "slow", streams=2), batch_of(0, 272)
    engine.run(batch)
    cancellation = Cancellation()
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(engine.run, batch, cancellation) for _ in range(3)]
        time.sleep(0.05)
        cancellation.cancel()
        for run in runs:
            with pytest.raises(Cancelled):
                run.result()
    with pytest.raises(Cancelled, match="before the run"):
        engine.run(batch, cancellation)


def test_a_cancellation_after_the_run_disturbs_no_later_run(spec: EngineSpec) -> None:
    engine, batch = engine_of(spec, "slow"), batch_of(0, 208)
    cancellation = Cancellation()
    expected = engine.run(batch, cancellation)
    with ThreadPoolExecutor(1) as pool:
        later = pool.submit(engine.run, batch)
        cancellation.cancel()
        assert np.array_equal(later.result(), expected)


def test_stopped_runs_leave_runs_of_other_shapes_alone(spec: EngineSpec) -> None:
    """The shipped network has skip connections, so the sizes of its layers must fit each other."""
    engine = engines.create(spec, SHIPPED.read_bytes(), None, streams=2)
    shapes = [(1, 4, 192, 192), (1, 4, 192, 320), (1, 4, 320, 320)]
    batches = [np.random.default_rng(0).random(shape, dtype=np.float32) for shape in shapes]
    expected = [engine.run(batch) for batch in batches]
    began = time.monotonic()
    for batch in batches:
        engine.run(batch)
    usual = (time.monotonic() - began) / len(batches)

    def run(step: int) -> bool:
        """Whether the run is whole or was stopped; every other one is, at some moment of it."""
        cancellation = Cancellation()
        timer = threading.Timer(usual * (step % 7 + 1) / 8, cancellation.cancel)
        if step % 2:
            timer.start()
        try:
            return np.array_equal(engine.run(batches[step % 3], cancellation), expected[step % 3])
        except Cancelled:
            return step % 2 == 1
        finally:
            timer.cancel()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, range(24))) == [True] * 24


def test_a_cancellation_at_any_moment_stops_the_run_or_leaves_it_whole(spec: EngineSpec) -> None:
    engine, batch = engine_of(spec, "neighborhood"), batch_of(0, 208)
    expected = engine.run(batch)
    for step in range(20):
        cancellation = Cancellation()
        timer = threading.Timer(step / 2000, cancellation.cancel)
        timer.start()
        with suppress(Cancelled):
            assert np.array_equal(engine.run(batch, cancellation), expected)
        timer.join()
    assert np.array_equal(engine.run(batch), expected)


# ---- what else they do ----


def test_openvino_sends_nothing_to_anybody() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    script = """
import socket, sys, threading
def never(*args): raise SystemExit(f"a socket was used: {args}")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = never
from model.engines import offered, create, EngineSpec
from tests.world import graphs
create(EngineSpec("openvino"), graphs.model_bytes("pixelwise"), None)
assert not sys.modules.get("openvino_telemetry")
assert not [t for t in threading.enumerate() if t is not threading.main_thread()]
print("silent")
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "silent", done.stderr


def test_openvino_gives_the_memory_of_shapes_back_and_says_the_same_after_it() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    engine = engines.OpenVinoEngine(graphs.model_bytes("neighborhood"))
    shapes = [(1, 4, rows, cols) for rows in (704, 1216) for cols in (704, 1216)]
    random = np.random.default_rng(5)
    batches = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    first = [engine.run(batch) for batch in batches]
    again = [engine.run(batch) for batch in batches]
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    holding = [each.pixels for each in engine._compiled.values() if each.holds_memory]
    assert holding == [1216 * 1216]
