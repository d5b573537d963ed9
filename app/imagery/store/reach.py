"""Which hosts and buckets a source may be sent requests to: those that its operator points at.

Catalogs name the addresses that are read, and whoever writes a catalog is not the operator. So a
name is compared with the operator's before anything is requested, and what it resolves to is
checked on the very address that is connected to: between look-up and connection nothing is left to
change.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import httpcore2
import httpx2

from app.imagery.store import BUCKET_SCHEMES
from app.resilience import OutOfReach

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Kind = Literal["public", "private", "loopback", "link-local", "reserved"]

WEB_PORTS = frozenset({80, 443})
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16")
)
"""Where clouds give credentials to their machines; not all of them are link-local."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One host that may be reached: a name, a name with everything below it (`*.example.org`), or a
    network of addresses. `ports`: None for all of them."""

    text: str
    ports: frozenset[int] | None = None
    network: Network | None = None

    def matches(self, host: str, port: int) -> bool:
        """Return whether a request names it; `host` in lower case, without brackets."""
        if self.ports is not None and port not in self.ports:
            return False
        address = _literal(host)
        if self.network is not None:
            return address is not None and address in self.network
        if self.text == "*":
            return True
        if self.text.startswith("*."):
            return address is None and host.endswith(self.text[1:])
        return host == self.text

    def leads_to(self, address: IPAddress, kind: Kind) -> bool:
        """Return whether the name may stand for that address. Those who own a name's DNS choose the
        address: of a name that the operator wrote out it may be in a private network, the machine
        itself only by a name that no public DNS has."""
        if self.network is not None:
            return address in self.network
        if kind == "public":
            return True
        if self.text.startswith("*"):
            return False
        local = "." not in self.text or self.text.endswith(".localhost")
        return kind == "private" or (kind == "loopback" and local)


class Reach:
    """The hosts and buckets of one source. Safe from several threads."""

    def __init__(
        self,
        pointed_at: Iterable[str] = (),
        hosts: Iterable[str] = (),
        *,
        servers: Iterable[str] = (),
        account: str = "",
    ) -> None:
        """`pointed_at`: addresses in the operator's words, whose hosts (and ports) and buckets may
        be reached; `hosts`: more of them, as `rule_of` reads them. `servers`: what stands behind
        the buckets; no href may name it. `account`: Azure's, of addresses that do not say.

        ValueError for what is no host."""
        self._account = account
        self._buckets: frozenset[str] = frozenset()
        self._rules: tuple[Rule, ...] = ()
        self._servers = tuple(map(rule_of, servers))
        self._decided = lru_cache(maxsize=4096)(self._decide)
        for host in hosts:
            if is_bucket(host):
                self._buckets |= {bucket_of(host, account)}
            else:
                self._rules += (rule_of(host),)
        self.point_at(pointed_at)

    def point_at(self, addresses: Iterable[str]) -> None:
        """Add the hosts and buckets of addresses that the operator gives."""
        buckets, rules = set(self._buckets), dict.fromkeys(self._rules)
        # A list may have 100,000 addresses on a few hosts.
        for origin in {_origin(url) for url in addresses}:
            if is_bucket(origin):
                buckets.add(bucket_of(origin, self._account))
            elif "://" in origin and (place := _place(origin)) is not None:
                rules[_own(*place, is_given=httpx2.URL(origin).port is not None)] = None
        self._buckets, self._rules = frozenset(buckets), tuple(rules)
        self._decided.cache_clear()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return what may be reached, for people."""
        named = {
            rule.text if rule.ports in (None, WEB_PORTS) else f"{rule.text}:{min(rule.ports)}"
            for rule in self._rules
        }
        return (*sorted(named), *sorted(self._buckets))

    def refusal(self, url: str) -> str | None:
        """Return why an address may not be requested and what allows it; None when it may."""
        return self._decided(_origin(url))

    def _decide(self, origin: str) -> str | None:
        if is_bucket(origin):
            bucket = bucket_of(origin, self._account)
            return None if bucket in self._buckets else _refusal(bucket, "bucket")
        place = _place(origin)
        if place is None:
            return "its address is not valid"
        if any(rule.matches(*place) for rule in self._rules):
            return None
        literal = _literal(place[0])
        kind = "public" if literal is None else kind_of(literal)
        return _refusal(_shown(*place), "host" if kind == "public" else f"{kind} address")

    def accepts(self, host: str, port: int) -> bool:
        """Return whether a connection to a host is one of this source."""
        return any(rule.matches(host, port) for rule in (*self._rules, *self._servers))

    def address_refusal(self, host: str, port: int, address: IPAddress) -> str | None:
        """Return why a host may not be reached at an address that its name stands for."""
        address = _unwrapped(address)
        kind = kind_of(address)
        known = [rule for rule in (*self._rules, *self._servers) if rule.matches(host, port)]
        listed = (rule for rule in self._rules if rule.matches(str(address), port))
        if any(rule.leads_to(address, kind) for rule in (*known, *listed)):
            return None
        return f'{host} is at {address}, a {kind} address: hosts = ["{address}"] allows it'


