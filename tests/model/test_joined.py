"""Joined windows: neighboring blocks in one window are, to the last bit, the blocks alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model import engines
from model.engines import EngineSpec
from model.errors import Cancelled, ImageError
from model.legend import NODATA
from model.segment import Segmentation, segment_blocks, segment_window
from model.session import Cancellation, Session
from model.windows import BLOCK
from tests.world import graphs

SHIPPED = Path(__file__).parents[2] / "model" / "weights" / "landcover.onnx"

Image = npt.NDArray[np.uint8]
Valid = npt.NDArray[np.bool_]


@pytest.fixture(scope="module")
def wide() -> Session:
    """A network that looks 31 px around a pixel, its halo 32."""
    return Session(graphs.model_bytes("neighborhood"))


@pytest.fixture
def inferred(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(rows, cols) of every window that is inferred of imagery."""
    sizes: list[tuple[int, int]] = []
    predict = Session.predict

    def counted(self: Session, batch: Any, *args: Any) -> Any:  # noqa: ANN401
        if batch.shape[-1] >= BLOCK:
            sizes.append(batch.shape[2:])
        return predict(self, batch, *args)

    monkeypatch.setattr(Session, "predict", counted)
    return sizes


def imagery(session: Session, rows: int, cols: int, seed: int = 0) -> tuple[Image, Valid]:
    """Gray noise whose mean wanders, so that every class occurs."""
    edge = 2 * session.card.halo
    shape = rows * BLOCK + edge, cols * BLOCK + edge
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (4, -(-shape[0] // 64), -(-shape[1] // 64)))
    smooth = np.kron(coarse, np.ones((64, 64), int))[:, : shape[0], : shape[1]]
    image = (smooth + rng.integers(0, 56, (4, *shape))).astype(np.uint8)
    return image, np.ones(shape, dtype=np.bool_)


def alone(session: Session, image: Image, valid: Valid, rows: int, cols: int) -> list[Segmentation]:
    size = session.card.window
    parts = [
        (slice(row * BLOCK, row * BLOCK + size), slice(col * BLOCK, col * BLOCK + size))
        for row in range(rows)
        for col in range(cols)
    ]
    return [segment_window(session, image[:, *part].copy(), valid[part].copy()) for part in parts]


def differing(a: Segmentation, b: Segmentation) -> int:
    classes, confidence = a.classes != b.classes, a.confidence != b.confidence
    return int(classes.sum() + confidence.sum())


@pytest.mark.parametrize(("rows", "cols"), [(1, 2), (2, 1), (2, 2)])
def test_joined_blocks_are_the_blocks_alone(
    wide: Session, inferred: list[tuple[int, int]], rows: int, cols: int
) -> None:
    image, valid = imagery(wide, rows, cols)
    joined = segment_blocks(wide, image, valid, rows, cols)
    assert inferred == [valid.shape]
    singles = alone(wide, image, valid, rows, cols)
    assert len({int(value) for part in singles for value in np.unique(part.classes)}) > 2
    assert [differing(a, b) for a, b in zip(joined, singles, strict=True)] == [0] * rows * cols


@pytest.mark.parametrize("edge", ["none", "south", "east", "corner", "hole", "collar", "empty"])
def test_where_imagery_ends_joined_blocks_are_the_blocks_alone(wide: Session, edge: str) -> None:
    image, valid = imagery(wide, 2, 2, seed=1)
    # What lies outside the data must not matter, nor may a mirror reach farther when joined.
    if edge == "south":
        valid[900:] = False
    elif edge == "east":
        valid[:, 560:] = False
    elif edge == "corner":
        valid[:600, :600] = False
    elif edge == "hole":
        valid[500:620, 500:620] = False
    elif edge == "collar":
        rows, cols = np.indices(valid.shape)
        valid &= np.abs(rows - cols) < 700
    elif edge == "empty":
        valid[:] = False
    image[:, ~valid] = 0
    joined = segment_blocks(wide, image, valid, 2, 2)
    singles = alone(wide, image, valid, 2, 2)
    assert [differing(a, b) for a, b in zip(joined, singles, strict=True)] == [0] * 4
    assert all((part.classes == NODATA).any() for part in joined) or edge != "empty"


def test_blocks_without_data_are_not_paid_for(
    wide: Session, inferred: list[tuple[int, int]]
) -> None:
    image, valid = imagery(wide, 2, 2)
    valid[: 512 + 32] = False
    segment_blocks(wide, image, valid, 2, 2)
    assert inferred == [(576, 576), (576, 576)]


def test_a_network_that_sees_beyond_its_halo_is_never_joined(
    inferred: list[tuple[int, int]],
) -> None:
    narrow = Session(graphs.model_bytes("neighborhood", graphs.card_of("neighborhood", halo=16)))
    assert not narrow.halo_covers_reach
    image, valid = imagery(narrow, 1, 2)
    joined = segment_blocks(narrow, image, valid, 1, 2)
    assert inferred == [(544, 544)] * 2
    singles = alone(narrow, image, valid, 1, 2)
    assert [differing(a, b) for a, b in zip(joined, singles, strict=True)] == [0, 0]


@pytest.mark.parametrize(
    ("kind", "halo", "covers"),
    [("pixelwise", 0, True), ("neighborhood", 32, True), ("neighborhood", 0, False)],
)
def test_whether_the_halo_covers_the_reach_is_measured(
    kind: graphs.Kind, halo: int, covers: bool
) -> None:
    session = Session(graphs.model_bytes(kind, graphs.card_of(kind, halo=halo)))
    assert session.halo_covers_reach is covers


def test_a_window_of_the_wrong_size_is_refused(wide: Session) -> None:
    image, valid = imagery(wide, 1, 2)
    with pytest.raises(ImageError, match=r"2 × 1 blocks must be 1088 × 576 pixels, got"):
        segment_blocks(wide, image, valid, 2, 1)


def test_joined_blocks_are_cancelled_together(wide: Session) -> None:
    image, valid = imagery(wide, 1, 2)
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        segment_blocks(wide, image, valid, 1, 2, cancellation)


@pytest.mark.real
@pytest.mark.parametrize("name", ["onnxruntime:fp32", "openvino:fp32"])
@pytest.mark.slow
def test_no_pixel_of_real_imagery_differs(
    real_data: Path, name: str, inferred: list[tuple[int, int]]
) -> None:
    import rasterio

    spec, session = EngineSpec.parse(name), Session.load(SHIPPED)
    if spec.name == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
        session = session.with_engine(engines.create(spec, SHIPPED.read_bytes(), None))
    first, second, *_ = sorted((real_data / "naip" / "southwest_1m").glob("*.tif"))
    pixels = []
    for path in (first, second):
        with rasterio.open(path) as dataset:
            pixels.append(dataset.read((1, 2, 3, 4))[:, :704, :608])
    image = np.concatenate(pixels, axis=2)
    valid = np.ones(image.shape[1:], dtype=np.bool_)
    joined = segment_blocks(session, image, valid, 1, 2)
    assert inferred == [(704, 1216)]
    singles = alone(session, image, valid, 1, 2)
    assert [differing(a, b) for a, b in zip(joined, singles, strict=True)] == [0, 0]
