"""Windows on the integer grid: sets of pixels, and the oracle counts pixels one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.windows import BLOCK, MULTIPLE, Window, cover

SMALL = st.builds(
    Window, st.integers(-40, 40), st.integers(-40, 40), st.integers(1, 30), st.integers(1, 30)
)
ANYWHERE = st.builds(
    Window,
    st.integers(-(10**7), 10**7),
    st.integers(-(10**7), 10**7),
    st.integers(1, 5_000),
    st.integers(1, 5_000),
)


def pixels(window: Window | None) -> set[tuple[int, int]]:
    """Every pixel as (col, row)."""
    if window is None:
        return set()
    return {
        (col, row)
        for col in range(window.col, window.col + window.cols)
        for row in range(window.row, window.row + window.rows)
    }


@given(extent=SMALL, size=st.integers(1, 16))
def test_every_pixel_of_an_extent_lies_in_exactly_one_window(extent: Window, size: int) -> None:
    covered = [pixel for window in cover(extent, size) for pixel in pixels(window)]
    assert all(window.intersection(extent) for window in cover(extent, size))
    assert len(covered) == len(set(covered))
    assert pixels(extent) <= set(covered)


@given(extent=ANYWHERE)
def test_windows_are_whole_aligned_and_touch_the_extent(extent: Window) -> None:
    windows = list(cover(extent))
    for window in windows:
        assert (window.cols, window.rows) == (BLOCK, BLOCK)
        assert window.col % BLOCK == window.row % BLOCK == 0
        assert window.intersection(extent) is not None
    areas = [np.prod(w.shape) for window in windows if (w := window.intersection(extent))]
    assert sum(areas) == extent.cols * extent.rows


@given(extent=ANYWHERE)
def test_windows_come_row_by_row_from_the_north_west(extent: Window) -> None:
    order = [(window.row, window.col) for window in cover(extent)]
    assert order == sorted(order)


@given(one=ANYWHERE, other=ANYWHERE)
def test_the_windows_of_an_extent_depend_on_no_other_extent(one: Window, other: Window) -> None:
    for a in cover(one):
        for b in cover(other):
            assert a == b or a.intersection(b) is None


@given(one=SMALL, other=SMALL)
def test_an_intersection_is_the_shared_pixels(one: Window, other: Window) -> None:
    assert pixels(one.intersection(other)) == pixels(one) & pixels(other)
    assert one.intersection(other) == other.intersection(one)


@given(one=SMALL, other=SMALL)
def test_a_window_contains_another_when_it_has_all_its_pixels(one: Window, other: Window) -> None:
    assert one.contains(other) == (pixels(other) <= pixels(one))
    assert one.contains(one)


@given(window=SMALL, halo=st.integers(0, 9))
def test_a_halo_lies_on_every_side(window: Window, halo: int) -> None:
    near = {
        (col + east, row + south)
        for col, row in pixels(Window(window.col, window.row, window.cols, window.rows))
        for east in (-halo, halo)
        for south in (-halo, halo)
    }
    assert near <= pixels(window.expand(halo))
    assert window.expand(halo).shape == (window.rows + 2 * halo, window.cols + 2 * halo)


@given(outer=SMALL, other=SMALL)
def test_slices_cut_the_same_pixels_out_of_an_array(outer: Window, other: Window) -> None:
    rows, cols = np.mgrid[outer.row : outer.row_stop, outer.col : outer.col_stop]
    if not outer.contains(other):
        with pytest.raises(ValueError, match="is not inside"):
            other.slices_in(outer)
    inner = other.intersection(outer)
    if inner is not None:
        where = inner.slices_in(outer)
        assert rows[where].shape == inner.shape
        assert set(zip(cols[where].flat, rows[where].flat, strict=True)) == pixels(inner)


@pytest.mark.parametrize(("cols", "rows"), [(0, 5), (5, 0), (-1, 5), (5, -1)])
def test_a_window_without_pixels_is_refused_by_its_size(cols: int, rows: int) -> None:
    with pytest.raises(ValueError, match=f"> 0, got {cols} × {rows}"):
        Window(0, 0, cols, rows)


def test_a_block_starts_on_the_lattice_of_the_network() -> None:
    assert BLOCK % MULTIPLE == 0
    assert MULTIPLE == 2**4