def is_bucket(url: str) -> bool:
    """Return whether an address is of an object in a bucket or container."""
    return url.partition("://")[0].lower() in BUCKET_SCHEMES


def bucket_of(url: str, account: str = "") -> str:
    """Return the bucket of an object: `s3://bucket`, `gs://bucket`, `az://container@account`."""
    scheme, _, rest = url.partition("://")
    name = rest.partition("/")[0]
    if scheme.lower() in ("s3", "gs"):
        return f"{scheme.lower()}://{name}"
    container, _, server = name.partition("@")
    owner = server.partition(".")[0] or account
    return f"az://{container}@{owner}" if owner else f"az://{container}"


def rule_of(text: str) -> Rule:
    """Return the rule that an operator's host is: `a.org`, `a.org:8443`, `*.a.org`, `10.1.2.3`,
    `[::1]:9000`, `10.0.0.0/8`, `*` (every public host). ValueError for anything else."""
    try:
        return Rule(text, network=ipaddress.ip_network(text, strict=False))
    except ValueError:
        pass
    name, ports = text.lower().rstrip("."), None
    head, colon, tail = name.rpartition(":")
    if colon and (":" not in head or head.endswith("]")):
        if not (tail.isascii() and tail.isdigit() and 0 < int(tail) < 65_536):
            raise ValueError(_MALFORMED.format(text))
        name, ports = head, frozenset({int(tail)})
    literal = _literal(name.strip("[]"))
    if literal is not None:
        return Rule(str(literal), ports, ipaddress.ip_network(literal))
    labels = name.removeprefix("*.").split(".") if name != "*" else []
    try:
        valid = all(labels) and httpx2.URL(f"http://{'.'.join(labels) or 'a'}").path in ("", "/")
    except httpx2.InvalidURL:
        valid = False
    if not valid or any(set("*@/?#% ") & set(label) for label in labels):
        raise ValueError(_MALFORMED.format(text))
    return Rule(name, ports)


def kind_of(address: IPAddress) -> Kind:
    """Return what network an address belongs to; what is wrapped in IPv6 counts as it is inside."""
    address = _unwrapped(address)
    if address.is_loopback:
        return "loopback"
    if address.is_link_local or address in _METADATA:
        return "link-local"
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return "reserved"
    return "public" if address.is_global else "private"


