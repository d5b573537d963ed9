"""A TCP link between the service and what it depends on, which can be refused, cut or slowed."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Literal

State = Literal["ok", "refuse", "reset", "hang", "slow", "cut"]
SLOW_BYTES_S = 2000


class Link:
    """Forwards connections to `target` on loopback.

    refuse: nobody listens. reset: every connection is broken at once, those open as well. cut: as
    a cable that is pulled, bytes no longer pass in either direction. hang: connections are taken
    and never answered. slow: the answer comes at 2 kB a second.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._state: State = "ok"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self.port = 0
        self._listen()

    @property
    def state(self) -> State:
        """What the link does now."""
        return self._state

    def set(self, state: State) -> None:
        """Change what it does; open connections are broken unless it hangs, is cut or slow."""
        self._state = state
        if state == "refuse":
            self._unlisten()
        elif self._listener is None:
            self._listen()
        if state in ("ok", "refuse", "reset"):
            self._break_all()

    def close(self) -> None:
        """Listen no more; nothing is left open."""
        self.set("refuse")
        for thread in self._threads:
            thread.join(5)

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(512)
        self.port = listener.getsockname()[1]
        self._listener = listener
        thread = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _unlisten(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if self._state == "reset":
                _reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                _reset(client)
                continue
            with self._lock:
                self._open |= {client, server}
            for source, sink, slowed in ((client, server, False), (server, client, True)):
                arguments = (source, sink, slowed)
                thread = threading.Thread(target=self._forward, args=arguments, daemon=True)
                thread.start()
                self._threads.append(thread)

    def _forward(self, source: socket.socket, sink: socket.socket, slowed: bool) -> None:
        try:
            while data := source.recv(65536):
                while self._state in ("hang", "cut"):
                    time.sleep(0.05)
                step = SLOW_BYTES_S // 10 if slowed and self._state == "slow" else len(data)
                for first in range(0, len(data), step):
                    sink.sendall(data[first : first + step])
                    if self._state == "slow" and slowed:
                        time.sleep(0.1)
        except OSError:
            pass
        with self._lock:
            self._open -= {source, sink}
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _break_all(self) -> None:
        with self._lock:
            broken = list(self._open)
        for each in broken:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


@contextlib.contextmanager
def link_to(port: int) -> Iterator[Link]:
    """A link to a port of this machine."""
    link = Link(port)
    try:
        yield link
    finally:
        link.close()
