"""The address that a client used when proxies stand between: X-Forwarded-For, -Proto and -Host.

Only what a trusted proxy says is believed; from anybody else these headers change nothing. Every
link of an answer (capabilities, TileJSON, jobs) is made of the scheme and host set here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import ConfigurationError

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_SCHEMES = (b"http", b"https")

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Forwarded:
    """Puts the client's own scheme, host and address in place of the proxy's."""

    def __init__(self, app: ASGIApp, trusted: Iterable[str], root_path: str = "") -> None:
        """`trusted`: addresses or networks (10.0.0.0/8) of proxies, or `*`; ConfigurationError.
        `root_path`: where a proxy publishes the service, such as /landcover."""
        self.app = app
        self._root_path = root_path.rstrip("/")
        names = tuple(trusted)
        self._everyone = "*" in names
        self._networks = tuple(_network(name) for name in names if name != "*")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] == "http":
            client = scope.get("client")
            is_told = any(name.startswith(b"x-forwarded-") for name, _ in scope["headers"])
            if is_told and client and self._trusts(client[0]):
                scope = self._told(scope)
            if self._root_path:
                scope = {**scope, "root_path": self._root_path}
        await self.app(scope, receive, send)

    def _told(self, scope: Scope) -> Scope:
        """The scope as the proxy tells it."""
        headers = dict(scope["headers"])
        told = {**scope}
        scheme = _first(headers.get(b"x-forwarded-proto", b"")).lower()
        if scheme in _SCHEMES:
            told["scheme"] = scheme.decode()
        host = _first(headers.get(b"x-forwarded-host", b""))
        if _HOST.fullmatch(host):
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            told["headers"] = [*others, (b"host", host)]
        chain = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")
        # From the right: what stands left of an address nobody vouches for may be forged.
        for address in map(str.strip, reversed(chain)):
            if not _is_address(address):
                break
            told["client"] = (address, 0)
            if not self._trusts(address):
                break
        return told

    def _trusts(self, address: str) -> bool:
        if self._everyone:
            return True
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


def _network(name: str) -> _Network:
    try:
        return ipaddress.ip_network(name)
    except ValueError as error:
        raise ConfigurationError(
            f"trusted_proxies: {name!r} is no address or network such as 10.0.0.0/8 ({error})"
        ) from error


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _first(value: bytes) -> bytes:
    return bytes(value.split(b",")[0].strip())
