"""Neighboring blocks that are missing together are inferred together, in one window with one halo.

A window of 2 × 2 blocks costs three quarters of four windows and gives the same bits. Blocks are
joined only as far as every inference thread still has work: joining must not leave a core idle.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeVar

import numpy as np

from app.grid.pixel_grid import Block, PixelGrid
from app.monitoring import metrics
from app.scheduling import Pool, Priority, current_priority
from model.segment import Image, Segmentation, Valid, segment_blocks, segment_window
from model.session import Cancellation, Session
from model.windows import BLOCK

WAIT_S = 0.1
"""Longest that a block waits for neighbors whose imagery is being read, seconds."""

BYTES_PER_PIXEL = 360
"""Memory of one inference per pixel of its window; 340 measured with ONNX Runtime in fp32."""

log = logging.getLogger("landcover.blocks")

Item = TypeVar("Item")

Place = tuple[int, int]
"""(row, col) of a block within its group."""

Key = tuple[object, PixelGrid, int, int]


@dataclass(eq=False)
class _Run:
    """An inference under way, and how many wait for it."""

    waiting: int
    cancellation: Cancellation = field(default_factory=Cancellation)


@dataclass(eq=False)
class _Member:
    """A block whose imagery has been read."""

    address: Place
    image: Image
    valid: Valid
    priority: Priority
    result: Future[Segmentation] = field(default_factory=Future)
    run: _Run | None = None
    gone: bool = False


@dataclass(eq=False)
class _Group:
    """Aligned neighbors: `expected` are being read, `waiting` are to be inferred."""

    expected: set[Expected] = field(default_factory=set)
    waiting: dict[Place, _Member] = field(default_factory=dict)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def arrived(self, expected: Expected) -> None:
        """One that was read or will not come."""
        self.expected.discard(expected)
        if not self.expected:
            self.complete.set()


class Expected:
    """The place of an announced block among its neighbors."""

    def __init__(self, batcher: Batcher, group: _Group, address: Place) -> None:
        self._batcher, self._group, self._address = batcher, group, address

    async def segment(self, session: Session, image: Image, valid: Valid) -> Segmentation:
        """Return the classes of the block, inferred alone or with its neighbors: the same.

        `image`: uint8 (bands, window, window), the block and its halo; `valid`: bool (window,
        window), True = data. The inference stops within one operator when nobody waits for any of
        its blocks any more.
        """
        member = _Member(self._address, image, valid, current_priority())
        self._batcher.join(self._group, self, member)
        return await self._batcher.run(self._group, member, session)


class Batcher:
    """Runs blocks in the inference pool, neighbors together."""

    def __init__(self, infers: Pool, edge: int) -> None:
        """`edge`: most blocks along a side of a window; 1 joins none. Memory grows with its
        square."""
        self.edge = edge
        self._infers = infers
        self._groups: dict[Key, _Group] = {}
        self._running = 0
        self._lock = threading.Lock()

    @property
    def in_flight(self) -> int:
        """Return how many blocks to have in progress so that every inference thread is busy, with
        reading hidden behind it and neighbors there to be joined."""
        workers, group = self._infers.workers, self.edge**2
        return workers * group + max(workers, group)

    @contextmanager
    def expect(self, selection: object, block: Block) -> Iterator[Expected]:
        """Announce a block whose imagery is about to be read, so that neighbors wait for it.

        `selection`: what blocks must have in common to be joined.
        """
        edge = self.edge
        key = selection, block.grid, block.row // edge, block.col // edge
        with self._lock:
            group = self._groups.setdefault(key, _Group())
            expected = Expected(self, group, (block.row % edge, block.col % edge))
            group.expected.add(expected)
            group.complete.clear()
        try:
            yield expected
        finally:
            with self._lock:
                group.arrived(expected)
                if not group.expected and not group.waiting and self._groups.get(key) is group:
                    del self._groups[key]

    async def run(self, group: _Group, member: _Member, session: Session) -> Segmentation:
        """Return the classes of a member once it, or a neighbor with it, has had its turn."""
        try:
            if self.edge > 1 and group.expected:
                with suppress(TimeoutError):
                    async with asyncio.timeout(WAIT_S):
                        await group.complete.wait()
            infer = metrics.timed(metrics.INFERENCE_SECONDS, "infer", _infer)
            await self._infers.run(self._turn, group, member, session, infer)
            return await asyncio.wrap_future(member.result)
        except asyncio.CancelledError:
            self._leave(group, member)
            raise

    def join(self, group: _Group, expected: Expected, member: _Member) -> None:
        """Have a member wait for its turn."""
        with self._lock:
            group.arrived(expected)
            # The same block twice at once, of two caches: the second is inferred for itself.
            group.waiting.setdefault(member.address, member)

    def _leave(self, group: _Group, member: _Member) -> None:
        with self._lock:
            member.gone = True
            if group.waiting.get(member.address) is member:
                del group.waiting[member.address]
            if member.run is not None:
                member.run.waiting -= 1
                if not member.run.waiting:
                    member.run.cancellation.cancel()

    def _turn(
        self,
        group: _Group,
        member: _Member,
        session: Session,
        infer: Callable[[Session, Sequence[_Member], Cancellation], Sequence[Segmentation]],
    ) -> None:
        """In a thread of the pool: infer a member and the neighbors that wait with it. Nothing when
        a neighbor's turn took it along."""
        with self._lock:
            if member.run is not None or member.gone:
                return
            members = self._choose(group, member)
            self._running += len(members)
            run = _Run(len(members))
            for each in members:
                each.run = run
                if group.waiting.get(each.address) is each:
                    del group.waiting[each.address]
                each.result.set_running_or_notify_cancel()
        try:
            parts = infer(session, members, run.cancellation)
        except BaseException as error:
            for each in members:
                each.result.set_exception(error)
        else:
            for each, part in zip(members, parts, strict=True):
                each.result.set_result(part)
        finally:
            with self._lock:
                self._running -= len(members)

    def _choose(self, group: _Group, member: _Member) -> list[_Member]:
        """The largest full rectangle of waiting neighbors that holds `member` and leaves the other
        threads their share, row by row. What is interactive does not wait for the background."""
        if group.waiting.get(member.address) is not member:
            return [member]
        inside = {
            address: each
            for address, each in group.waiting.items()
            if each.priority.interactive or not member.priority.interactive
        }
        queued = sum(len(each.waiting) + len(each.expected) for each in self._groups.values())
        share = -(-(queued + self._running) // self._infers.workers)
        best = [member.address]
        for places in _rectangles(self.edge):
            fits = len(best) < len(places) <= share and member.address in places
            if fits and all(address in inside for address in places):
                best = places
        return [inside[address] for address in best]


def edge_within(edge: int, workers: int, halo: int, memory: int | None) -> int:
    """Return the largest edge of joined windows, at most `edge`, that `workers` inferences at once
    have memory for: `memory` bytes, of which a quarter is left to everything else."""
    while edge > 1 and memory is not None:
        need = workers * BYTES_PER_PIXEL * (edge * BLOCK + 2 * halo) ** 2
        if need <= 0.75 * memory:
            break
        log.warning(
            "blocks are not joined %d × %d: %d inferences at once would take %.1f of %.1f GB",
            edge,
            edge,
            workers,
            need / 1e9,
            memory / 1e9,
        )
        edge //= 2
    return edge


def neighbors_together(
    items: Iterable[Item], place: Callable[[Item], tuple[object, int, int]], edge: int
) -> Iterator[Item]:
    """Yield items that come row by row so that neighbors that may be joined follow each other.

    `place`: (grid, row, col) of an item's block. Holds `edge` rows of items.
    """

    def strip_of(item: Item) -> tuple[object, int]:
        grid, row, _ = place(item)
        return grid, row // edge

    for _, strip in groupby(items, strip_of):
        yield from sorted(strip, key=lambda item: place(item)[2] // edge)


def _rectangles(edge: int) -> Iterator[list[Place]]:
    """Aligned windows of 2 × 1, 1 × 2, 2 × 2, … blocks up to `edge`: few shapes, as each costs an
    engine memory of its own."""
    sides = [side for side in (1, 2, 4) if side <= edge]
    for rows in sides:
        for cols in sides:
            if abs(sides.index(rows) - sides.index(cols)) > 1:
                continue
            for row in range(0, edge, rows):
                for col in range(0, edge, cols):
                    yield [(row + r, col + c) for r in range(rows) for c in range(cols)]


def _infer(
    session: Session, members: Sequence[_Member], cancellation: Cancellation
) -> Sequence[Segmentation]:
    """The classes of neighbors that fill a rectangle, row by row; one by one where their imagery,
    read apart, is not the same where they overlap."""
    joined = _joined(members) if len(members) > 1 else None
    if joined is None:
        return [segment_window(session, each.image, each.valid, cancellation) for each in members]
    (top, left), (bottom, right) = members[0].address, members[-1].address
    return segment_blocks(session, *joined, bottom - top + 1, right - left + 1, cancellation)


def _joined(members: Sequence[_Member]) -> tuple[Image, Valid] | None:
    """One image of all members, and its validity; None when two differ where they overlap."""
    (top, left), (bottom, right) = members[0].address, members[-1].address
    bands, size, _ = members[0].image.shape
    shape = (bottom - top) * BLOCK + size, (right - left) * BLOCK + size
    image = np.zeros((bands, *shape), dtype=np.uint8)
    valid = np.zeros(shape, dtype=np.bool_)
    written = np.zeros(shape, dtype=np.bool_)
    for each in members:
        row, col = (each.address[0] - top) * BLOCK, (each.address[1] - left) * BLOCK
        part = slice(row, row + size), slice(col, col + size)
        overlap = written[part]
        if not np.array_equal(valid[part][overlap], each.valid[overlap]):
            return None
        seen = overlap & each.valid
        if not np.array_equal(image[:, *part][:, seen], each.image[:, seen]):
            return None
        image[:, *part], valid[part], written[part] = each.image, each.valid, True
    return image, valid