class ReachTransport(httpx2.BaseTransport):
    """Connections of httpx2 to what is within reach, and to nothing else.

    OutOfReach when a host is not, or none of its addresses. A proxy of the environment is used as
    httpx2 would; names are then resolved by it, and only they are checked.
    """

    def __init__(self, reach: Reach, keepalive: int = 0) -> None:
        """`keepalive`: connections that are kept open for later requests."""
        self._reach = reach
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpx2.create_ssl_context(),
            max_connections=None,
            max_keepalive_connections=keepalive,
            keepalive_expiry=5.0,
            network_backend=_CheckedConnections(reach),
        )
        self._proxies = {
            scheme: httpx2.HTTPTransport(proxy=url)
            for scheme, url in urllib.request.getproxies().items()
            if scheme in ("http", "https", "all") and url
        }

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; see httpx2.BaseTransport."""
        url = request.url
        host = _name(url)
        port = url.port or _PORTS.get(url.scheme, 0)
        if not self._reach.accepts(host, port):
            raise OutOfReach(self._reach.refusal(str(url)) or _refusal(_shown(host, port), "host"))
        proxy = self._proxies.get(url.scheme, self._proxies.get("all"))
        if proxy is not None and not urllib.request.proxy_bypass(host):
            return proxy.handle_request(request)
        sent = httpcore2.Request(
            request.method,
            httpcore2.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            answer = self._pool.handle_request(sent)
        except _FAILURES as error:
            raise _translated(error) from None
        return httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()
        for proxy in self._proxies.values():
            proxy.close()


class _CheckedConnections(httpcore2.NetworkBackend):
    """Resolves a name, checks each address and connects to one that was checked."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Return a connection; OutOfReach when no address may be reached."""
        ends = None if timeout is None else time.monotonic() + timeout
        try:
            resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise httpcore2.ConnectError("the name cannot be resolved") from None
        name, refusal = host.lower().rstrip("."), None
        failure: Exception | None = None
        for address in dict.fromkeys(ipaddress.ip_address(each[4][0]) for each in resolved):
            reason = self._reach.address_refusal(name, port, address)
            if reason is not None:
                refusal = reason
                continue
            left = None if ends is None else max(ends - time.monotonic(), 0.05)
            try:
                return self._sockets.connect_tcp(
                    str(address), port, left, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        if failure is None and refusal is not None:
            raise OutOfReach(refusal)
        raise failure or httpcore2.ConnectError("the name has no address")


class _Body(httpx2.SyncByteStream):
    """The body of an answer, with the errors of httpx2."""

    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._answer.iter_stream()
        except _FAILURES as error:
            raise _translated(error) from None

    def close(self) -> None:
        self._answer.close()


_ORIGIN = re.compile(r"[^/?#]*//[^/?#]*")
_FAILURES = (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError)
_MALFORMED = (
    "{!r} is no host: write a name (imagery.example.org), everything below one (*.example.org), an "
    "address or network (10.1.2.0/24) or a bucket (s3://bucket); a port may follow a name or an "
    "address"
)


def _translated(error: Exception) -> httpx2.HTTPError:
    """Return the error of httpx2 that has the name of httpcore2's."""
    kind = getattr(httpx2, type(error).__name__, httpx2.NetworkError)
    translated: httpx2.HTTPError = kind(str(error))
    return translated


def _own(host: str, port: int, is_given: bool) -> Rule:
    """Return the rule of a host that an address names: its port, or the web's two."""
    literal = _literal(host)
    ports = frozenset({port}) if is_given or port not in WEB_PORTS else WEB_PORTS
    return Rule(host, ports, None if literal is None else ipaddress.ip_network(literal))


def _origin(url: str) -> str:
    """Return scheme, user, host and port of an address: what comes before path and query."""
    match = _ORIGIN.match(url)
    return match[0] if match else url


def _place(url: str) -> tuple[str, int] | None:
    """Return (host, port) of a web address as httpx2 connects to it; None when it is none."""
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        return None
    host, port = _name(parsed), parsed.port or _PORTS.get(parsed.scheme, 0)
    return (host, port) if host and port else None


def _name(url: httpx2.URL) -> str:
    return url.raw_host.decode("ascii", "replace").strip("[]").lower().rstrip(".")


def _literal(host: str) -> IPAddress | None:
    try:
        return _unwrapped(ipaddress.ip_address(host))
    except ValueError:
        return None


def _unwrapped(address: IPAddress) -> IPAddress:
    """Return the IPv4 address that an IPv6 one stands for (mapped, NAT64, 6to4), else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _shown(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port in WEB_PORTS else f"{shown}:{port}"


def _refusal(place: str, what: str) -> str:
    return f'{place} is no {what} of this source: hosts = ["{place}"] in sources.toml allows it'
