"""A model file is what its card says, or it is refused with the reason."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model.card import ModelCard
from model.errors import ArtifactError, Cancelled, CardError, ImageError
from model.legend import LEGEND, Legend
from model.session import Cancellation, Session
from tests.world import graphs

FLOAT, DOUBLE, UINT8 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.UINT8
ANY = ("n", "rows", "cols")

OTHER_VALUES: dict[str, object] = {
    "name": "another",
    "version": "1.1",
    "description": "another",
    "bands": ("nir", "red", "green", "blue"),
    "mean": (0.42, 0.47, 0.40, 0.56),
    "std": (0.13, 0.18, 0.11, 0.22),
    "ground_resolution": 0.6,
    "halo": 48,
    "legend": Legend(
        classes=(LEGEND[1].model_copy(update={"color_hint": "FF0000"}), *LEGEND.classes[1:])
    ),
    "training": {"seed": 1},
    "accuracy": ({"name": "a", "description": "b", "contingency": ((1,) * 6,) * 6},),
    "license": "another",
    "attribution": "another",
}


def net(
    *,
    bands: int | str = 4,
    channels: int | str = 7,
    free: tuple[int | str, ...] = ANY,
    dtype: int = FLOAT,
    last: str = "Softmax",
    background: float = -1e4,
    stride: int = 1,
) -> onnx.ModelProto:
    """A 1 × 1 convolution with `last` after it, declared as the arguments say."""
    real_bands = bands if isinstance(bands, int) else 4
    real_channels = channels if isinstance(channels, int) else 7
    weights = np.linspace(-1, 1, real_channels * real_bands, dtype=np.float32)
    bias = np.zeros(real_channels, dtype=np.float32)
    bias[0] = background
    n, *sizes = free
    nodes = [
        helper.make_node("Conv", ["image", "weights", "bias"], ["logits"], strides=[stride] * 2),
        helper.make_node(last, ["logits"], ["out"], **({"axis": 1} if last == "Softmax" else {})),
    ]
    if dtype != FLOAT:
        nodes.insert(0, helper.make_node("Cast", ["raw"], ["image"], to=FLOAT))
    graph = helper.make_graph(
        nodes,
        "net",
        [
            helper.make_tensor_value_info(
                "image" if dtype == FLOAT else "raw", dtype, [n, bands, *sizes]
            )
        ],
        [
            helper.make_tensor_value_info(
                "out",
                FLOAT,
                [n, channels, *(sizes if stride == 1 else ("fewer_rows", "fewer_cols"))],
            )
        ],
        [
            numpy_helper.from_array(weights.reshape(real_channels, real_bands, 1, 1), "weights"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    return graphs.model_of(graph)


def many_ended(inputs: int, outputs: int) -> onnx.ModelProto:
    """A graph of several inputs or outputs, which are all alike."""
    model = net()
    if inputs == 2:
        extra = helper.make_tensor_value_info("more", FLOAT, ["n", 4, "rows", "cols"])
        model.graph.input.append(extra)
        model.graph.node[0].input[0] = "both"
        model.graph.node.insert(0, helper.make_node("Add", ["image", "more"], ["both"]))
    if outputs == 2:
        extra = helper.make_tensor_value_info("logits", FLOAT, ["n", 7, "rows", "cols"])
        model.graph.output.append(extra)
    return model


def flat() -> onnx.ModelProto:
    """An input of three dimensions."""
    model = net()
    three = helper.make_tensor_value_info("image", FLOAT, [4, "rows", "cols"])
    model.graph.input[0].CopyFrom(three)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    model.graph.node[0].input[0] = "batch"
    model.graph.node.insert(0, helper.make_node("Unsqueeze", ["image", "first"], ["batch"]))
    return model


def external(weights: str, *, in_node: bool = False) -> onnx.ModelProto:
    """A good graph whose weights lie in the file `weights` (7 × 4 float32)."""
    model = net()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", weights), ("offset", "0"), ("length", "112")):
        tensor.external_data.add(key=key, value=value)
    if in_node:
        constant = helper.make_node("Constant", [], ["weights"], value=tensor)
        del model.graph.initializer[0]
        model.graph.node.insert(0, constant)
    return model


def batch_of(seed: int, size: int = 64, count: int = 1) -> npt.NDArray[np.float32]:
    shape = (count, 4, size, size)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ---- the file and its cards ----


@pytest.mark.parametrize("kind", graphs.KINDS)
def test_a_file_that_agrees_with_its_card_is_loaded(kind: graphs.Kind, tmp_path: Path) -> None:
    path = graphs.write_model(tmp_path / "a.onnx", kind)
    session = Session.load(path)
    assert session.card == graphs.card_of(kind, sha256=session.sha256)
    assert session.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_card_inside_is_enough(tmp_path: Path) -> None:
    path = graphs.write_model(tmp_path / "a.onnx")
    ModelCard.path_beside(path).unlink()
    assert Session.load(path).card == graphs.card_of("pixelwise")


def test_a_file_altered_after_its_card_was_written_is_refused(tmp_path: Path) -> None:
    path = graphs.write_model(tmp_path / "a.onnx")
    altered = graphs.with_card(net(), graphs.card_of("pixelwise"))
    path.write_bytes(altered)
    with pytest.raises(ArtifactError, match=hashlib.sha256(altered).hexdigest()) as refusal:
        Session.load(path)
    assert str(path) in str(refusal.value)


def test_a_digest_of_another_file_is_refused() -> None:
    content = graphs.model_bytes("pixelwise")
    with pytest.raises(ArtifactError, match=f"{hashlib.sha256(content).hexdigest()}.*{'0' * 64}"):
        Session(content, graphs.card_of("pixelwise", sha256="0" * 64))


def test_every_field_of_the_card_is_tried() -> None:
    assert set(OTHER_VALUES) == set(ModelCard.model_fields) - {"sha256"}


@pytest.mark.parametrize("field", OTHER_VALUES)
def test_a_card_beside_that_disagrees_in_any_field_is_refused(field: str, tmp_path: Path) -> None:
    path = graphs.write_model(tmp_path / "a.onnx")
    other = graphs.card_of("pixelwise", **{field: OTHER_VALUES[field]})
    ModelCard.path_beside(path).write_text(other.model_dump_json())
    with pytest.raises(ArtifactError, match=rf"disagrees.*\['{field}'\]"):
        Session.load(path)


def test_a_file_without_a_card_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(graphs.with_card(net(), None))
    for text in (None, graphs.card_of("pixelwise").model_dump_json()):
        if text:
            ModelCard.path_beside(path).write_text(text)
        with pytest.raises(ArtifactError, match=r"no card \(metadata key landcover:card\)"):
            Session.load(path)


@pytest.mark.parametrize("text", ["", "not json", "{}", '{"name": "a", "version": "1", "mean": 3}'])
def test_a_bad_card_inside_is_refused_by_name_of_the_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(graphs.with_card(net(), text))
    with pytest.raises(CardError, match="landcover:card: ") as refusal:
        Session.load(path)
    assert str(path) in str(refusal.value)


def test_a_bad_card_beside_is_refused_by_name(tmp_path: Path) -> None:
    path = graphs.write_model(tmp_path / "a.onnx")
    ModelCard.path_beside(path).write_text("{}")
    with pytest.raises(CardError, match=r"a\.card\.json: "):
        Session.load(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.onnx: No such file"):
        Session.load(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b"not a model", b"PK\x03\x04" * 9, graphs.model_bytes("pixelwise")[:-200]],
    ids=["empty", "zero", "text", "zip", "cut"],
)
def test_bytes_that_are_no_model_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.onnx: "):
        Session.load(path)


# ---- weights in other files ----


@pytest.mark.parametrize("in_node", [False, True], ids=["initializer", "constant"])
@pytest.mark.parametrize("where", ["weights.bin", "../weights.bin", "absolute"])
def test_weights_in_other_files_are_refused_even_when_they_are_there(
    where: str, in_node: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    data = np.linspace(-1, 1, 28, dtype=np.float32).tobytes()
    (folder / "weights.bin").write_bytes(data)
    (tmp_path / "weights.bin").write_bytes(data)
    location = str(folder / "weights.bin") if where == "absolute" else where
    content = graphs.with_card(external(location, in_node=in_node), graphs.card_of())
    (folder / "a.onnx").write_bytes(content)
    monkeypatch.chdir(folder)
    with pytest.raises(ArtifactError, match=r"a\.onnx: "):
        Session.load(folder / "a.onnx")
    with pytest.raises(ArtifactError):
        Session(content)


def test_weights_in_other_files_are_named_as_the_reason(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(112))
    (tmp_path / "a.onnx").write_bytes(graphs.with_card(external("weights.bin"), graphs.card_of()))
    with pytest.raises(ArtifactError, match="external data"):
        Session.load(tmp_path / "a.onnx")


def test_the_same_weights_in_the_file_are_accepted() -> None:
    """The oracle of the two tests above: only where the weights lie is wrong there."""
    assert Session(graphs.with_card(net(), graphs.card_of())).card.channels == 7


# ---- the graph ----


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (net(bands=3), "input has 3 channels, its card asks for 4"),
        (net(bands=5), "input has 5 channels, its card asks for 4"),
        (net(bands="bands"), "input has bands channels, its card asks for 4"),
        (net(channels=6), "output has 6 channels, its card asks for 7"),
        (net(channels=8), "output has 8 channels, its card asks for 7"),
        (net(dtype=DOUBLE), r"input is tensor\(double\)"),
        (net(dtype=UINT8), r"input is tensor\(uint8\)"),
        (flat(), r"input is tensor\(float\) \[4, 'rows', 'cols'\]"),
        (net(free=(1, "rows", "cols")), "fixed sizes"),
        (net(free=("n", 64, "cols")), "fixed sizes"),
        (net(free=("n", "rows", 64)), "fixed sizes"),
        (net(free=(1, 576, 576)), r"fixed sizes \[1, 4, 576, 576\]"),
        (many_ended(2, 1), "2 inputs and 1 outputs"),
        (many_ended(1, 2), "1 inputs and 2 outputs"),
        (net(stride=2), r"a 64 px window gives \(1, 7, 32, 32\)"),
        (net(background=0.0), "predicts background"),
        (net(last="Relu"), "does not sum to 1"),
        (net(last="Log"), "background|sum to 1"),
    ],
)
def test_a_graph_that_is_not_what_its_card_says_is_refused(
    model: onnx.ModelProto, reason: str
) -> None:
    with pytest.raises(ArtifactError, match=reason):
        Session(graphs.with_card(model, graphs.card_of()))


def test_a_card_of_fewer_classes_is_refused() -> None:
    card = graphs.card_of(legend=Legend(classes=LEGEND.classes[:5]))
    with pytest.raises(ArtifactError, match="output has 7 channels, its card asks for 6"):
        Session(graphs.model_bytes("pixelwise"), card)


# ---- running it ----


@pytest.mark.parametrize("kind", ["pixelwise", "neighborhood", "undecided"])
def test_probabilities_are_those_computed_by_hand(kind: graphs.Kind) -> None:
    image = np.random.default_rng(1).integers(0, 256, (4, 96, 96), dtype=np.uint8)
    mean, std = np.array(graphs.MEAN)[:, None, None], np.array(graphs.STD)[:, None, None]
    batch = ((image / 255 - mean) / std).astype(np.float32)[None]
    (probabilities,) = Session(graphs.model_bytes(kind)).predict(batch)
    by_hand = graphs.probabilities_by_hand(kind, image)
    assert probabilities.dtype == np.float32
    assert np.allclose(probabilities, by_hand, atol=1e-5)
    assert not probabilities[0].any()


def test_every_image_of_a_batch_is_on_its_own(neighborhood: Session) -> None:
    batch = batch_of(0, count=3)
    together = neighborhood.predict(batch)
    alone = np.concatenate([neighborhood.predict(batch[i : i + 1]) for i in range(3)])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize(
    "shape",
    [
        (4, 64, 64),
        (1, 4, 63, 64),
        (1, 4, 64, 65),
        (1, 3, 64, 64),
        (1, 5, 64, 64),
        (1, 1, 4, 64, 64),
    ],
)
def test_a_batch_of_the_wrong_shape_is_refused(shape: tuple[int, ...], pixelwise: Session) -> None:
    with pytest.raises(ImageError, match=r"multiple of 16, got \(" + str(shape)[1:-1]):
        pixelwise.predict(np.zeros(shape, np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.float16])
def test_a_batch_of_the_wrong_dtype_is_refused(dtype: Any, pixelwise: Session) -> None:  # noqa: ANN401
    with pytest.raises(ImageError, match=np.dtype(dtype).name):
        pixelwise.predict(np.zeros((1, 4, 64, 64), dtype))


def test_threads_that_share_a_session_get_what_each_would_get_alone(
    neighborhood: Session,
) -> None:
    batches = [batch_of(seed, size=16 * (4 + seed % 3)) for seed in range(24)]
    alone = [neighborhood.predict(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(neighborhood.predict, batches))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


# ---- stopping it ----


def test_a_long_run_is_stopped_from_another_thread(slow: Session) -> None:
    batch = batch_of(0, 384)
    started = time.monotonic()
    whole = slow.predict(batch)
    full = time.monotonic() - started

    cancellation = Cancellation()
    timer = threading.Timer(min(0.1, full / 8), cancellation.cancel)
    started = time.monotonic()
    timer.start()
    with pytest.raises(Cancelled, match="during the run"):
        slow.predict(batch, cancellation)
    assert time.monotonic() - started < full
    timer.join()

    assert np.array_equal(slow.predict(batch, Cancellation()), whole)


def test_a_stopped_run_stops_no_other(slow: Session) -> None:
    batch = batch_of(0, 384)
    stopped, other = Cancellation(), Cancellation()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(slow.predict, batch, stopped)
        second = pool.submit(slow.predict, batch, other)
        time.sleep(0.05)
        stopped.cancel()
        with pytest.raises(Cancelled):
            first.result()
        assert second.result().shape == (1, 7, 384, 384)


def test_a_cancellation_once_used_stops_every_later_run(pixelwise: Session) -> None:
    cancellation = Cancellation()
    assert pixelwise.predict(batch_of(0), cancellation).shape == (1, 7, 64, 64)
    cancellation.cancel()
    for _ in range(2):
        with pytest.raises(Cancelled, match="before the run"):
            pixelwise.predict(batch_of(0), cancellation)
    assert pixelwise.predict(batch_of(0)).shape == (1, 7, 64, 64)


def test_loading_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    Session(graphs.model_bytes("pixelwise"))
    with pytest.raises(ArtifactError):
        Session(b"not a model")
    assert not os.listdir(tmp_path)
