"""The longest silence of `/healthz` while many clients come, and go, at once."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from tests.benchmarks.report import Finding
from tests.benchmarks.served import SERVE, Served, served
from tests.benchmarks.tiles import grid_of_tiles, path_of

LIMIT_MS = 100.0
PAUSE_S = 0.02


def measure(county: Path) -> list[Finding]:
    """200 clients of one cold tile, 500 of one and of many that leave at once: worst /healthz."""
    tiles = grid_of_tiles(county, 18, 10, 8)
    findings = []
    bursts: dict[str, Callable[[Served], Coroutine[None, None, None]]] = {
        "while nothing happens": lambda _: asyncio.sleep(3),
        "while 200 clients want one cold tile": lambda server: _burst(
            server, [path_of(tiles[0], "2017")] * 200
        ),
        "while 500 clients of one cold tile leave": lambda server: _burst(
            server, [path_of(tiles[40], "2017")] * 500, leave_s=0.3
        ),
        "while 500 clients of 80 cold tiles leave": lambda server: _burst(
            server, [path_of(tiles[n % 80], "2013") for n in range(500)], leave_s=0.3
        ),
    }
    with served(SERVE, {"LANDCOVER_IMAGERY": str(county)}) as server:
        server.get([path_of(tiles[79], "2017")], 1)
        for name, burst in bursts.items():
            with probed(server.port) as waits:
                asyncio.run(burst(server))
                time.sleep(1)
            worst, middle = max(waits) * 1000, sorted(waits)[len(waits) // 2] * 1000
            findings.append(
                Finding(
                    f"longest wait for /healthz {name} ÷ {LIMIT_MS:.0f} ms",
                    worst / LIMIT_MS,
                    1,
                    False,
                    f"{worst:.0f} ms, median {middle:.1f} ms of {len(waits)}",
                )
            )
    return findings


def measure_hostile(county: Path) -> list[Finding]:
    """1,000 connections that send nothing, too slowly or without end: memory, worst /healthz."""
    with served(SERVE, {"LANDCOVER_IMAGERY": str(county)}) as server:
        server.get([path_of(grid_of_tiles(county, 18, 1, 1)[0], "2017")], 1)
        idle = server.rss
        with probed(server.port) as waits:
            largest = asyncio.run(_besieged(server))
    worst = max(waits) * 1000
    return [
        Finding(
            "memory (RSS) under 1,000 hostile connections ÷ idle",
            largest / idle,
            1.2,
            False,
            f"{largest / 1e6:.0f} MB over {idle / 1e6:.0f} MB",
        ),
        Finding(
            f"longest wait for /healthz under 1,000 hostile connections ÷ {LIMIT_MS:.0f} ms",
            worst / LIMIT_MS,
            1,
            False,
            f"{worst:.0f} ms, {len(waits)} asked",
        ),
    ]


async def _besieged(server: Served) -> int:
    """The largest resident memory within 15 s."""
    head = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
    floods = {
        "nothing": (b"", b""),
        "a large head, unfinished": (head + b"a: " + b"x" * 32_000, b""),
        "a field now and then": (head, b"a: b\r\n"),
        "a URL without end": (b"GET /", b"x" * 65_536),
        "fields without end": (head, b"a: b\r\n" * 10_000),
    }

    async def client(first: bytes, rest: bytes) -> None:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                try:
                    writer.write(first)
                    while not writer.is_closing():
                        writer.write(rest)
                        await asyncio.wait_for(writer.drain(), 5)
                        await asyncio.sleep(2)
                except TimeoutError:
                    pass
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.5)

    kinds = list(floods.values())
    clients = [asyncio.create_task(client(*kinds[n % len(kinds)])) for n in range(1000)]
    largest, ends = 0, time.monotonic() + 15
    while time.monotonic() < ends:
        await asyncio.sleep(0.5)
        largest = max(largest, server.rss)
    for each in clients:
        each.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    return largest


@contextmanager
def probed(port: int) -> Iterator[list[float]]:
    """Ask for /healthz all the while from a process of its own; at the end the seconds each took,
    from connecting to the answer, are in the list."""
    waits: list[float] = []
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_probe, args=(port, theirs))
    process.start()
    ours.recv()  # it has begun
    try:
        yield waits
    finally:
        ours.send(None)
        waits += ours.recv()
        process.join()


def _probe(port: int, pipe: Connection) -> None:
    waits: list[float] = []
    pipe.send(None)
    while not pipe.poll(PAUSE_S):
        began = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            if b" 200 " not in connection.recv(4096):
                raise RuntimeError("/healthz failed")
        waits.append(time.perf_counter() - began)
    pipe.send(waits)


async def _burst(server: Served, paths: list[str], leave_s: float | None = None) -> None:
    """Ask for every path at once, a connection each; leave after `leave_s`, or stay until all is
    answered."""

    async def client(path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        try:
            async with asyncio.timeout(leave_s):
                answer = await reader.read()
            if b" 200 " not in answer[:20] and b" 503 " not in answer[:20]:
                raise RuntimeError(answer[:200].decode("latin-1"))
        except TimeoutError:
            pass
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    await asyncio.gather(*map(client, paths))
