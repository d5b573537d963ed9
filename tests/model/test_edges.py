"""Where the imagery ends: numpy's reflect for rectangles, a pixel-by-pixel oracle for the rest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.edges import reflect_pad_invalid

Image = npt.NDArray[np.uint8]
Valid = npt.NDArray[np.bool_]


def noise(rows: int, cols: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(1, 256, (4, rows, cols), dtype=np.uint8)


def turned(rows: int, cols: int, slope: float, inset: float) -> Valid:
    """A rectangle turned about the middle, as NAIP scenes lie in their files."""
    row, col = np.mgrid[:rows, :cols]
    down, right = row - (rows - 1) / 2, col - (cols - 1) / 2
    inside: Valid = (np.abs(right + slope * down) <= cols / 2 - inset) & (
        np.abs(down - slope * right) <= rows / 2 - inset
    )
    return inside


def mirrored_line(line: list[bool]) -> list[int]:
    """For every position of one line, the position its value comes from, step by step."""
    data = [i for i, valid in enumerate(line) if valid]
    taken = []
    for here in range(len(line)):
        nearest = min(data, key=lambda i: (abs(i - here), i > here))
        mirror = nearest + (nearest - here)
        inside = 0 <= mirror < len(line) and line[mirror]
        taken.append(mirror if inside else nearest)
    return taken


def extend_by_hand(image: Image, valid: Valid) -> Image:
    """Along the rows that hold data, then whole rows down and up."""
    out = image.copy()
    has_data = [bool(line.any()) for line in valid]
    for row, line in enumerate(valid):
        if has_data[row]:
            out[:, row] = image[:, row, mirrored_line(line.tolist())]
    return out[:, mirrored_line(has_data)]


@given(
    rows=st.integers(2, 12),
    cols=st.integers(2, 12),
    before=st.tuples(st.integers(0, 11), st.integers(0, 11)),
    after=st.tuples(st.integers(0, 11), st.integers(0, 11)),
    seed=st.integers(0, 9),
)
def test_a_rectangle_of_data_is_mirrored_as_numpy_reflects(
    rows: int, cols: int, before: tuple[int, int], after: tuple[int, int], seed: int
) -> None:
    top, left = min(before[0], rows - 1), min(before[1], cols - 1)
    bottom, right = min(after[0], rows - 1), min(after[1], cols - 1)
    data = noise(rows, cols, seed)
    margins = ((0, 0), (top, bottom), (left, right))
    image = np.pad(data, margins)
    valid = np.pad(np.ones((rows, cols), dtype=np.bool_), margins[1:])
    assert np.array_equal(reflect_pad_invalid(image, valid), np.pad(data, margins, mode="reflect"))


@settings(deadline=None)
@given(data=st.data(), rows=st.integers(1, 9), cols=st.integers(1, 9))
def test_any_shape_of_data_is_mirrored_along_rows_then_columns(
    data: st.DataObject, rows: int, cols: int
) -> None:
    cells = data.draw(st.lists(st.booleans(), min_size=rows * cols, max_size=rows * cols))
    valid = np.array(cells, dtype=np.bool_).reshape(rows, cols)
    image = noise(rows, cols)
    expected = extend_by_hand(image, valid) if valid.any() else image
    assert np.array_equal(reflect_pad_invalid(image, valid), expected)


@given(data=st.data(), rows=st.integers(1, 9), cols=st.integers(1, 9))
def test_valid_pixels_keep_their_values_and_others_take_valid_ones(
    data: st.DataObject, rows: int, cols: int
) -> None:
    cells = data.draw(st.lists(st.booleans(), min_size=rows * cols, max_size=rows * cols))
    valid = np.array(cells, dtype=np.bool_).reshape(rows, cols)
    image = noise(rows, cols)
    out = reflect_pad_invalid(image, valid)
    assert np.array_equal(out[:, valid], image[:, valid])
    if valid.any():
        known = {tuple(pixel) for pixel in image[:, valid].T}
        assert {tuple(pixel) for pixel in out.reshape(4, -1).T} <= known


@pytest.mark.parametrize("slope", [-0.2, -0.03, 0.03, 0.2])
@pytest.mark.parametrize("inset", [0.5, 6.0])
def test_a_turned_collar_is_filled_from_the_imagery(slope: float, inset: float) -> None:
    valid = turned(48, 64, slope, inset)
    assert 0.3 < valid.mean() < 1
    image = noise(48, 64) * valid
    out = reflect_pad_invalid(image, valid)
    assert np.array_equal(out[:, valid], image[:, valid])
    assert out.all()
    assert np.array_equal(out, extend_by_hand(image, valid))


@pytest.mark.parametrize("at", [0, 5, 11])
def test_data_one_pixel_wide_is_repeated(at: int) -> None:
    image = noise(9, 12)
    column = np.zeros((9, 12), dtype=np.bool_)
    column[:, at] = True
    assert np.array_equal(
        reflect_pad_invalid(image, column), np.repeat(image[:, :, at : at + 1], 12, axis=2)
    )
    square = image.transpose(0, 2, 1)
    row = column.T
    assert np.array_equal(
        reflect_pad_invalid(square, row), np.repeat(square[:, at : at + 1], 12, axis=1)
    )


def test_a_single_pixel_of_data_fills_the_image() -> None:
    image = noise(7, 8)
    valid = np.zeros((7, 8), dtype=np.bool_)
    valid[3, 6] = True
    assert (reflect_pad_invalid(image, valid) == image[:, 3:4, 6:7]).all()


def test_beyond_the_mirrored_data_the_last_pixel_is_repeated() -> None:
    image = np.arange(1, 11, dtype=np.uint8).reshape(1, 1, 10)
    valid = np.zeros((1, 10), dtype=np.bool_)
    valid[0, :3] = True
    assert reflect_pad_invalid(image, valid)[0, 0].tolist() == [1, 2, 3, 2, 1, 3, 3, 3, 3, 3]


@pytest.mark.parametrize("value", [True, False])
def test_an_image_all_valid_or_not_at_all_is_returned_as_it_is(value: bool) -> None:
    image = noise(5, 6)
    assert np.array_equal(reflect_pad_invalid(image, np.full((5, 6), value)), image)


def test_the_image_handed_in_is_left_alone() -> None:
    image = noise(8, 8)
    before = image.copy()
    reflect_pad_invalid(image, turned(8, 8, 0.1, 1.5))
    assert np.array_equal(image, before)
