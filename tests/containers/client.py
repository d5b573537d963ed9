"""HTTP to a container from within its network namespace, over its own loopback.

A published port leads through the host's packet filter, which on some machines lets nothing pass
to a bridge's addresses; what is tested is the service, not the host.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2 as httpx

from tests.containers.podman import Failed, run

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def state_of(container: str) -> dict[str, int]:
    """What podman knows of a container: Pid, ExitCode, …"""
    state: dict[str, int] = json.loads(run("podman", "inspect", container))[0]["State"]
    return state


def get(container: str, port: int, path: str, timeout: float = 60) -> httpx.Response:
    """GET over the container's loopback; TransportError while it does not run."""
    with _inside(container):
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=timeout)


def post(container: str, port: int, path: str, body: object, **headers: str) -> httpx.Response:
    """POST of JSON, as `get`."""
    with _inside(container):
        address = f"http://127.0.0.1:{port}{path}"
        return httpx.post(address, json=body, headers=headers, timeout=60)


@contextmanager
def _inside(container: str) -> Iterator[None]:
    """This thread in the container's network; namespaces belong to threads, not processes."""
    pid = state_of(container)["Pid"]
    if not pid:
        raise httpx.ConnectError(f"{container} does not run")
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        try:
            other = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        except OSError as error:
            raise httpx.ConnectError(f"{container} has just ended") from error
        try:
            _enter(other)
        finally:
            os.close(other)
        try:
            yield
        finally:
            _enter(own)
    finally:
        os.close(own)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise Failed(f"setns: {os.strerror(ctypes.get_errno())}")
