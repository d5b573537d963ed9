"""Faults of what is kept: the disk of the cache, its entries, and Redis."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.cache.disk import DiskStore
from app.cache.verify import check_entries
from app.grid.classified import ClassifiedBlock
from tests.app.redis_server import RedisServer, redis_server
from tests.chaos.link import Link, link_to
from tests.chaos.server import Server
from tests.chaos.stage import Fault, Group, Stage, open_bench
from tests.chaos.trial import COMPUTED_P99_S, Bench, Trial

DISK_MB = 8
ONLY_200 = frozenset({"200"})
FLIPS, QUICK_FLIPS, KILLS = 200, 30, 200


class DiskBench(Bench):
    """A server whose cache directory is a small disk of its own."""

    cache: Path
    disk: Path
    flips: int


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], check=False
    )
    try:
        yield folder
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=False)


@contextmanager
def _open(stage: Stage) -> Iterator[Bench]:
    folder = stage.folder / "disks"
    folder.mkdir()
    tiles = stage.local
    with _small_disk(folder / "disk") as disk:
        options = ("--imagery", stage.world.directory, "--cache-dir", disk / "cache")
        with open_bench(
            stage, folder, {"local": tiles}, tiles.take(6), *options,
            model=stage.model, cache_memory_mb=0, rendered_memory_mb=0, cache_disk_mb=7,
        ) as opened:  # fmt: skip
            bench = DiskBench(opened.server, opened.prober, opened.tiles, opened.warm)
            bench.cache, bench.disk = disk / "cache", disk
            bench.flips = QUICK_FLIPS if stage.quick else FLIPS
            yield bench


def _degraded(begin: Callable[[Path], None], end: Callable[[Path], None]) -> Fault:
    def run(bench: Bench, trial: Trial) -> None:
        assert isinstance(bench, DiskBench)
        tiles = bench.tiles["local"]
        if not os.path.ismount(bench.disk):
            trial.note("not played: no right to mount a disk")
            return
        with trial.fault():
            begin(bench.disk)
            trial.cold(tiles.take(3))
            time.sleep(3)
            reported = bench.server.ready().get("cache_degraded")
            trial.expect(reported, "readyz does not say that the cache is degraded")
            end(bench.disk)
        trial.recover(tiles.take(2), also=lambda: not bench.server.ready().get("cache_degraded"))

    return Fault("", run, ONLY_200, warm_s=COMPUTED_P99_S)


def _fill(disk: Path) -> None:
    with (disk / "filler").open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(65536))
            file.flush()


def _remount(option: str) -> Callable[[Path], None]:
    def change(disk: Path) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)

    return change


def _deleted(bench: Bench, trial: Trial) -> None:
    assert isinstance(bench, DiskBench)
    with trial.fault():
        trial.cold(bench.tiles["local"].take(2))
        for _ in range(5):
            shutil.rmtree(bench.cache, ignore_errors=True)
            time.sleep(0.4)
    trial.outcome.times = 5
    trial.recover(bench.tiles["local"].take(1))


def _flipped(bench: Bench, trial: Trial) -> None:
    """F8: every entry of the cache has a bit flipped, again and again."""
    assert isinstance(bench, DiskBench)
    draw = random.Random(8)
    flips = 0
    before = bench.server.figure("landcover_cache_damaged_total")
    with trial.fault():
        while flips < bench.flips:
            paths = [e.path for e in check_entries(bench.cache) if e.damage is None]
            for path in paths[: bench.flips - flips]:
                data = bytearray(path.read_bytes())
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
                # In place, as a disk damages it: the writer's own file would be whole.
                path.write_bytes(data)
                flips += 1
            time.sleep(1.0)
    trial.recover(bench.tiles["local"].take(1))
    trial.outcome.times = flips
    found = bench.server.figure("landcover_cache_damaged_total") - before
    left = sum(e.damage is not None for e in check_entries(bench.cache))
    trial.note(f"{found:.0f} found when read, {left} not read yet")
    # An entry may be evicted before anyone reads it.
    trial.expect(found + left >= 0.95 * flips, f"{flips - found - left:.0f} flips were overlooked")


def _killed_writers(bench: Bench, trial: Trial) -> None:
    """F7: a writer is killed at a random moment of its writing."""
    folder = bench.server.folder / "killed"
    draw = random.Random(7)
    classes = np.random.default_rng(7).integers(1, 7, (512, 512)).astype(np.uint8)
    payload = ClassifiedBlock(classes, classes).encode()
    with trial.fault():
        for number in range(KILLS):
            child = os.fork()
            if child == 0:
                store = DiskStore(folder, 10**9)
                while True:
                    store.put(f"{draw.randrange(16):02x}" * 20, payload)
            time.sleep(0.005 + draw.random() * 0.02)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            if number % 50 == 49:
                bad = [e for e in check_entries(folder) if e.damage is not None]
                trial.expect(not bad, f"{len(bad)} damaged entries")
    trial.outcome.times = KILLS
    trial.note(f"{sum(1 for _ in check_entries(folder))} entries, all whole")


DISKS = Group(
    "disks",
    _open,
    {
        "cache disk full": _degraded(_fill, lambda disk: (disk / "filler").unlink()),
        "cache disk read-only": _degraded(_remount("ro"), _remount("rw")),
        "cache directory deleted": Fault("", _deleted, ONLY_200, warm_s=COMPUTED_P99_S),
        "bits flipped in cache entries": Fault(
            "", _flipped, ONLY_200, quick=True, warm_s=COMPUTED_P99_S
        ),
        "writer of cache entries killed": Fault(
            "", _killed_writers, ONLY_200, warm_s=COMPUTED_P99_S
        ),
    },
)


# ---- Redis


class RedisBench(Bench):
    """A server with Redis behind a link."""

    redis: RedisServer
    link: Link
    settings: dict[str, Any]


@contextmanager
def _open_redis(stage: Stage) -> Iterator[Bench]:
    folder = stage.folder / "redis"
    folder.mkdir()
    tiles = stage.local
    with redis_server(folder) as redis, link_to(redis.port) as link:
        options = ("--imagery", stage.world.directory)
        settings: dict[str, Any] = {
            "model": stage.model,
            "redis_url": f"redis://127.0.0.1:{link.port}/0",
            "redis_lease_s": 1,
        }
        with open_bench(
            stage, folder, {"local": tiles}, tiles.take(4), *options, **settings
        ) as opened:
            bench = RedisBench(opened.server, opened.prober, opened.tiles, opened.warm)
            bench.redis, bench.link, bench.settings = redis, link, settings
            yield bench


def _redis(begin: Callable[[RedisBench], None], end: Callable[[RedisBench], None]) -> Fault:
    def run(bench: Bench, trial: Trial) -> None:
        assert isinstance(bench, RedisBench)
        tiles = bench.tiles["local"]
        with trial.fault():
            begin(bench)
            trial.cold(tiles.take(4))
            time.sleep(3)
            reported = bench.server.ready().get("redis")
            trial.expect(reported != "ok", "readyz says that Redis is ok")
            end(bench)
        trial.recover(tiles.take(2), also=lambda: bench.server.ready().get("redis") == "ok")

    return Fault("", run, ONLY_200)


def _lease_holder(bench: Bench, trial: Trial) -> None:
    """F12: another server that computes a block is killed; this one takes the block over."""
    assert isinstance(bench, RedisBench)
    tiles = bench.tiles["local"]
    other = Server(bench.server.folder / "other", "--imagery", tiles.folder, **bench.settings)
    (tile,) = tiles.take(1)
    other.start()
    claimed = bench.server.figure("landcover_leases_total")
    try:
        request = threading.Thread(target=other.get, args=(tile.path,))
        request.start()
        trial.until(lambda: other.ready().get("blocks_in_work"), 10, "a block of the other server")
        with trial.fault():
            other.kill()
        request.join(30)
        trial.recover([tile])
    finally:
        other.stop()
    trial.outcome.times = 1
    trial.expect(bench.server.figure("landcover_leases_total") > claimed, "no lease was asked for")


REDIS = Group(
    "redis",
    _open_redis,
    {
        "Redis killed": _redis(lambda b: b.redis.kill(), lambda b: b.redis.start()),
        "Redis hung": replace(
            _redis(lambda b: b.redis.hang(), lambda b: b.redis.resume()), quick=True
        ),
        "Redis cut off": _redis(lambda b: b.link.set("cut"), lambda b: b.link.set("ok")),
        "holder of a lease killed": Fault("", _lease_holder, ONLY_200),
        "Redis connections reset": _redis(
            lambda b: b.link.set("reset"), lambda b: b.link.set("ok")
        ),
    },
)
