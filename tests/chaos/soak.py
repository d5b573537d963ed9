"""`make soak`: mixed load for half an hour, with faults at random; memory and descriptors measured.

`python -m tests.chaos.soak [SECONDS]` (1800; CI: 240). Exits with status 1 when memory grows by
more than 1 MB a minute after warming up, descriptors or threads grow, a pixel is wrong or an answer
is not honest. Writes docs/reliability.md from 1800 seconds on.
"""

from __future__ import annotations

import itertools
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from app.cache.verify import check_entries
from tests.chaos.control import control
from tests.chaos.oracle import Expected, Tiles, area_in, write_ground
from tests.chaos.prober import Prober
from tests.chaos.report import machine, write
from tests.chaos.server import Server
from tests.chaos.storms import Running
from tests.chaos.trial import HONEST
from tests.world.graphs import write_model
from tests.world.range_server import Mode, RangeServer, range_server
from tests.world.world import World

WARM_UP = 0.4
"""Share of the time until memory is expected to stay: caches are full by then."""
SLOPE_MB = 1.0
NOISE_MB = 10.0
"""What memory may differ by, whatever the time: a short run cannot tell it from a slope."""
GROWN_DESCRIPTORS = 20
SAMPLE_S = 1.0
FAULTS: tuple[Mode, ...] = ("503", "truncate", "hang", "flip", "429")


