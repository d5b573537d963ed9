"""A block's pyramid against counting by hand, and its form on disk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.grid.classified import LEVELS, Classes, ClassifiedBlock, SceneRef, mean_of, mode_of
from model.legend import NODATA
from model.windows import BLOCK

SCENES = (SceneRef("m_3208601_nw_16_1_20170903", "2017-09-03"), SceneRef("ÄÖ “x”", ""))


def patchy(seed: int = 1) -> Classes:
    """uint8 (512, 512): classes and nodata in patches of several sizes, with many ties."""
    random = np.random.default_rng(seed)
    values = np.array([1, 2, 3, 4, 5, 6, NODATA], dtype=np.uint8)
    out = np.zeros((BLOCK, BLOCK), dtype=np.uint8)
    for quarter, side in enumerate((1, 2, 8, 32)):
        row, col = 256 * (quarter // 2), 256 * (quarter % 2)
        drawn = random.choice(values, size=(256 // side, 256 // side))
        out[row : row + 256, col : col + 256] = drawn.repeat(side, axis=0).repeat(side, axis=1)
    return out


def cells_of(array: Classes, level: int) -> Classes:
    """(rows · cols, pixels): the pixels below each pixel of a level."""
    cell = 1 << level
    rows, cols = (n // cell for n in array.shape)
    return array.reshape(rows, cell, cols, cell).swapaxes(1, 2).reshape(rows * cols, cell * cell)


@pytest.mark.parametrize("level", range(1, LEVELS + 1))
def test_a_level_shows_a_class_that_no_other_outnumbers(level: int) -> None:
    classes = patchy()
    shown = mode_of(classes, level)
    assert shown.shape == (BLOCK >> level, BLOCK >> level)
    for pixels, value in zip(cells_of(classes, level), shown.ravel(), strict=True):
        counts = np.bincount(pixels, minlength=256)
        assert counts[value] == counts.max()


@given(st.integers(1, LEVELS), st.lists(st.sampled_from([1, 2, 5, 6, 255]), min_size=1))
def test_a_cell_of_one_value_shows_it(level: int, values: list[int]) -> None:
    cell = 1 << level
    row = np.array(values, dtype=np.uint8)[None, :]
    assert np.array_equal(mode_of(row.repeat(cell, axis=0).repeat(cell, axis=1), level), row)


@pytest.mark.parametrize(
    "tied", [(1, 2), (5, 6), (1, 6), (3, 5), (2, NODATA), (1, 2, 3, 4), (1, 4, 5, 6)]
)
@pytest.mark.parametrize("others", [False, True])
def test_tied_classes_win_equally_often(tied: tuple[int, ...], others: bool) -> None:
    """Whatever else the block holds: the rotation is among the tied, not among all."""
    unit = np.array([tied[0], tied[-1], tied[-1], tied[0]])
    if len(tied) == 4:
        unit = np.array(tied)
    classes = np.tile(unit.reshape(2, 2).astype(np.uint8), (256, 256))
    if others:
        classes[:2, :14:2] = classes[:2, 1:14:2] = [1, 2, 3, 4, 5, 6, NODATA]
    wins = np.bincount(mode_of(classes, 1)[1:].ravel(), minlength=256)
    shares = wins[list(tied)] / wins.sum()
    assert shares.sum() == 1
    assert shares == pytest.approx(1 / len(tied), abs=0.01)


@pytest.mark.parametrize("level", range(1, LEVELS + 1))
def test_areas_of_evenly_mixed_classes_stay_even(level: int) -> None:
    random = np.random.default_rng(3)
    classes = random.integers(1, 7, (2048, 2048)).astype(np.uint8)
    shares = np.bincount(mode_of(classes, level).ravel(), minlength=7)[1:] / (2048 >> level) ** 2
    four_deviations = 4 * (5 / 36) ** 0.5 / (2048 >> level)
    assert shares == pytest.approx(np.full(6, 1 / 6), abs=four_deviations)


@pytest.mark.parametrize("level", range(1, LEVELS + 1))
def test_a_level_shows_the_mean_confidence_of_the_pixels_with_data(level: int) -> None:
    random = np.random.default_rng(2)
    confidence = random.integers(0, 101, (BLOCK, BLOCK)).astype(np.uint8)
    confidence[random.random(confidence.shape) < 0.3] = NODATA
    confidence[:64, :64] = NODATA
    shown = mean_of(confidence, level).ravel()
    for pixels, value in zip(cells_of(confidence, level), shown, strict=True):
        data = pixels[pixels != NODATA]
        if data.size:
            assert abs(value - data.mean()) <= 0.5
        else:
            assert value == NODATA


def test_a_block_answers_each_level_of_each_layer_for_itself() -> None:
    confidence = np.where(patchy() == NODATA, NODATA, 77).astype(np.uint8)
    block = ClassifiedBlock(patchy(), confidence)
    for level in range(1, LEVELS + 1):
        assert np.array_equal(block.level(level), mode_of(block.classes, level))
        assert np.array_equal(block.level(level, "confidence"), mean_of(confidence, level))
    assert block.level(0) is block.classes
    assert block.level(0, "confidence") is block.confidence


def test_a_block_comes_back_from_its_bytes_as_it_was() -> None:
    block = ClassifiedBlock(patchy(1), patchy(2), SCENES)
    again = ClassifiedBlock.decode(block.encode())
    assert np.array_equal(again.classes, block.classes)
    assert np.array_equal(again.confidence, block.confidence)
    assert again.scenes == SCENES


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 40,
        b"\x02\x00\x00\x00[]",
        b"\x02\x00\x00\x00[]not zlib",
        b"\x02\x00\x00\x00\xff\xff",
        b"\x03\x00\x00\x00[1]",
        ClassifiedBlock(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)).encode(),
    ],
    ids=["empty", "zeros", "no body", "no zlib", "no text", "no scenes", "other size"],
)
def test_bytes_that_are_no_block_are_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        ClassifiedBlock.decode(data)


def test_the_weight_of_a_block_holds_its_pyramid() -> None:
    block = ClassifiedBlock(patchy(1), patchy(2))
    held = sum(
        block.level(level, layer).nbytes
        for level in range(LEVELS + 1)
        for layer in ("class", "confidence")
    )
    assert held <= block.nbytes <= 1.01 * held
