"""Neighbors that are missing together: inferred together, stopped together, and never changed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import groupby

import numpy as np
import pytest

from app.grid.pixel_grid import Block, PixelGrid
from app.landcover import batching
from app.landcover.batching import Batcher, edge_within, neighbors_together
from app.scheduling import Pool, background
from model.errors import Cancelled
from model.segment import Image, Segmentation, Valid, segment_window
from model.session import Cancellation, Session
from model.windows import BLOCK
from tests.app.conftest import Serve, tiles_around
from tests.world import graphs
from tests.world.world import World

pytestmark = pytest.mark.alone

GRID = PixelGrid("EPSG:26910", 1.0)
HALO = 32


class Network:
    """Stands in for the network: notes what is inferred together, and may be held back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs: list[int] = []
        self.cancellations: list[Cancellation] = []
        self.begun = threading.Semaphore(0)
        self.release = threading.Event()
        self.release.set()
        self.error: Exception | None = None
        monkeypatch.setattr(batching, "segment_window", self._one)
        monkeypatch.setattr(batching, "segment_blocks", self._many)

    def _one(
        self, session: Session, image: Image, valid: Valid, cancellation: Cancellation
    ) -> Segmentation:
        return self._run([image], cancellation)[0]

    def _many(
        self,
        session: Session,
        image: Image,
        valid: Valid,
        rows: int,
        cols: int,
        cancellation: Cancellation,
    ) -> list[Segmentation]:
        size = BLOCK + 2 * HALO
        cut = [
            image[:, r * BLOCK : r * BLOCK + size, c * BLOCK : c * BLOCK + size]
            for r in range(rows)
            for c in range(cols)
        ]
        return self._run(cut, cancellation)

    def _run(self, images: list[Image], cancellation: Cancellation) -> list[Segmentation]:
        self.runs.append(len(images))
        self.cancellations.append(cancellation)
        self.begun.release()
        while not self.release.wait(0.01):
            if cancellation.cancelled:
                raise Cancelled("cancelled during the run")
        if self.error:
            raise self.error
        return [Segmentation(image[0], image[1]) for image in images]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Neighbors wait for each other however busy the machine is."""
    monkeypatch.setattr(batching, "WAIT_S", 30)
    return Network(monkeypatch)


@pytest.fixture
def session() -> Session:
    return Session(graphs.model_bytes("pixelwise"))


def image_of(block: Block) -> Image:
    """A cut of one endless image: neighbors agree where they overlap."""
    window = block.window.expand(HALO)
    rows = np.arange(window.row, window.row + window.rows)[:, None]
    cols = np.arange(window.col, window.col + window.cols)[None, :]
    return np.stack([(rows * (band + 3) + cols * 7) % 251 for band in range(4)]).astype(np.uint8)


def square(count: int, row: int = 0, col: int = 0) -> list[Block]:
    """The first `count` blocks of a 2 × 2 group, row by row."""
    return [Block(GRID, col + i % 2, row + i // 2) for i in range(count)]


@asynccontextmanager
async def batcher_of(workers: int, edge: int = 2) -> AsyncIterator[Batcher]:
    pool = Pool("test", workers)
    try:
        yield Batcher(pool, edge)
    finally:
        pool.close()


async def infer(
    batcher: Batcher,
    session: Session,
    block: Block,
    *,
    selection: object = "a",
    reading_s: float = 0.0,
    image: Image | None = None,
) -> Segmentation:
    with batcher.expect(selection, block) as neighbors:
        await asyncio.sleep(reading_s)
        pixels = image_of(block) if image is None else image
        valid = np.ones(pixels.shape[1:], dtype=np.bool_)
        return await neighbors.segment(session, pixels, valid)


def right(block: Block, result: Segmentation) -> bool:
    return np.array_equal(result.classes, image_of(block)[0])


async def all_right(batcher: Batcher, session: Session, blocks: list[Block]) -> bool:
    results = await asyncio.gather(*(infer(batcher, session, block) for block in blocks))
    return all(right(block, result) for block, result in zip(blocks, results, strict=True))


@pytest.mark.parametrize(
    ("workers", "count", "runs"),
    [
        (1, 4, [4]),
        (1, 3, [1, 2]),
        (1, 2, [2]),
        (1, 1, [1]),
        (2, 4, [2, 2]),
        (4, 4, [1, 1, 1, 1]),
    ],
)
def test_as_many_are_joined_as_leave_every_thread_some_work(
    workers: int, count: int, runs: list[int], network: Network, session: Session
) -> None:
    async def story() -> bool:
        async with batcher_of(workers) as batcher:
            return await all_right(batcher, session, square(count))

    assert asyncio.run(story())
    assert sorted(network.runs) == runs


def test_a_long_queue_is_joined_by_all_threads(network: Network, session: Session) -> None:
    async def story() -> bool:
        async with batcher_of(2) as batcher:
            blocks = [block for col in range(0, 8, 2) for block in square(4, col=col)]
            return await all_right(batcher, session, blocks)

    assert asyncio.run(story())
    assert sum(network.runs) == 16
    assert network.runs.count(4) >= 3


@pytest.mark.parametrize(("edge", "runs"), [(1, [1] * 4), (2, [4]), (4, [4])])
def test_the_setting_bounds_what_is_joined(
    edge: int, runs: list[int], network: Network, session: Session
) -> None:
    async def story() -> bool:
        async with batcher_of(1, edge) as batcher:
            return await all_right(batcher, session, square(4))

    assert asyncio.run(story())
    assert network.runs == runs


def test_sixteen_are_joined_where_memory_allows(network: Network, session: Session) -> None:
    async def story() -> bool:
        async with batcher_of(1, 4) as batcher:
            blocks = [Block(GRID, col, row) for row in range(4) for col in range(4)]
            return await all_right(batcher, session, blocks)

    assert asyncio.run(story())
    assert network.runs == [16]


def test_what_is_not_of_one_aligned_group_or_one_selection_is_not_joined(
    network: Network, session: Session
) -> None:
    async def story() -> None:
        async with batcher_of(1) as batcher:
            await asyncio.gather(
                infer(batcher, session, Block(GRID, 1, 0)),
                infer(batcher, session, Block(GRID, 2, 0)),
                infer(batcher, session, Block(GRID, 0, 0), selection="b"),
            )

    asyncio.run(story())
    assert network.runs == [1, 1, 1]


def test_a_block_waits_for_neighbors_that_are_being_read(
    network: Network, session: Session
) -> None:
    async def story() -> None:
        async with batcher_of(1) as batcher:
            first, second = square(2)
            await asyncio.gather(
                infer(batcher, session, first), infer(batcher, session, second, reading_s=0.03)
            )

    asyncio.run(story())
    assert network.runs == [2]


def test_a_block_does_not_wait_for_long(
    network: Network, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "WAIT_S", 0.1)

    async def story() -> float:
        async with batcher_of(1) as batcher:
            first, second = square(2)
            hanging = asyncio.ensure_future(infer(batcher, session, second, reading_s=60))
            await asyncio.sleep(0)
            began = asyncio.get_running_loop().time()
            assert right(first, await infer(batcher, session, first))
            took = asyncio.get_running_loop().time() - began
            hanging.cancel()
            return took

    assert asyncio.run(story()) < batching.WAIT_S + 1
    assert network.runs == [1]


def test_a_neighbor_that_cannot_be_read_is_not_waited_for(
    network: Network, session: Session
) -> None:
    async def broken(batcher: Batcher, block: Block) -> None:
        with batcher.expect("a", block):
            await asyncio.sleep(0.01)
            raise OSError("gone")

    async def story() -> None:
        async with batcher_of(1) as batcher:
            first, second = square(2)
            result, error = await asyncio.gather(
                infer(batcher, session, first), broken(batcher, second), return_exceptions=True
            )
            assert isinstance(result, Segmentation)
            assert isinstance(error, OSError)

    asyncio.run(asyncio.wait_for(story(), 10))


def test_neighbors_whose_imagery_differs_where_they_overlap_are_inferred_one_by_one(
    network: Network, session: Session
) -> None:
    async def story() -> list[Segmentation]:
        async with batcher_of(1) as batcher:
            first, second = square(2)
            other = image_of(second)
            other[:, 100, 3] ^= 1
            return list(
                await asyncio.gather(
                    infer(batcher, session, first), infer(batcher, session, second, image=other)
                )
            )

    results = asyncio.run(story())
    assert network.runs == [1, 1]
    assert results[1].classes[100, 3] != image_of(square(2)[1])[0][100, 3]


def test_the_same_block_of_two_caches_is_inferred_for_each(
    network: Network, session: Session
) -> None:
    async def story() -> bool:
        async with batcher_of(1) as batcher:
            return await all_right(batcher, session, square(1) * 3)

    assert asyncio.run(story())
    assert network.runs == [1, 1, 1]


def test_what_is_interactive_does_not_carry_the_background_along(
    network: Network, session: Session
) -> None:
    async def late(batcher: Batcher, block: Block) -> None:
        with background():
            await infer(batcher, session, block)

    async def story() -> None:
        async with batcher_of(1) as batcher:
            a, b, c, d = square(4)
            await asyncio.gather(
                late(batcher, a),
                late(batcher, b),
                infer(batcher, session, c),
                infer(batcher, session, d),
            )

    asyncio.run(story())
    assert network.runs == [2, 2]


# ---- stopping it ----


async def begun(network: Network) -> None:
    await asyncio.to_thread(network.begun.acquire)


def test_a_joined_inference_goes_on_while_anybody_waits(network: Network, session: Session) -> None:
    async def story() -> None:
        network.release.clear()
        async with batcher_of(1) as batcher:
            blocks = square(4)
            tasks = [asyncio.ensure_future(infer(batcher, session, block)) for block in blocks]
            await begun(network)
            for task in tasks[:3]:
                task.cancel()
            await asyncio.sleep(0.05)
            assert not network.cancellations[0].cancelled
            network.release.set()
            assert right(blocks[3], await tasks[3])

    asyncio.run(story())
    assert network.runs == [4]


def test_a_joined_inference_is_stopped_when_nobody_waits_any_more(
    network: Network, session: Session
) -> None:
    async def story() -> None:
        network.release.clear()
        async with batcher_of(1) as batcher:
            tasks = [asyncio.ensure_future(infer(batcher, session, b)) for b in square(4)]
            await begun(network)
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in done)
            assert network.cancellations[0].cancelled
            # The thread is free again and nothing is left of them.
            network.release.set()
            assert await all_right(batcher, session, square(4))
            assert not batcher._groups

    asyncio.run(asyncio.wait_for(story(), 20))


def test_a_block_nobody_waits_for_is_not_inferred(network: Network, session: Session) -> None:
    async def story() -> None:
        network.release.clear()
        async with batcher_of(1) as batcher:
            blocker = asyncio.ensure_future(infer(batcher, session, Block(GRID, 9, 9)))
            await begun(network)
            first, second = square(2)
            kept = asyncio.ensure_future(infer(batcher, session, first))
            gone = asyncio.ensure_future(infer(batcher, session, second))
            await asyncio.sleep(0.05)
            gone.cancel()
            await asyncio.sleep(0)
            network.release.set()
            assert right(first, await kept)
            await blocker

    asyncio.run(story())
    assert network.runs == [1, 1]


def test_an_error_reaches_all_who_wait_and_is_not_kept(network: Network, session: Session) -> None:
    async def story() -> None:
        async with batcher_of(1) as batcher:
            network.error = RuntimeError("out of order")
            work = (infer(batcher, session, block) for block in square(4))
            done = await asyncio.gather(*work, return_exceptions=True)
            assert [str(each) for each in done] == ["out of order"] * 4
            network.error = None
            assert await all_right(batcher, session, square(4))

    asyncio.run(story())


# ---- with everything else ----


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    shapes: list[tuple[int, ...]] = []
    predict = Session.predict

    def noted(self: Session, batch: Image, *args: object) -> object:
        shapes.append(batch.shape[2:])
        return predict(self, batch, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Session, "predict", noted)
        yield shapes


@pytest.mark.parametrize("edge", [2, 4])
@pytest.mark.slow
def test_a_tile_is_the_same_whether_its_blocks_were_joined_or_not(
    edge: int,
    serve: Serve,
    two_quads: World,
    neighborhood_model: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    z, x, y = tiles_around(*two_quads.scenes[0].lonlat, 15, 0)[0]
    path = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy"
    answers, shapes = [], []
    for each in (1, edge):
        with (
            serve(
                two_quads.directory,
                neighborhood_model,
                join_blocks=each,
                infer_workers=1,
                block_budget=64,
            ) as client,
            counted(monkeypatch) as seen,
        ):
            answers.append(client.get(path).content)
            shapes.append([shape for shape in seen if shape[0] >= 576])
    assert answers[0] == answers[1]
    assert set(shapes[0]) == {(576, 576)}
    assert max(shape[0] * shape[1] for shape in shapes[1]) > 576 * 1000


def test_segment_window_is_what_a_block_alone_is(session: Session) -> None:
    block = Block(GRID, 3, 3)
    image = image_of(block)
    valid = np.ones(image.shape[1:], dtype=np.bool_)

    async def story() -> Segmentation:
        async with batcher_of(1) as batcher:
            return await infer(batcher, session, block)

    expected = segment_window(session, image, valid)
    assert np.array_equal(asyncio.run(story()).classes, expected.classes)


@pytest.mark.parametrize(
    ("memory", "edge"), [(None, 4), (64e9, 4), (8e9, 4), (4e9, 2), (1.5e9, 2), (1.3e9, 1), (1, 1)]
)
def test_blocks_are_joined_as_far_as_there_is_memory(
    memory: float | None, edge: int, caplog: pytest.LogCaptureFixture
) -> None:
    given = None if memory is None else int(memory)
    assert edge_within(4, 2, 96, given) == edge
    assert ("blocks are not joined 4 × 4" in caplog.text) == (edge < 4)


def test_items_of_one_group_follow_each_other_and_none_is_lost() -> None:
    items = [("a", row, col) for row in range(5) for col in range(3) if (row, col) != (1, 1)]
    ordered = list(neighbors_together(items, lambda item: item, 2))
    assert sorted(ordered) == items
    groups = [(row // 2, col // 2) for _, row, col in ordered]
    assert len([key for key, _ in groupby(groups)]) == len(set(groups))
    assert list(neighbors_together(items, lambda item: item, 1)) == items
