"""Bytes of remote files: object stores, the credentials to read them with, and a range cache."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from app.imagery.store.buckets import BucketAuthenticator
    from app.imagery.store.planetary_computer import SasAuthenticator

# They log every address they are given, signature and all.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)

BUCKET_SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
LARGEST = 64_000_000
"""Bytes of one document at most; a page of 1,000 STAC items has about 5 MB."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What one request is sent to. Never shown: it may hold a signature."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Authenticator(Protocol):
    """What makes the files of one source readable. Called from several threads at once."""

    def address(
        self, href: str, headers: Mapping[str, str], *, renew: bool = False
    ) -> SignedRequest:
        """Return where to send a GET for `href` now, with `headers` among those sent.

        `renew`: the last such request was refused (401, 403 or 409): whatever was remembered for
        it is dropped first. At most once for a read. SourceUnavailable when no address can be had
        (a token service that is down, credentials that are missing).
        """
        ...


class ByScheme:
    """Objects of buckets and containers by the source's credentials, hosts with SAS tokens signed,
    everything else as it is (an Authenticator)."""

    def __init__(
        self, buckets: BucketAuthenticator | None = None, signed: SasAuthenticator | None = None
    ) -> None:
        self.buckets = buckets
        self.signed = signed

    def address(
        self, href: str, headers: Mapping[str, str], *, renew: bool = False
    ) -> SignedRequest:
        """Return where to send a GET for `href`; see Authenticator."""
        signer = self._signer(href)
        return (
            signer.address(href, headers, renew=renew) if signer else SignedRequest(href, headers)
        )

    def advice(self, href: str, status: int) -> str:
        """Return what an operator can do when `href` is still refused after a renewed try."""
        signer = self._signer(href)
        if signer is not None:
            return signer.advice(status)
        return f"the server answers {status}: it does not let this source read; set its signing"

    def _signer(self, href: str) -> BucketAuthenticator | SasAuthenticator | None:
        if href.partition("://")[0] in BUCKET_SCHEMES:
            return self.buckets
        return self.signed if self.signed is not None and self.signed.applies(href) else None