@dataclass
class Soak:
    """What was measured: (minutes, MB), descriptors, threads; answers of clients and prober."""

    seconds: float
    memory: list[tuple[float, float]] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    checked: int = 0
    faults: int = 0
    flips: int = 0

    @property
    def late(self) -> list[tuple[float, float]]:
        """The samples after warming up."""
        return [each for each in self.memory if each[0] * 60 >= WARM_UP * self.seconds]

    @property
    def slope(self) -> float:
        """MB a minute after warming up: the median of all pairs' slopes (Theil-Sen)."""
        few = self.late[:: max(1, len(self.late) // 200)]
        slopes = [(b - a) / (t - s) for (s, a), (t, b) in itertools.combinations(few, 2)]
        return statistics.median(slopes) if slopes else 0.0

    def problems(self) -> list[str]:
        """Return what broke the promise."""
        early = len(self.descriptors) // 4
        grown = max(self.descriptors[-early:]) - max(self.descriptors[early : 2 * early])
        minutes = self.late[-1][0] - self.late[0][0]
        most = max(SLOPE_MB, NOISE_MB / minutes)
        others = set(self.answers) - HONEST - {"413"}
        checks = {
            f"{self.wrong} wrong pixels": self.wrong,
            f"memory grows by {self.slope:.1f} MB a minute": self.slope > most,
            f"{grown} more descriptors": grown > GROWN_DESCRIPTORS,
            f"answers {', '.join(sorted(others))}": others,
        }
        return [text for text, broken in checks.items() if broken]

    def text(self) -> str:
        """Return the figures as a Markdown list."""
        first, last = self.late[0][1], self.late[-1][1]
        codes = ", ".join(f"{code} × {n:,}" for code, n in sorted(self.answers.items()))
        return (
            f"- {self.seconds / 60:.0f} minutes, {self.faults} faults of the imagery server, "
            f"{self.flips} bits flipped in cache entries\n"
            f"- memory after warming up: {self.slope:+.2f} MB a minute ({first:.0f} → {last:.0f})\n"
            f"- descriptors {self.descriptors[0]} → {self.descriptors[-1]}, threads "
            f"{self.threads[0]} → {self.threads[-1]}\n"
            f"- {self.checked:,} tiles compared with the oracle: {self.wrong} with wrong pixels\n"
            f"- answers: {codes}\n"
        )


@contextmanager
def _served(folder: Path) -> Iterator[tuple[Server, RangeServer, World, list[Tiles]]]:
    """Caches so small that they are full soon: what grows then is a leak."""
    world = write_ground(folder / "local", range(2013, 2015), 3300)
    remote = folder / "remote"
    remote.mkdir()
    (scene,) = (replace(s, path=remote / s.path.name) for s in world.scenes[:1])
    shutil.copy(world.scenes[0].path, scene.path)
    model = write_model(folder / "models" / "pixelwise.onnx", "pixelwise")
    with range_server(remote) as files:
        toml = folder / "sources.toml"
        toml.write_text(
            f'[[source]]\nid = "remote"\ntype = "cogs"\nurls = ["{files.url(scene.path)}"]\n'
            "read_s = 3\nrequest_s = 1\nretries = 1\ncache_mb = 8\n"
        )
        server = Server(
            folder / "soak", "--imagery", world.directory, "--sources", toml,
            "--cache-dir", folder / "cache", model=model, cache_memory_mb=16, cache_disk_mb=40,
            rendered_memory_mb=4, jobs_dir=folder / "jobs",
        )  # fmt: skip
        server.start()
        try:
            tiles = [Tiles(list(world.scenes), "local"), Tiles([scene], "remote")]
            yield server, files, world, tiles
        finally:
            server.stop()


def _flip(folder: Path, draw: random.Random) -> int:
    """Flip a bit in some entries of the cache; return in how many."""
    paths = [e.path for e in itertools.islice(check_entries(folder), 5) if e.damage is None]
    for path in paths:
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
    return len(paths)


def soak(seconds: float) -> Soak:
    """Play it."""
    result, draw = Soak(seconds), random.Random(20)
    with (
        tempfile.TemporaryDirectory(prefix="landcover-soak-") as name,
        control() as idle,
        _served(folder := Path(name)) as (server, files, world, tiles),
    ):
        every: list[Expected] = [t for each in tiles for t in each.take(len(each))]
        area = area_in(world.scenes[0], 600)
        everything = [tile.document() for tile in every]
        Running("closed_loop", server.port, clients=6, tiles=everything).result(600)
        for number in range(25):
            _other_work(server, area, random.Random(number))
        prober = Prober(server.port, idle, every[:12])
        prober.ask_cold(every)
        process = psutil.Process(server.process.pid)
        began, until_s = time.monotonic(), 0.0
        try:
            while (passed := time.monotonic() - began) < seconds:
                time.sleep(SAMPLE_S)
                result.memory.append((passed / 60, server.rss / 1e6))
                result.descriptors.append(process.num_fds())
                result.threads.append(process.num_threads())
                if passed >= until_s:
                    files.repair()
                    until_s = passed + draw.uniform(4, 10)
                    if draw.random() < 0.5:
                        files.fault(draw.choice(FAULTS), times=draw.randint(1, 20))
                        result.faults += 1
                if draw.random() < 0.05:
                    result.flips += _flip(folder / "cache", draw)
                result.answers[_other_work(server, area, draw)] += 1
        finally:
            files.repair()
            prober.close()
    seen = [s for s in prober.seen if s.kind in ("warm", "cold")]
    result.answers.update(s.code for s in seen)
    result.checked = sum(s.code == "200" for s in seen)
    result.wrong = sum(s.wrong for s in seen)
    return result


def _other_work(server: Server, area: object, draw: random.Random) -> str:
    """Ask for an area, a file, a picture, a point or the figures; return the status."""
    kind = draw.randrange(5)
    year = draw.choice((2013, 2014))
    if kind == 0:
        status, *_ = server.ask("POST", f"/statistics?year={year}", area)
    elif kind == 1:
        status, *_ = server.ask("POST", f"/feature.tif?year={year}", area)
    else:
        paths = ("/metrics", "/point/-86.95,32.95?probabilities=true", "/WMTSCapabilities.xml")
        status, *_ = server.ask("GET", paths[kind - 2])
    return str(status)


def main(arguments: Sequence[str]) -> int:
    """Return 1 when the promise was broken."""
    seconds = float(arguments[0]) if arguments else 1800.0
    result = soak(seconds)
    print(result.text())
    problems = result.problems()
    for problem in problems:
        print(f"broken: {problem}")
    if seconds >= 1800:
        write("soak", f"{machine()}\n\n{result.text()}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
