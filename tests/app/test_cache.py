"""What is kept, what is thrown away, and what happens when the disk does not help."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from app.cache.blocks import BlockCache
from app.cache.disk import DiskStore, decode_entry, encode_entry
from app.cache.memory import MemoryStore
from app.cache.single_flight import SingleFlight
from app.grid.classified import ClassifiedBlock, SceneRef
from app.scheduling import Pool
from model.windows import BLOCK

MB = 1_000_000
KEY, OTHER = "ab" * 20, "cd" * 20


def block_of(value: int) -> ClassifiedBlock:
    classes = np.full((BLOCK, BLOCK), value, dtype=np.uint8)
    return ClassifiedBlock(classes, classes, (SceneRef(f"scene {value}", "2017-09-03"),))


def entries(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name != ".locks")


# Memory


def test_memory_stays_within_its_limit_and_forgets_the_longest_unused() -> None:
    store: MemoryStore[str, int] = MemoryStore(100)
    for number, key in enumerate("abcd"):
        store.put(key, number, 25)
    assert store.get("a") == 0
    store.put("e", 4, 30)
    assert [store.get(key) for key in "abcde"] == [0, None, None, 3, 4]
    assert store.nbytes == 80
    assert len(store) == 3


def test_a_value_put_again_weighs_what_it_weighs_now() -> None:
    store: MemoryStore[str, int] = MemoryStore(100)
    for weight in (90, 20, 50):
        store.put("a", weight, weight)
        assert (store.get("a"), store.nbytes, len(store)) == (weight, weight, 1)


def test_a_value_larger_than_the_limit_is_not_kept_and_costs_no_other() -> None:
    store: MemoryStore[str, int] = MemoryStore(100)
    store.put("a", 1, 60)
    store.put("b", 2, 101)
    assert (store.get("a"), store.get("b"), store.nbytes) == (1, None, 60)
    store.put("a", 3, 101)
    assert (store.get("a"), store.nbytes) == (None, 0)


def test_hits_and_misses_are_counted() -> None:
    store: MemoryStore[str, int] = MemoryStore(100)
    store.put("a", 1, 1)
    store.get("a")
    store.get("a")
    store.get("b")
    assert (store.hits, store.misses) == (2, 1)


# Disk


def test_what_is_put_is_there_and_still_after_a_restart(tmp_path: Path) -> None:
    DiskStore(tmp_path, MB).put(KEY, b"payload")
    again = DiskStore(tmp_path, MB)
    assert again.get(KEY) == b"payload"
    assert again.get(OTHER) is None
    assert (again.hits, again.misses, again.corrupt) == (1, 1, 0)
    assert again.nbytes == entries(tmp_path)[0].stat().st_size


def test_no_changed_byte_is_ever_served(tmp_path: Path) -> None:
    """1,000 flips of one bit each, the header's bytes all among them."""
    payload = random.Random(1).randbytes(5000)
    whole = encode_entry(KEY, payload)
    draw = random.Random(2)
    header = len(whole) - len(payload)
    places = [*range(header), *(draw.randrange(len(whole)) for _ in range(1000 - header))]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        assert decode_entry(KEY, bytes(damaged)) is None
    assert decode_entry(KEY, whole) == payload


@pytest.mark.parametrize("cut", [0, 3, 11, 27, 28, 40, -1])
def test_a_shortened_or_lengthened_entry_is_not_served(cut: int) -> None:
    whole = encode_entry(KEY, b"x" * 100)
    assert decode_entry(KEY, whole[:cut]) is None
    assert decode_entry(KEY, whole + whole[: abs(cut) + 1]) is None


