"""How the files of a source are asked for: plainly, signed, or on the requester's account.

A scene's href never carries a signature. What is sent for one read is made for that read and kept
nowhere: not in a key, not in a log, not in an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Address:
    """What one request is sent to. Never shown: it may hold a signature."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Access(Protocol):
    """The way to the files of one source. Called from several threads at once."""

    def address(self, href: str, headers: Mapping[str, str], *, renew: bool = False) -> Address:
        """Where to send a GET for `href` now, with `headers` (Range, If-Match …) among those sent.

        `renew`: the last such request was refused (401, 403 or 409): whatever was remembered for
        it is dropped first. Asked with `renew` at most once for a read. SourceUnavailable when no
        address can be had (a token service that is down, credentials that are missing).
        """
        ...


class Plain:
    """`https://` as it is."""

    def address(self, href: str, headers: Mapping[str, str], *, renew: bool = False) -> Address:
        """The href itself; `renew` changes nothing."""
        del renew
        return Address(href, headers)
