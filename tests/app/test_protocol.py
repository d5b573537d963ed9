"""What a client may make the server hold or wait for, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.cli import protocol
from app.cli.protocol import Guarded
from app.cli.server import Server
from tests.app.running import until

HEAD = b"GET /tile HTTP/1.1\r\nHost: a\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the number of bytes of the body, /early before it has come."""
    if scope["type"] == "lifespan":
        while True:
            step = (await receive())["type"]
            if step == "lifespan.startup":
                scope["state"]["body_bytes"] = 1000
            await send({"type": f"{step}.complete"})
            if step == "lifespan.shutdown":
                return
    size, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    body = b"%d" % size
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(protocol, "HEAD_S", 0.4)
    monkeypatch.setattr(protocol, "BODY_S", 0.4)
    monkeypatch.setattr(protocol, "_LOOK_S", 0.05)
    monkeypatch.setattr(protocol, "_DISCARD_S", 0.2)
    monkeypatch.setattr(protocol, "CONNECTIONS", 32)
    server = uvicorn.Server(uvicorn.Config(echo, port=0, http=Guarded, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def until_closed(connection: socket.socket) -> bytes:
    """All that the server still sends; TimeoutError unless it closes the connection."""
    received = b""
    with connection, contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            received += data
    return received


def sent(port: int, *parts: bytes) -> bytes:
    """What the server answers to `parts`, until it closes; it may close before all is sent."""
    with connected(port) as connection:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
        return until_closed(connection)


def poured(connection: socket.socket, data: bytes, pause: float = 0) -> int:
    """The bytes that could be sent until the server closed the connection, 99 MB at most."""
    total = 0
    with contextlib.suppress(ConnectionError):
        while total < 99_000_000:
            total += connection.send(data)
            time.sleep(pause)
    return total


def problem_of(answer: bytes, status: int) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == str(status).encode(), answer[:200]
    assert b"\r\ncontent-type: application/problem+json" in head
    assert b"\r\nconnection: close" in head
    problem: dict[str, object] = json.loads(body)
    assert problem["status"] == status
    return problem


@pytest.mark.parametrize(
    ("status", "limit", "parts"),
    [
        (414, 8192, [b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n"]),
        (414, 8192, [b"GET /", *[b"x" * 65536] * 160]),
        (431, 100, [HEAD, *[b"a: b\r\n"] * 100, b"\r\n"]),
        (431, 100, [HEAD, *[b"a: b\r\n" * 10000] * 160]),
        (431, 32768, [HEAD, b"a: " + b"x" * 33000, b"\r\n\r\n"]),
        (431, 32768, [HEAD, b"a: ", *[b"x" * 65536] * 160]),
        (431, 32768, [HEAD, *[b"x" * 65536] * 160]),
    ],
    ids=["url", "endless url", "101 fields", "endless fields", "field", "endless field", "name"],
)
def test_a_head_above_a_limit_is_refused_with_the_limit_and_closed(
    port: int, status: int, limit: int, parts: list[bytes]
) -> None:
    problem = problem_of(sent(port, *parts), status)
    assert problem["limit"] == limit
    assert str(limit) in str(problem["detail"])


def test_the_largest_head_that_is_allowed_is_answered(port: int) -> None:
    fields = b"".join(b"f%d: %s\r\n" % (number, b"x" * 200) for number in range(98))
    request = b"GET /%s HTTP/1.1\r\n%sConnection: close\r\n\r\n" % (b"u" * 8000, fields)
    for size in (len(request), 1000, 7):
        pieces = [request[start : start + size] for start in range(0, len(request), size)]
        assert sent(port, *pieces).startswith(b"HTTP/1.1 200")


def test_what_is_no_request_is_a_problem(port: int) -> None:
    assert "detail" in problem_of(sent(port, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"), 400)


@pytest.mark.parametrize("start", [b"", b"\r\n", b"GET / HT", HEAD])
def test_a_head_that_does_not_come_is_given_up(port: int, start: bytes) -> None:
    began = time.monotonic()
    problem_of(sent(port, start), 408)
    assert time.monotonic() - began < 5


def test_drops_of_a_head_do_not_keep_a_connection(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(HEAD)
        assert poured(connection, b"a: b\r\n", pause=0.05) < 100 * 6


def test_a_body_that_does_not_come_is_given_up(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc"
    assert "body" in str(problem_of(sent(port, head), 408)["detail"])


def test_a_body_is_received_across_pieces_and_chunks(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    whole = [head, b"Content-Length: 200000\r\n\r\n", *[b"x" * 50_000] * 4]
    assert sent(port, *whole).endswith(b"\r\n\r\n200000")
    chunked = [head, b"Transfer-Encoding: chunked\r\n\r\n", *[b"3\r\nabc\r\n"] * 9, b"0\r\n\r\n"]
    assert sent(port, *chunked).endswith(b"\r\n\r\n27")


@pytest.mark.parametrize("path", [b"/", b"/early"])
def test_a_body_without_end_is_not_received(port: int, path: bytes) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n" % path
    with connected(port) as connection:
        connection.sendall(head)
        assert poured(connection, b"x" * 65536) < 20_000_000


def test_trailers_without_end_are_not_received(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    with connected(port) as connection:
        connection.sendall(head)
        assert poured(connection, b"a: b\r\n" * 10000) < 20_000_000


def test_requests_sent_one_behind_the_other_are_answered_in_order(port: int) -> None:
    ask = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s"
    requests = b"".join(ask % (size, b"x" * size) for size in range(1, 60))
    last = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answers = sent(port, requests * 30, last).split(b"HTTP/1.1 200 OK")[1:]
    sizes = [int(answer.rpartition(b"\r\n\r\n")[2]) for answer in answers]
    assert sizes == [*range(1, 60)] * 30 + [0]


def test_new_connections_take_the_place_of_those_that_send_nothing(port: int) -> None:
    idle = [connected(port) for _ in range(60)]
    try:
        assert sent(port, HEAD, b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")
        assert until_closed(idle[0]) == b""  # the oldest, without an answer
    finally:
        for each in idle:
            each.close()


def test_a_stopping_server_answers_what_is_on_its_way_and_in_the_queue_of_its_socket() -> None:
    server = Server(uvicorn.Config(echo, port=0, http=Guarded, log_level="critical"))

    async def stopped() -> list[bytes]:
        serving = asyncio.create_task(server.serve())
        await asyncio.to_thread(until, lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        kept = connected(port)
        server.should_exit = True
        await asyncio.sleep(0.3)
        connections = [kept, *(connected(port) for _ in range(64))]  # nobody accepts meanwhile
        for each in connections:
            each.sendall(HEAD + b"\r\n")
        await serving
        return [await asyncio.to_thread(until_closed, each) for each in connections]

    interval = sys.getswitchinterval()
    try:
        answers = asyncio.run(stopped())
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert all(b"connection: close" in answer for answer in answers)


BODY = b"POST /tile HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\n\r\n" + b"x" * 300


def echoed(connection: socket.socket) -> bool:
    """Whether BODY is answered with its length."""
    answer = b""
    while not answer.endswith(b"\r\n\r\n300"):
        piece = connection.recv(65536)
        if not piece:
            return False
        answer += piece
    return True


def test_newcomers_take_turns_and_their_pieces_stay_in_order(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "PARSED_PER_TURN", 1)
    monkeypatch.setattr(protocol, "CONNECTIONS", 100)
    with contextlib.ExitStack() as opened:
        connections = [opened.enter_context(connected(port)) for _ in range(40)]
        for start in range(0, len(BODY), 60):
            for each in connections:
                each.sendall(BODY[start : start + 60])
        for each in connections:
            assert echoed(each)
            each.sendall(BODY)
            assert echoed(each)


def test_a_client_that_is_known_does_not_wait_behind_newcomers(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, held = protocol._Turns.begin, list[Callable[[], None]]()

    def hold(turns: Any, start: Callable[[], None]) -> None:  # noqa: ANN401
        if turns._most == protocol.PARSED_PER_TURN:
            held.append(start)
        else:
            begin(turns, start)

    with connected(port) as known, connected(port) as newcomer:
        known.sendall(BODY)
        assert echoed(known)
        monkeypatch.setattr(protocol._Turns, "begin", hold)
        newcomer.sendall(BODY)
        until(lambda: held)
        known.sendall(BODY)
        assert echoed(known)
        assert len(held) == 1