@pytest.mark.parametrize("place", [0, 4, 12, 27, 28, -1])
def test_a_damaged_entry_is_a_miss_deleted_and_counted(tmp_path: Path, place: int) -> None:
    store = DiskStore(tmp_path, MB)
    store.put(KEY, b"payload")
    (path,) = entries(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 0x40
    path.write_bytes(damaged)
    assert store.get(KEY) is None
    assert (store.corrupt, store.misses, store.hits) == (1, 1, 0)
    assert not path.exists()
    store.put(KEY, b"payload")
    assert store.get(KEY) == b"payload"


def test_the_directory_stays_under_its_limit_and_the_longest_unused_goes_first(
    tmp_path: Path,
) -> None:
    store = DiskStore(tmp_path, 20_000)
    keys = [f"{number:02x}" * 20 for number in range(40)]
    for age, key in enumerate(keys):
        store.put(key, bytes(1000))
        total = sum(path.stat().st_size for path in entries(tmp_path))
        assert total <= 20_000
        assert store.nbytes == total
        path = tmp_path / key[:2] / key
        os.utime(path, (age, age))
        store.get(keys[0])  # in use all the time
    kept = [key for key in keys if store.get(key) is not None]
    assert keys[0] in kept
    assert len(kept) >= 15
    assert kept[1:] == keys[-len(kept) + 1 :]


def test_a_lowered_limit_holds_from_the_start(tmp_path: Path) -> None:
    first = DiskStore(tmp_path, MB)
    for number in range(20):
        first.put(f"{number:02x}" * 20, bytes(1000))
    DiskStore(tmp_path, 5000)
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= 5000


def test_half_written_entries_are_swept_at_start(tmp_path: Path) -> None:
    DiskStore(tmp_path, MB).put(KEY, b"payload")
    half = tmp_path / KEY[:2] / "tmp123.part"
    half.write_bytes(b"half")
    os.utime(half, (1, 1))
    store = DiskStore(tmp_path, MB)
    assert not half.exists()
    assert store.get(KEY) == b"payload"


def test_an_entry_another_process_is_writing_is_not_swept(tmp_path: Path) -> None:
    half = tmp_path / KEY[:2] / "tmp123.part"
    half.parent.mkdir()
    half.write_bytes(b"half")
    DiskStore(tmp_path, MB)
    assert half.exists()


def test_an_entry_is_never_seen_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any time before the rename: the old entry is what there is."""
    store = DiskStore(tmp_path, MB)
    store.put(KEY, b"old")
    seen = []
    sync = os.fsync

    def look(handle: int) -> None:
        seen.append(store.get(KEY))
        sync(handle)

    monkeypatch.setattr(os, "fsync", look)
    store.put(KEY, b"new")
    assert seen == [b"old"]
    assert store.get(KEY) == b"new"


@pytest.fixture(params=["full", "read-only", "deleted"])
def trouble(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], None]]:
    """A disk in trouble in `tmp_path / "cache"`; calling it ends the trouble."""
    root = tmp_path / "cache"
    root.mkdir()

    def fail(number: int) -> Callable[..., NoReturn]:
        def failing(*_: object, **__: object) -> NoReturn:
            raise OSError(number, os.strerror(number))

        return failing

    if request.param == "full":
        monkeypatch.setattr(os, "fsync", fail(errno.ENOSPC))
        yield monkeypatch.undo
    elif request.param == "read-only":
        monkeypatch.setattr("tempfile.mkstemp", fail(errno.EROFS))
        yield monkeypatch.undo
    else:
        # A file in its place: nothing below it can be made, whoever runs the tests.
        shutil.rmtree(root)
        root.write_text("no directory")
        yield root.unlink


def test_a_disk_in_trouble_is_said_left_clean_and_used_again(
    tmp_path: Path, trouble: Callable[[], None]
) -> None:
    root = tmp_path / "cache"
    store = DiskStore(root, MB)
    store.put(KEY, b"payload")
    assert store.degraded
    assert store.get(KEY) is None
    assert not root.is_dir() or not entries(root)
    trouble()
    store.put(KEY, b"payload")
    assert store.degraded is None
    assert store.get(KEY) == b"payload"


def test_a_directory_deleted_under_the_store_is_made_again(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "cache", MB)
    store.put(KEY, b"payload")
    shutil.rmtree(tmp_path / "cache")
    assert store.get(KEY) is None
    store.put(KEY, b"payload")
    assert (store.get(KEY), store.degraded) == (b"payload", None)


# Flights


def test_fifty_callers_at_once_cost_one_computation() -> None:
    computed = 0

    async def compute() -> int:
        nonlocal computed
        computed += 1
        await asyncio.sleep(0.01)
        return computed

    async def story() -> None:
        single_flight: SingleFlight[str, int] = SingleFlight()
        assert (
            await asyncio.gather(*(single_flight.run("a", compute) for _ in range(50))) == [1] * 50
        )
        assert len(single_flight) == 0
        assert await single_flight.run("a", compute) == 2

    asyncio.run(story())


def test_keys_do_not_wait_for_each_other() -> None:
    async def story() -> None:
        single_flight: SingleFlight[str, str] = SingleFlight()
        never = asyncio.Event()
        stuck = asyncio.create_task(single_flight.run("a", lambda: _answer(never, "a")))
        await asyncio.sleep(0)
        free = asyncio.Event()
        free.set()
        assert await single_flight.run("b", lambda: _answer(free, "b")) == "b"
        assert "a" in single_flight
        assert "b" not in single_flight
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)

    asyncio.run(story())


def test_a_computation_is_cancelled_only_when_all_who_waited_have_gone() -> None:
    async def story() -> None:
        single_flight: SingleFlight[str, str] = SingleFlight()
        stopped, event = asyncio.Event(), asyncio.Event()

        async def compute() -> str:
            try:
                return await _answer(event, "done")
            except asyncio.CancelledError:
                stopped.set()
                raise

        callers = [asyncio.create_task(single_flight.run("a", compute)) for _ in range(3)]
        await asyncio.sleep(0.01)
        for caller in callers[:2]:
            caller.cancel()
        await asyncio.sleep(0.01)
        assert not stopped.is_set()
        assert len(single_flight) == 1
        callers[2].cancel()
        await asyncio.wait_for(stopped.wait(), 1)
        assert len(single_flight) == 0

    asyncio.run(story())


def test_one_who_stays_gets_the_result_when_the_first_has_gone() -> None:
    async def story() -> None:
        single_flight: SingleFlight[str, str] = SingleFlight()
        event = asyncio.Event()
        first, second = (
            asyncio.create_task(single_flight.run("a", lambda: _answer(event, "done")))
            for _ in range(2)
        )
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.01)
        event.set()
        assert await second == "done"

    asyncio.run(story())


def test_one_who_comes_after_a_cancellation_starts_anew() -> None:
    async def story() -> None:
        single_flight: SingleFlight[str, int] = SingleFlight()
        number = 0
        event = asyncio.Event()

        async def compute() -> int:
            nonlocal number
            number += 1
            mine = number
            try:
                await event.wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.02)  # slow to stop
                raise
            return mine

        first = asyncio.create_task(single_flight.run("a", compute))
        await asyncio.sleep(0.005)
        first.cancel()
        await asyncio.sleep(0.005)
        second = asyncio.create_task(single_flight.run("a", compute))
        await asyncio.sleep(0.05)  # by now the first has stopped
        assert len(single_flight) == 1
        third = asyncio.create_task(single_flight.run("a", compute))
        await asyncio.sleep(0)
        event.set()
        assert (await second, await third) == (2, 2)
        assert len(single_flight) == 0

    asyncio.run(story())


def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    async def story() -> None:
        single_flight: SingleFlight[str, str] = SingleFlight()

        async def fail() -> str:
            await asyncio.sleep(0.005)
            raise OSError("once")

        results = await asyncio.gather(
            *(single_flight.run("a", fail) for _ in range(10)), return_exceptions=True
        )
        assert {str(result) for result in results} == {"once"}
        assert all(isinstance(result, OSError) for result in results)
        event = asyncio.Event()
        event.set()
        assert await single_flight.run("a", lambda: _answer(event, "well")) == "well"

    asyncio.run(story())


async def _answer(event: asyncio.Event, text: str) -> str:
    await event.wait()
    return text


# Blocks


@pytest.fixture
def pool() -> Iterator[Pool]:
    threads = Pool("test", 2)
    yield threads
    threads.close()


def computing(value: int, calls: list[int]) -> Callable[[], Awaitable[ClassifiedBlock]]:
    async def compute() -> ClassifiedBlock:
        calls.append(value)
        return block_of(value)

    return compute


def test_a_block_is_computed_once_then_found_in_memory_and_on_disk(
    tmp_path: Path, pool: Pool
) -> None:
    async def story() -> None:
        calls: list[int] = []
        first = BlockCache(10 * MB, DiskStore(tmp_path, MB), pool)
        assert await first.find(KEY) is None
        for _ in range(3):
            block = await first.get_or_compute(KEY, computing(3, calls))
            assert block.classes[7, 7] == 3
        assert (calls, first.computed) == ([3], 1)
        restarted = BlockCache(10 * MB, DiskStore(tmp_path, MB), pool)
        block = await restarted.get_or_compute(KEY, computing(4, calls))
        assert (block.classes[7, 7], block.scenes) == (3, block_of(3).scenes)
        assert (calls, restarted.computed, len(restarted.memory.store)) == ([3], 0, 1)

    asyncio.run(story())


def test_a_block_whose_bytes_are_sound_and_no_block_is_computed_anew(
    tmp_path: Path, pool: Pool
) -> None:
    async def story() -> None:
        disk = DiskStore(tmp_path, MB)
        disk.put(KEY, b"well framed, but no block")
        cache = BlockCache(10 * MB, disk, pool)
        calls: list[int] = []
        assert (await cache.get_or_compute(KEY, computing(5, calls))).classes[0, 0] == 5
        assert (calls, disk.corrupt) == ([5], 1)
        assert ClassifiedBlock.decode(disk.get(KEY) or b"").classes[0, 0] == 5

    asyncio.run(story())


def test_blocks_are_computed_and_kept_in_memory_without_the_disk(
    tmp_path: Path, pool: Pool, trouble: Callable[[], None]
) -> None:
    async def story() -> None:
        disk = DiskStore(tmp_path / "cache", MB)
        cache = BlockCache(10 * MB, disk, pool)
        calls: list[int] = []
        for _ in range(2):
            assert (await cache.get_or_compute(KEY, computing(2, calls))).classes[0, 0] == 2
        assert calls == [2]
        assert disk.degraded
        trouble()
        await cache.get_or_compute(OTHER, computing(4, calls))
        assert disk.degraded is None
        assert ClassifiedBlock.decode(disk.get(OTHER) or b"").classes[0, 0] == 4

    asyncio.run(story())


def test_a_failed_computation_is_not_kept(tmp_path: Path, pool: Pool) -> None:
    async def fail() -> ClassifiedBlock:
        raise OSError("no imagery today")

    async def story() -> None:
        cache = BlockCache(10 * MB, DiskStore(tmp_path, MB), pool)
        with pytest.raises(OSError, match="today"):
            await cache.get_or_compute(KEY, fail)
        assert await cache.find(KEY) is None
        assert (cache.computed, len(cache.memory.store), entries(tmp_path)) == (0, 0, [])
        calls: list[int] = []
        await cache.get_or_compute(KEY, computing(1, calls))
        assert calls == [1]

    asyncio.run(story())


def test_memory_of_blocks_is_bounded_and_the_disk_remembers(tmp_path: Path, pool: Pool) -> None:
    async def story() -> None:
        limit = 3 * block_of(1).nbytes
        cache = BlockCache(limit, DiskStore(tmp_path, 10 * MB), pool)
        calls: list[int] = []
        for value in range(1, 7):
            await cache.get_or_compute(f"{value:02x}" * 20, computing(value, calls))
            assert cache.memory.store.nbytes <= limit
        assert len(cache.memory.store) == 3
        again = await cache.get_or_compute("01" * 20, computing(99, calls))
        assert (again.classes[0, 0], calls) == (1, [1, 2, 3, 4, 5, 6])

    asyncio.run(story())


# Two stores on one directory


def test_what_one_store_puts_another_on_the_directory_gets(tmp_path: Path) -> None:
    first, second = DiskStore(tmp_path, MB), DiskStore(tmp_path, MB)
    first.put(KEY, b"payload")
    assert second.get(KEY) == b"payload"
    (path,) = entries(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert second.get(KEY) is None
    assert first.get(KEY) is None
    assert (second.corrupt, first.corrupt) == (1, 0)
    second.put(KEY, b"anew")
    assert first.get(KEY) == b"anew"


def test_two_stores_that_write_and_evict_at_once_never_serve_half_an_entry(tmp_path: Path) -> None:
    stores = [DiskStore(tmp_path, 30_000) for _ in range(2)]
    keys = [f"{number:02x}" * 20 for number in range(20)]
    payloads = {key: random.Random(key).randbytes(4000) for key in keys}

    def work(number: int) -> int:
        draw, served = random.Random(number), 0
        for _ in range(60):
            key, store = draw.choice(keys), stores[number % 2]
            found = store.get(key)
            assert found in (None, payloads[key])
            served += found is not None
            store.put(key, payloads[key])
        return served

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(work, range(4))) > 20
    for store in stores:
        assert (store.corrupt, store.degraded) == (0, None)
    assert not [path for path in entries(tmp_path) if path.suffix == ".part"]
