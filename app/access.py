"""Clients and what each may take: by address, or by a key that the operator has given out.

Keys are kept as SHA-256 digests. They are long and random, so a digest tells nothing of its key.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import ConfigurationError

SHORTEST_KEY = 20
"""Characters of a key; shorter ones can be guessed."""

_DIGEST = r"[0-9a-f]{64}"


@dataclass(frozen=True, slots=True)
class Quota:
    """What one client may take at once: jobs that wait or run, bytes of results that are kept, and
    its weight in the queue and in inference."""

    jobs: int
    job_bytes: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends a request. `name`: `address 192.0.2.1` or `key <its name>`."""

    name: str
    quota: Quota
    operator: bool = False
    has_key: bool = False


class KeyEntry(BaseModel):
    """A key in the keys file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    sha256: str = Field(pattern=f"^{_DIGEST}$")
    operator: bool = False
    jobs: int | None = Field(None, ge=1)
    job_mb: int | None = Field(None, ge=1)
    weight: float = Field(1.0, gt=0, le=100)


class _KeysFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[KeyEntry]


class Clients:
    """Tells clients apart. Without keys everybody is an address."""

    def __init__(
        self, anonymous: Quota, operator_key: str | None = None, keys: Path | None = None
    ) -> None:
        """`anonymous`: of an address; `operator_key`: a key, or `sha256:` and its digest; `keys`:
        a TOML file. ConfigurationError when one of them cannot be used."""
        self._anonymous = anonymous
        self._keys: list[tuple[bytes, Client]] = []
        if operator_key:
            operator = Client("key operator", anonymous, operator=True, has_key=True)
            self._keys.append((_operator_digest(operator_key), operator))
        for entry in _entries(keys) if keys else ():
            quota = Quota(
                entry.jobs or anonymous.jobs,
                entry.job_mb * 1_000_000 if entry.job_mb else anonymous.job_bytes,
                entry.weight,
            )
            client = Client(f"key {entry.name}", quota, entry.operator, True)
            self._keys.append((bytes.fromhex(entry.sha256), client))
        self.has_operator = any(client.operator for _, client in self._keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def of_key(self, key: str) -> Client | None:
        """Return whose key it is; None when it is nobody's."""
        digest, owner = hashlib.sha256(key.encode()).digest(), None
        for known, client in self._keys:
            # All of them, whichever it is: the time tells nothing.
            if hmac.compare_digest(known, digest):
                owner = client
        return owner

    def of_address(self, address: str) -> Client:
        """Return the client at an address; the addresses of an IPv6 network (/64), which one
        subscriber gets, are one client."""
        return Client(f"address {_network_of(address)}", self._anonymous)


def _network_of(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def _operator_digest(key: str) -> bytes:
    prefix, _, digest = key.partition(":")
    if prefix == "sha256":
        if not re.fullmatch(_DIGEST, digest):
            raise ConfigurationError("LANDCOVER_OPERATOR_KEY: 64 hexadecimal digits after sha256:")
        return bytes.fromhex(digest)
    if len(key) < SHORTEST_KEY:
        raise ConfigurationError(
            f"LANDCOVER_OPERATOR_KEY has {len(key)} characters, at least {SHORTEST_KEY} are needed:"
            " `openssl rand -hex 24` makes one"
        )
    return hashlib.sha256(key.encode()).digest()


def _entries(path: Path) -> list[KeyEntry]:
    try:
        entries = _KeysFile.model_validate(tomllib.loads(path.read_text("utf-8"))).keys
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{path}: {where}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    for field in ("name", "sha256"):
        values = [getattr(entry, field) for entry in entries]
        twice = next(
            (entry.name for entry in entries if values.count(getattr(entry, field)) > 1), ""
        )
        if twice:
            raise ConfigurationError(f"{path}: key {twice}: another key has the same {field}")
    return entries
