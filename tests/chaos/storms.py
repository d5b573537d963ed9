"""Clients that behave badly or come all at once: a process of its own, over plain sockets.

`python -m tests.chaos.storms KIND PORT` reads a JSON object of the storm's own fields from its
standard input and prints what the clients saw as one JSON object. Every client may have a loopback
address of its own (127.1.x.y), as clients of a network have.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tests.chaos.prober import Judge

Fields = dict[str, Any]
Storm = Callable[[int, Fields], Coroutine[Any, Any, Fields]]
LIMIT = 1 << 20
LONGEST_S = 60.0
FILL_S = 2.0
"""Within which the queue of a server that is asked for too much is full."""
_connected: list[int] = []
"""The first client of this process that was connected."""


def _address(number: int) -> tuple[str, int]:
    return f"127.1.{number // 250 % 250}.{number % 250 + 1}", 0


async def _connect(port: int, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.wait_for(
        asyncio.open_connection("127.0.0.1", port, local_addr=_address(number), limit=LIMIT),
        30,
    )


async def _request(port: int, number: int, path: str) -> Fields:
    """Send a GET on a connection of its own; connected: monotonic seconds."""
    answer: Fields = {"code": "refused", "connected": None, "began": time.monotonic()}
    writer = None
    try:
        reader, writer = await _connect(port, number)
        answer |= {"code": "reset", "connected": time.monotonic()}
        if not _connected:
            _connected.append(number)
            print("connected", flush=True)
        writer.write(
            f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        async with asyncio.timeout(LONGEST_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.split("content-length:")[1].split("\r\n")[0])
            body = await reader.readexactly(length)
        answer |= {"code": head.split(" ", 2)[1], "retry_after": "retry-after:" in head}
        answer["body"] = body
    except TimeoutError:
        answer["code"] = "timeout"
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError):
        pass
    finally:
        if writer is not None:
            writer.close()
    answer["took"] = time.monotonic() - answer["began"]
    return answer


def _evaluated(judge: Judge, answer: Fields, digests: list[str]) -> Fields:
    body = answer.pop("body", b"")
    answer["wrong"] = answer["code"] == "200" and judge.is_wrong(body, digests)
    return answer


async def same(port: int, fields: Fields) -> Fields:
    """`tiles` are asked for at once by `clients`, in turn."""
    judge = Judge()
    turns = itertools.islice(itertools.cycle(fields["tiles"]), fields["clients"])
    requested = list(turns)
    answers = await asyncio.gather(
        *(_request(port, number, path) for number, (path, _) in enumerate(requested))
    )
    pairs = zip(answers, requested, strict=True)
    return {"answers": [_evaluated(judge, answer, tile[1]) for answer, tile in pairs]}


async def leave(port: int, fields: Fields) -> Fields:
    """`clients` ask for `tiles` and hang up after `after_s`."""

    async def one(number: int, path: str) -> bool:
        try:
            _, writer = await _connect(port, number)
        except (OSError, TimeoutError):
            return False
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        await asyncio.sleep(fields["after_s"])
        writer.transport.abort()
        return True

    tiles = fields["tiles"]
    left = await asyncio.gather(
        *(one(n, tiles[n % len(tiles)][0]) for n in range(fields["clients"]))
    )
    return {"left": sum(left)}


async def loris(port: int, fields: Fields) -> Fields:
    """`clients` send a byte of their request every second for `seconds`."""
    text = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: " + b"a" * 10_000

    async def one(number: int) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await _connect(port, number)
            ends = time.monotonic() + fields["seconds"]
            for byte in text:
                if time.monotonic() > ends:
                    break
                writer.write(bytes([byte]))
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    if await asyncio.wait_for(reader.read(1), 1) is not None:
                        return True
            writer.transport.abort()
        return False

    closed = await asyncio.gather(*(one(n) for n in range(fields["clients"])))
    return {"closed_by_server": sum(closed)}


async def hostile(port: int, fields: Fields) -> Fields:
    """`clients` of every kind, for `seconds`: half a request, endless heads and addresses, noise,
    bodies that never come, thousands of headers, silence."""
    draw = random.Random(1)
    starts = [
        b"GET /healthz HTTP/1.1\r\nhost: a\r\n",
        b"GET /" + b"a" * 60_000,
        b"GET /healthz HTTP/1.1\r\nx: " + b"b" * 60_000,
        draw.randbytes(2000),
        b"POST /statistics HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n{",
        b"POST /statistics HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffff\r\n{",
        b"GET /healthz HTTP/1.1\r\n" + b"".join(b"x-%d: 1\r\n" % n for n in range(4000)),
        b"",
        b"GET /tiles/WebMercatorQuad/18/1/1.png?a=" + b"c" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ]
    ends = time.monotonic() + fields["seconds"]

    async def one(number: int) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await _connect(port, number)
            writer.write(starts[number % len(starts)])
            while time.monotonic() < ends:
                with contextlib.suppress(TimeoutError):
                    if not await asyncio.wait_for(reader.read(65536), 1):
                        break
                if number % len(starts) in (1, 2):
                    writer.write(b"z" * 4096)
                    await writer.drain()
            writer.transport.abort()

    await asyncio.gather(*(one(n) for n in range(fields["clients"])))
    return {"clients": fields["clients"]}


async def heads(port: int, fields: Fields) -> Fields:
    """`megabytes` of small headers in all, over 8 connections, each one request that never ends."""
    chunk = b"".join(b"x-%06d: %s\r\n" % (n, b"v" * 50) for n in range(1000))
    sent = [0]
    most = fields["megabytes"] * 1_000_000

    async def one(number: int) -> None:
        while sent[0] < most:
            try:
                reader, writer = await _connect(port, number)
                writer.write(b"GET /healthz HTTP/1.1\r\n")
                while sent[0] < most and not reader.at_eof():
                    writer.write(chunk)
                    sent[0] += len(chunk)
                    await asyncio.wait_for(writer.drain(), 10)
                writer.transport.abort()
            except (OSError, TimeoutError):
                sent[0] += len(chunk)

    await asyncio.gather(*(one(n) for n in range(8)))
    return {"bytes": sent[0]}


async def queries(port: int, fields: Fields) -> Fields:
    """`count` requests of one tile, each with another query of `length` characters."""
    numbers = iter(range(fields["count"]))
    codes: dict[str, int] = {}

    async def one(client: int) -> None:
        for number in numbers:
            path = f"{fields['path']}&x{number}={'q' * fields['length']}"
            answer = await _request(port, client, path)
            codes[answer["code"]] = codes.get(answer["code"], 0) + 1

    await asyncio.gather(*(one(n) for n in range(8)))
    return {"codes": codes}


async def closed_loop(port: int, fields: Fields) -> Fields:
    """`clients` ask for `tiles`, each after the answer before, until all were asked for."""
    judge, tiles, answers = Judge(), iter(fields["tiles"]), []
    began = time.monotonic()

    async def one(number: int) -> None:
        for path, digests in tiles:
            answers.append(_evaluated(judge, await _request(port, number, path), digests))

    await asyncio.gather(*(one(n) for n in range(fields["clients"])))
    return {"answers": answers, "seconds": time.monotonic() - began}


async def open_loop(port: int, fields: Fields) -> Fields:
    """A request every 1 / `rate` seconds for `seconds`, whatever became of those before. A tile
    that was not answered 200 is asked for again later. `goodput`: answers 200 a second, once the
    queue has had `FILL_S` to fill."""
    judge, tiles, answers = Judge(), list(fields["tiles"]), []
    began = time.monotonic()

    async def one(number: int, tile: tuple[str, list[str]]) -> None:
        answer = _evaluated(judge, await _request(port, number, tile[0]), tile[1])
        answers.append(answer | {"after": time.monotonic() - began})
        if answer["code"] != "200":
            tiles.append(tile)

    running, number = set(), 0
    while (passed := time.monotonic() - began) < fields["seconds"]:
        while number < passed * fields["rate"] and tiles:
            running.add(asyncio.ensure_future(one(number, tiles.pop(0))))
            number += 1
        await asyncio.sleep(0.005)
    good = sum(a["code"] == "200" and a["after"] >= FILL_S for a in answers)
    goodput = good / (time.monotonic() - began - FILL_S)
    ran_out = not tiles
    await asyncio.gather(*running)
    return {"answers": answers, "goodput": goodput, "sent": number, "ran_out": ran_out}


async def greedy(port: int, fields: Fields) -> Fields:
    """One address asks for `paths` over `clients` connections for `seconds`."""
    ends = time.monotonic() + fields["seconds"]
    codes: dict[str, int] = {}

    async def one(start: int) -> None:
        paths = itertools.cycle(fields["paths"][start:] + fields["paths"][:start])
        while time.monotonic() < ends:
            answer = await _request(port, 1, next(paths))
            codes[answer["code"]] = codes.get(answer["code"], 0) + 1
            if answer["code"] != "200":
                await asyncio.sleep(0.2)

    await asyncio.gather(*(one(n % len(fields["paths"])) for n in range(fields["clients"])))
    return {"codes": codes}


STORMS: dict[str, Storm] = {
    "same": same, "leave": leave, "loris": loris, "hostile": hostile, "heads": heads,
    "queries": queries, "closed_loop": closed_loop, "open_loop": open_loop, "greedy": greedy,
}  # fmt: skip


class Running:
    """A storm that was begun."""

    def __init__(self, kind: str, port: int, **fields: object) -> None:
        command = [sys.executable, "-m", "tests.chaos.storms", kind, str(port)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(fields) + "\n")
        self._process.stdin.flush()

    def until_connected(self) -> None:
        """Wait until the first of its clients is connected, of a storm whose clients ask."""
        assert self._process.stdout is not None
        self._process.stdout.readline()

    @property
    def lasts(self) -> bool:
        """Whether it is not over."""
        return self._process.poll() is None

    def result(self, timeout: float = 240) -> Fields:
        """Wait for it; RuntimeError when it failed."""
        output, _ = self._process.communicate(timeout=timeout)
        if self._process.returncode:
            raise RuntimeError(f"the storm ended with {self._process.returncode}")
        result: Fields = json.loads(output.splitlines()[-1])
        return result


def main() -> None:
    """Play one storm."""
    kind, port = sys.argv[1], int(sys.argv[2])
    fields = json.loads(sys.stdin.readline())
    print(json.dumps(asyncio.run(STORMS[kind](port, fields))))


if __name__ == "__main__":
    main()
