"""Choosing an engine: the fastest that agrees, measured once, and never at the cost of a start."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model import autotune
from model.autotune import PROBE, Measurement, open_session
from model.engines import DEFAULT, Cancellation, Engine, EngineSpec, OnnxRuntimeEngine
from model.errors import ArtifactError, EngineError
from model.session import Session
from tests.model import make_probe
from tests.world import graphs

SHIPPED = Path(__file__).parents[2] / "model" / "weights" / "landcover.onnx"
FAST, FASTER = EngineSpec("openvino", "fp32"), EngineSpec("openvino", "bf16")


class Fake:
    """An engine that computes what ONNX Runtime does, some classes altered, and counts its runs."""

    def __init__(self, content: bytes, spec: EngineSpec, wrong: float = 0.0) -> None:
        self._own = OnnxRuntimeEngine(content)
        self.spec, self.digest, self.wrong = spec, self._own.digest, wrong

    def run(
        self, batch: npt.NDArray[np.float32], cancellation: Cancellation | None = None
    ) -> npt.NDArray[np.float32]:
        result = self._own.run(batch, cancellation).copy()
        # Away from the edges of the probe's windows, which are not compared.
        part = slice(40, 40 + round(self.wrong * result.shape[3]))
        result[:, 1:, :, part] = np.roll(result[:, 1:, :, part], 1, axis=1)
        return result


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return graphs.write_model(tmp_path / "landcover.onnx", "pixelwise")


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """offer({spec: (ratio, wrong)}): engines this machine seems to have; their creations."""

    def offered(engines: dict[EngineSpec, tuple[float, float]]) -> list[str]:
        created: list[str] = []

        def create(spec: EngineSpec, fp32: bytes, *_: object) -> Engine:
            created.append(str(spec))
            return Fake(fp32, spec, engines[spec][1])

        timed: dict[int, float] = {}

        def seconds(self: autotune.Tuner, session: Session) -> float:
            timed[id(session)] = timed.get(id(session), 0) + 1
            return 0.01 * (engines[session.engine.spec][0] if session.engine.spec != DEFAULT else 1)

        monkeypatch.setattr(autotune, "offered", lambda int8: list(engines))
        monkeypatch.setattr(autotune, "create", create)
        monkeypatch.setattr(autotune, "BUDGET_S", 60)
        monkeypatch.setattr(autotune.Tuner, "_time", seconds)
        return created

    return offered


def test_the_fastest_engine_that_agrees_is_taken(
    model: Path, offer: Callable[..., list[str]]
) -> None:
    offer({FAST: (0.8, 0.0), FASTER: (0.3, 0.004)})
    assert open_session(model).engine.spec == FASTER


def test_an_engine_whose_classes_differ_is_not_taken_however_fast(
    model: Path, offer: Callable[..., list[str]]
) -> None:
    offer({FAST: (0.8, 0.0), FASTER: (0.1, 0.02)})
    assert open_session(model).engine.spec == FAST


def test_an_engine_that_saves_next_to_nothing_is_not_taken(
    model: Path, offer: Callable[..., list[str]]
) -> None:
    offer({FAST: (0.96, 0.0)})
    assert open_session(model).engine.spec == DEFAULT


def test_without_another_engine_nothing_is_measured(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(autotune, "offered", lambda int8: [])
    monkeypatch.setattr(autotune.Tuner, "_time", pytest.fail)
    assert open_session(model, notes=tmp_path / "notes").engine.spec == DEFAULT
    assert not (tmp_path / "notes").exists()


def test_what_was_measured_is_remembered(
    model: Path, offer: Callable[..., list[str]], tmp_path: Path
) -> None:
    created = offer({FAST: (0.8, 0.0), FASTER: (0.3, 0.5)})
    assert open_session(model, notes=tmp_path / "notes").engine.spec == FAST
    assert created == ["openvino:fp32", "openvino:bf16", "openvino:fp32"]
    created.clear()
    assert open_session(model, notes=tmp_path / "notes").engine.spec == FAST
    assert created == ["openvino:fp32"]


@pytest.mark.parametrize("change", ["model", "processor", "library", "probe"])
def test_it_is_measured_anew_when_anything_it_depends_on_changes(
    change: str,
    model: Path,
    offer: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    created = offer({FAST: (0.8, 0.5)})
    open_session(model, notes=tmp_path / "notes")
    if change == "model":
        graphs.write_model(model, "pixelwise", graphs.card_of("pixelwise", version="2"))
    elif change == "processor":
        monkeypatch.setattr(autotune, "_processor", lambda: "another")
    elif change == "library":
        monkeypatch.setattr(autotune, "versions", lambda: {"openvino": "2099.1"})
    else:
        other = tmp_path / "probe.npz"
        with np.load(PROBE) as kept:
            np.savez(other, images=kept["images"][::-1], labels=kept["labels"][::-1])
        monkeypatch.setattr(autotune, "PROBE", other)
    created.clear()
    open_session(model, notes=tmp_path / "notes")
    assert created == ["openvino:fp32"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"openvino:fp32": {}}', '{"a": 1}'])
def test_notes_that_cannot_be_read_are_measured_anew(
    content: str, model: Path, offer: Callable[..., list[str]], tmp_path: Path
) -> None:
    offer({FAST: (0.8, 0.0)})
    open_session(model, notes=tmp_path / "notes")
    (kept,) = (tmp_path / "notes").iterdir()
    kept.write_text(content)
    assert open_session(model, notes=tmp_path / "notes").engine.spec == FAST
    assert json.loads(kept.read_text())["measured"]["openvino:fp32"]["ratio"] == 0.8


def test_notes_that_cannot_be_written_cost_nothing_but_the_memory(
    model: Path, offer: Callable[..., list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    offer({FAST: (0.8, 0.0)})
    (tmp_path / "file").write_text("")
    assert open_session(model, notes=tmp_path / "file").engine.spec == FAST
    assert "what was measured is not kept" in caplog.text


def test_a_start_is_never_delayed_by_more_than_the_budget(
    model: Path,
    offer: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer({FAST: (0.3, 0.0)})
    measure, go_on = autotune.Tuner._measure, threading.Event()

    def hanging(self: autotune.Tuner, session: Session, deadline: float) -> Measurement:
        assert go_on.wait(30)
        return measure(self, session, deadline)

    monkeypatch.setattr(autotune.Tuner, "_measure", hanging)
    monkeypatch.setattr(autotune, "BUDGET_S", 0.2)
    monkeypatch.setattr(autotune, "LONGEST_S", 0.5)
    began = time.monotonic()
    assert open_session(model, notes=tmp_path).engine.spec == DEFAULT
    assert time.monotonic() - began < 5
    go_on.set()
    # It is finished all the same, for the next start.
    while not list(tmp_path.glob("engines-*.json")):
        time.sleep(0.02)
    assert open_session(model, notes=tmp_path).engine.spec == FAST


@pytest.mark.parametrize("error", [EngineError("gone"), RuntimeError("broken"), MemoryError()])
def test_an_engine_that_fails_is_left_out_with_a_line_in_the_log(
    error: Exception,
    model: Path,
    offer: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    offer({FAST: (0.3, 0.0)})

    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(autotune, "create", failing)
    assert open_session(model).engine.spec == DEFAULT
    assert "openvino:fp32 does not work here" in caplog.text


def test_a_choice_that_fails_leaves_the_default(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(autotune, "offered", lambda int8: 1 / 0)
    assert open_session(model).engine.spec == DEFAULT
    assert "choosing another failed: division by zero" in caplog.text


def test_what_the_first_start_chose_every_later_one_takes(
    model: Path,
    offer: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    offer({FAST: (0.8, 0.0), FASTER: (0.3, 0.0)})

    def slow(self: autotune.Tuner, session: Session, deadline: float) -> Measurement:
        time.sleep(0.5)
        return Measurement(0.8 if session.engine.spec == FAST else 0.3, 1.0, 0.0)

    monkeypatch.setattr(autotune.Tuner, "_measure", slow)
    monkeypatch.setattr(autotune, "BUDGET_S", 0.2)
    monkeypatch.setattr(autotune, "LONGEST_S", 30.0)
    assert open_session(model, notes=tmp_path).engine.spec == FAST  # waited for, being the first
    assert "no time to measure openvino:bf16" in caplog.text
    monkeypatch.setattr(autotune, "BUDGET_S", 30.0)
    assert open_session(model, notes=tmp_path).engine.spec == FAST
    next(tmp_path.glob("engines-*.json")).unlink()
    assert open_session(model, notes=tmp_path).engine.spec == FASTER


def test_that_no_other_was_faster_is_kept_as_well(
    model: Path, offer: Callable[..., list[str]], tmp_path: Path
) -> None:
    offer({FAST: (1.1, 0.0)})
    assert open_session(model, notes=tmp_path).engine.spec == DEFAULT
    offer({FAST: (0.3, 0.0)})
    assert open_session(model, notes=tmp_path).engine.spec == DEFAULT


# ---- an engine that is named ----


def test_an_engine_that_is_named_is_taken(model: Path, offer: Callable[..., list[str]]) -> None:
    offer({FAST: (3.0, 0.0)})
    assert open_session(model, "openvino").engine.spec == FAST


def test_an_engine_that_is_named_and_disagrees_is_refused_with_both_figures(
    model: Path, offer: Callable[..., list[str]], tmp_path: Path
) -> None:
    offer({FASTER: (0.3, 0.25)})
    for _ in range(2):
        with pytest.raises(EngineError, match=r"openvino:bf16 gives 75.00 % .* \(limit 99.5 %\)"):
            open_session(model, "openvino:bf16", notes=tmp_path)


def test_the_default_is_never_measured(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune.Tuner, "_measure", pytest.fail)
    assert open_session(model, "onnxruntime").engine.spec == DEFAULT


def test_a_model_of_other_bands_is_run_unchecked_only_when_named(
    tmp_path: Path, offer: Callable[..., list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    card = graphs.card_of("pixelwise", bands=("nir", "red", "green", "blue"))
    model = graphs.write_model(tmp_path / "m.onnx", "pixelwise", card)
    offer({FAST: (0.3, 0.0)})
    assert open_session(model).engine.spec == DEFAULT
    assert open_session(model, "openvino").engine.spec == FAST
    assert "unchecked" in caplog.text


# ---- 8 bits ----


def test_an_8_bit_file_of_another_model_is_refused(model: Path) -> None:
    other = graphs.card_of("pixelwise", version="0.9")
    model.with_suffix(".int8.onnx").write_bytes(graphs.model_bytes("pixelwise", other))
    with pytest.raises(ArtifactError, match=r"landcover\.int8\.onnx is of another model"):
        open_session(model, "onnxruntime:int8")


def test_an_8_bit_file_beside_the_model_is_run(model: Path) -> None:
    changed = graphs.card_of("pixelwise", description="8-bit")
    content = graphs.model_bytes("pixelwise", changed)
    model.with_suffix(".int8.onnx").write_bytes(content)
    session = open_session(model, "onnxruntime:int8")
    assert str(session.engine.spec) == "onnxruntime:int8"
    assert session.card.description == ""
    assert session.identity.split() == [session.sha256, "onnxruntime:int8", session.engine.digest]
    assert session.engine.digest != session.sha256


def test_an_8_bit_file_that_is_badly_wrong_is_caught(model: Path) -> None:
    wrong = graphs.card_of("pixelwise")
    content = graphs.with_card(graphs.graph_of("undecided"), wrong)
    model.with_suffix(".int8.onnx").write_bytes(content)
    with pytest.raises(EngineError, match="onnxruntime:int8 gives"):
        open_session(model, "onnxruntime:int8")
    assert open_session(model).engine.spec.precision != "int8"


# ---- the probe ----


def test_the_probe_is_small_real_imagery_of_every_class() -> None:
    assert PROBE.stat().st_size <= 600_000
    with np.load(PROBE) as kept:
        images, labels = kept["images"], kept["labels"]
    assert images.shape == (8, 4, 144, 144)
    assert labels.shape == (8, 144, 144)
    assert (images.dtype, labels.dtype) == (np.uint8, np.uint8)
    counts = np.bincount(labels.ravel(), minlength=7)
    assert counts.size == 7
    assert counts[1:].min() > 1000


def test_the_shipped_model_is_right_on_most_of_the_probe() -> None:
    tuner: Any = autotune.Tuner(SHIPPED, Session.load(SHIPPED), 1, 1, None)
    assert tuner._accuracy(tuner._reference) > 0.7


@pytest.mark.real
def test_the_probe_is_what_its_script_writes(real_data: Path) -> None:
    images, labels = make_probe.probe_of(real_data)
    with np.load(PROBE) as kept:
        assert np.array_equal(kept["images"], images)
        assert np.array_equal(kept["labels"], labels)


def test_a_measurement_is_plain_json() -> None:
    each = Measurement(0.5, 0.999, 0.001)
    assert Measurement(**json.loads(json.dumps(asdict(each)))) == each
