"""Segmentation is the network's answer at every valid pixel, however the image is cut."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model.errors import Cancelled, ImageError
from model.segment import Segmentation, probabilities_of, segment, segment_window
from model.session import Cancellation, Session
from tests.world import graphs, ground

Image = npt.NDArray[np.uint8]
Valid = npt.NDArray[np.bool_]

COL, ROW = 502_700, 6_351_400
SIZES = [(1, 1), (16, 1), (1, 513), (97, 211), (307, 521), (511, 511), (512, 512), (513, 513)]
"""(rows, cols): around a block, primes, long and thin."""


def land(rows: int, cols: int) -> Image:
    return ground.on_grid(COL, ROW, cols, rows)


def all_valid(rows: int, cols: int) -> Valid:
    return np.ones((rows, cols), dtype=np.bool_)


def window_of(session: Session) -> tuple[Image, Valid]:
    """A window of ground, all valid."""
    size = session.card.window
    return land(size, size), all_valid(size, size)


def session_of(kind: graphs.Kind, **changes: Any) -> Session:  # noqa: ANN401
    return Session(graphs.model_bytes(kind, graphs.card_of(kind, **changes)))


def constant(*logits: float) -> Session:
    """A session that answers the same everywhere: `logits` of classes 1 to 6."""
    model = graphs.graph_of("undecided")
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
    bias.raw_data = np.array([-1e4, *logits], np.float32).tobytes()
    return Session(graphs.with_card(model, graphs.card_of()))


def seen_whole(image: Image) -> npt.NDArray[np.float64]:
    """`neighborhood` by hand on the whole image at once, mirrored beyond its border."""
    halo = graphs.REACH + 1
    beyond = np.pad(image, ((0, 0), (halo, halo), (halo, halo)), mode="reflect")
    return graphs.probabilities_by_hand("neighborhood", beyond)[:, halo:-halo, halo:-halo]


# ---- what is answered ----


@pytest.mark.parametrize(("rows", "cols"), SIZES)
def test_a_class_that_depends_on_its_pixel_alone_is_right_at_every_pixel(
    rows: int, cols: int, pixelwise: Session
) -> None:
    result = segment(pixelwise, land(rows, cols), all_valid(rows, cols))
    assert np.array_equal(result.classes, ground.classes_on_grid(COL, ROW, cols, rows))
    assert np.array_equal(result.classes, graphs.classes_by_hand("pixelwise", land(rows, cols)))


@pytest.mark.parametrize(("rows", "cols"), [(600, 700), (513, 545), (307, 521), (97, 1031)])
def test_blocks_with_their_halo_see_what_one_look_at_the_whole_sees(
    rows: int, cols: int, neighborhood: Session
) -> None:
    image = land(rows, cols)
    result = segment(neighborhood, image, all_valid(rows, cols))
    whole = seen_whole(image)
    sure = graphs.decided(whole)
    assert sure.mean() > 0.98
    assert np.array_equal(result.classes[sure], whole.argmax(axis=0)[sure])
    assert np.abs(result.confidence - 100 * whole.max(axis=0)).max() < 0.51


@pytest.mark.parametrize("halo", [0, 16])
def test_too_small_a_halo_shows(halo: int) -> None:
    """The oracle of the test above can fail: it needs 31 px."""
    image = land(600, 700)
    result = segment(session_of("neighborhood", halo=halo), image, all_valid(600, 700))
    wrong = np.abs(result.confidence - 100 * seen_whole(image).max(axis=0)) > 0.51
    assert wrong[480:544, :].mean() > 0.1
    assert not wrong[100:400, 100:400].any()


def test_a_larger_halo_changes_nothing_for_a_network_that_does_not_reach_it() -> None:
    image, valid = land(600, 700), all_valid(600, 700)
    first = segment(session_of("neighborhood"), image, valid)
    second = segment(session_of("neighborhood", halo=64), image, valid)
    sure = graphs.decided(seen_whole(image))
    assert np.array_equal(first.classes[sure], second.classes[sure])


def test_a_block_is_the_same_alone_and_within_an_image(neighborhood: Session) -> None:
    image = land(1100, 1100)
    whole = segment(neighborhood, image, all_valid(1100, 1100))
    size = neighborhood.card.window
    start = 512 - neighborhood.card.halo
    part = np.ascontiguousarray(image[:, start : start + size, start : start + size])
    block = segment_window(neighborhood, part, all_valid(size, size))
    assert np.array_equal(block.classes, whole.classes[512:1024, 512:1024])
    assert np.array_equal(block.confidence, whole.confidence[512:1024, 512:1024])


def test_a_pixel_in_the_halo_matters_as_far_as_the_network_reaches(
    neighborhood: Session,
) -> None:
    image, valid = window_of(neighborhood)
    before = probabilities_of(neighborhood, image, valid)
    edge = neighborhood.card.halo
    for distance, matters in ((graphs.REACH, True), (graphs.REACH + 1, False)):
        changed = image.copy()
        changed[:, 300, edge - distance] = 255 * (image[:, 300, edge - distance] < 128)
        after = probabilities_of(neighborhood, changed, valid)
        assert np.array_equal(before, after) is not matters


def test_probabilities_are_those_of_the_block_without_its_halo(pixelwise: Session) -> None:
    image, valid = window_of(pixelwise)
    probabilities = probabilities_of(pixelwise, image, valid)
    by_hand = graphs.probabilities_by_hand("pixelwise", image)[:, 32:544, 32:544]
    assert probabilities.shape == (7, 512, 512)
    assert np.allclose(probabilities, by_hand, atol=1e-5)


# ---- valid and not ----


def test_every_valid_pixel_gets_a_class_and_every_other_one_nodata(pixelwise: Session) -> None:
    image = land(530, 600)
    valid = np.random.default_rng(3).random((530, 600)) < 0.5
    result = segment(pixelwise, image, valid)
    expected = np.where(valid, ground.classes_on_grid(COL, ROW, 600, 530), 255)
    assert np.array_equal(result.classes, expected)
    assert np.array_equal(result.confidence == 255, ~valid)


def test_what_lies_under_invalid_pixels_never_matters(neighborhood: Session) -> None:
    image = land(200, 530)
    valid = all_valid(200, 530)
    valid[:40] = False
    valid[:, 500:] = False
    valid[90:95, 30:60] = False
    garbage = np.random.default_rng(4).integers(0, 256, image.shape, dtype=np.uint8)
    first = segment(neighborhood, image, valid)
    second = segment(neighborhood, np.where(valid, image, garbage), valid)
    assert np.array_equal(first.classes, second.classes)
    assert np.array_equal(first.confidence, second.confidence)


def test_a_collar_is_an_edge_of_the_image(neighborhood: Session) -> None:
    image = land(400, 400)
    framed = np.zeros((4, 512, 512), dtype=np.uint8)
    valid = np.zeros((512, 512), dtype=np.bool_)
    framed[:, 56:456, 70:470] = image
    valid[56:456, 70:470] = True
    whole = seen_whole(image)
    result = segment(neighborhood, framed, valid).classes[56:456, 70:470]
    sure = graphs.decided(whole)
    assert np.array_equal(result[sure], whole.argmax(axis=0)[sure])


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (600, 600)])
def test_an_image_without_data_is_answered_without_inference(
    rows: int, cols: int, pixelwise: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "predict", _never)
    result = segment(pixelwise, land(rows, cols), ~all_valid(rows, cols))
    assert (result.classes == 255).all()
    assert (result.confidence == 255).all()


def test_a_block_with_data_in_its_halo_only_is_answered_without_inference(
    pixelwise: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "predict", _never)
    image, valid = window_of(pixelwise)
    valid[32:544, 32:544] = False
    result = segment_window(pixelwise, image, valid)
    assert (result.classes == 255).all()
    assert (result.confidence == 255).all()


def test_only_blocks_that_hold_data_are_inferred(
    pixelwise: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    predict = Session.predict

    def counted(self: Session, *args: Any) -> Any:  # noqa: ANN401
        runs.append(args[0].shape)
        return predict(self, *args)

    monkeypatch.setattr(Session, "predict", counted)
    valid = ~all_valid(1024, 1024)
    valid[700, 600] = True
    result = segment(pixelwise, land(1024, 1024), valid)
    assert runs == [(1, 4, 576, 576)]
    assert np.flatnonzero(result.classes != 255).tolist() == [700 * 1024 + 600]


def test_classes_and_confidence_never_share_their_memory(pixelwise: Session) -> None:
    image, valid = window_of(pixelwise)
    for data in (valid, ~valid):
        result = segment_window(pixelwise, image, data)
        assert not np.shares_memory(result.classes, result.confidence)


def test_neither_the_image_nor_its_validity_is_changed(neighborhood: Session) -> None:
    image, valid = window_of(neighborhood)
    valid[:100] = False
    kept = image.copy(), valid.copy()
    for function in (segment, segment_window):
        function(neighborhood, image, valid)
        assert np.array_equal(image, kept[0])
        assert np.array_equal(valid, kept[1])


# ---- which class, how sure ----


@pytest.mark.parametrize(
    ("logits", "value", "per_cent"),
    [
        ((0, 0, 0, 0, 0, 0), 1, 17),
        ((0, 0, 9, 0, 9, 0), 3, 50),
        ((0, 0, 0, 0, 9, 9), 5, 50),
        ((0, 0, 0, 0, 0, 50), 6, 100),
        ((50, 0, 0, 0, 0, 0), 1, 100),
        ((0, np.log(5), 0, 0, 0, 0), 2, 50),
    ],
)
def test_the_most_probable_class_wins_and_the_lowest_value_on_ties(
    logits: tuple[float, ...], value: int, per_cent: int
) -> None:
    result = segment(constant(*logits), land(20, 30), all_valid(20, 30))
    assert (result.classes == value).all()
    assert (result.confidence == per_cent).all()


def test_confidence_is_the_probability_of_the_class_in_per_cent(pixelwise: Session) -> None:
    image = land(300, 300)
    result = segment(pixelwise, image, all_valid(300, 300))
    best = 100 * graphs.probabilities_by_hand("pixelwise", image).max(axis=0)
    assert len(np.unique(result.confidence)) > 10
    assert np.abs(result.confidence - best).max() < 0.501


def test_the_normalization_of_the_card_is_the_one_used() -> None:
    image, valid = land(300, 300), all_valid(300, 300)
    swapped = segment(session_of("pixelwise", mean=graphs.MEAN[::-1]), image, valid)
    best = 100 * graphs.probabilities_by_hand("pixelwise", image).max(axis=0)
    assert (np.abs(swapped.confidence - best) > 1).mean() > 0.9


# ---- what is refused, what is stopped ----


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("function", [segment, segment_window, probabilities_of])
def test_imagery_that_is_not_uint8_is_refused(
    function: Any,  # noqa: ANN401
    dtype: Any,  # noqa: ANN401
    pixelwise: Session,
) -> None:
    image, valid = window_of(pixelwise)
    with pytest.raises(ImageError, match=f"uint8, got {np.dtype(dtype).name}"):
        function(pixelwise, image.astype(dtype), valid)


@pytest.mark.parametrize("function", [segment, segment_window, probabilities_of])
@pytest.mark.parametrize(
    ("image", "valid", "reason"),
    [
        (np.zeros((4, 576, 575), np.uint8), all_valid(576, 576), r"\(4, 576, 575\)"),
        (np.zeros((576, 576), np.uint8), all_valid(576, 576), r"\(576, 576\) and valid"),
        (np.zeros((4, 576, 576), np.uint8), np.ones((576, 576), np.uint8), "bool, got uint8"),
        (np.zeros((3, 576, 576), np.uint8), all_valid(576, 576), r"4 bands, got \(3, 576, 576\)"),
    ],
    ids=["size", "one band", "valid", "three bands"],
)
def test_arrays_that_do_not_fit_are_refused(
    function: Any,  # noqa: ANN401
    image: Image,
    valid: Valid,
    reason: str,
    pixelwise: Session,
) -> None:
    with pytest.raises(ImageError, match=reason):
        function(pixelwise, image, valid)


@pytest.mark.parametrize("size", [512, 575, 592])
def test_a_window_of_another_size_is_refused(size: int, pixelwise: Session) -> None:
    with pytest.raises(ImageError, match=f"576 × 576 pixels, got .{size}, {size}"):
        segment_window(pixelwise, land(size, size), all_valid(size, size))


def test_a_block_is_stopped_while_it_runs(slow: Session) -> None:
    image, valid = window_of(slow)
    cancellation = Cancellation()
    timer = threading.Timer(0.1, cancellation.cancel)
    timer.start()
    with pytest.raises(Cancelled):
        segment_window(slow, image, valid, cancellation)
    timer.join()


def _never(*_: object) -> Segmentation:
    raise AssertionError("inferred")
