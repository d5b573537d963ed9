"""Integer pixel rectangles on one unbounded grid; columns count east, rows count south.

Everything that is read, inferred, cached or placed is such a rectangle. Nothing is snapped: an odd
extent is covered by more windows, never by a smaller one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BLOCK = 512
"""Edge of a block in pixels: the unit of inference, caching and single flight."""

MULTIPLE = 16
"""Four poolings by 2: origins and sizes that are no multiple change up to 0.6 % of the classes."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The pixels [col, col + cols) × [row, row + rows)."""

    col: int
    row: int
    cols: int
    rows: int

    def __post_init__(self) -> None:
        if self.cols <= 0 or self.rows <= 0:
            raise ValueError(f"a window needs cols and rows > 0, got {self.cols} × {self.rows}")

    @property
    def col_stop(self) -> int:
        """Return the first column to the right of the window."""
        return self.col + self.cols

    @property
    def row_stop(self) -> int:
        """Return the first row below the window."""
        return self.row + self.rows

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, cols), the shape of an array that holds it."""
        return self.rows, self.cols

    def expand(self, halo: int) -> Window:
        """Return the window with `halo` pixels of context on every side."""
        return Window(self.col - halo, self.row - halo, self.cols + 2 * halo, self.rows + 2 * halo)

    def contains(self, other: Window) -> bool:
        """Return whether every pixel of `other` lies in this window."""
        return (
            self.col <= other.col
            and self.row <= other.row
            and other.col_stop <= self.col_stop
            and other.row_stop <= self.row_stop
        )

    def intersection(self, other: Window) -> Window | None:
        """Return the shared pixels, or None."""
        col, row = max(self.col, other.col), max(self.row, other.row)
        cols = min(self.col_stop, other.col_stop) - col
        rows = min(self.row_stop, other.row_stop) - row
        return Window(col, row, cols, rows) if cols > 0 and rows > 0 else None

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """Return (row slice, col slice) of this window in an array that holds `outer`.

        ValueError when it is not inside.
        """
        if not outer.contains(self):
            raise ValueError(f"{self} is not inside {outer}")
        row, col = self.row - outer.row, self.col - outer.col
        return slice(row, row + self.rows), slice(col, col + self.cols)


def cover(extent: Window, size: int = BLOCK) -> Iterator[Window]:
    """Yield the windows of `size` × `size`, aligned to multiples of it, that touch `extent`.

    Row by row from the north-west; all have the full size.
    """
    for row in range(extent.row // size, -(-extent.row_stop // size)):
        for col in range(extent.col // size, -(-extent.col_stop // size)):
            yield Window(col * size, row * size, size, size)
