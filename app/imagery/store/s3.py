"""`s3://` objects as signed HTTPS requests, with the settings of one source and no other's.

Nothing is put into the process environment or GDAL's: two sources of different regions, payers or
endpoints do not meet. Credentials come from the usual places (environment, profile, instance role)
through botocore.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from app.errors import ConfigurationError, SourceUnavailable
from app.imagery.scene import name_of
from app.imagery.store.planetary_computer import SasAuthenticator
from app.imagery.store.range_request import Plain, SignedRequest

PAYER_HEADER = "x-amz-request-payer"


@dataclass(frozen=True, slots=True)
class Bucket:
    """How the buckets of a source are asked. `endpoint`: another server than Amazon's, addressed
    by path. `requester_pays`: reads are charged to the account of the credentials."""

    region: str = "us-east-1"
    requester_pays: bool = False
    endpoint: str = ""
    profile: str = ""
    anonymous: bool = False


class S3:
    """The way to `s3://bucket/key` (an Access)."""

    def __init__(self, bucket: Bucket) -> None:
        """ConfigurationError when requests are to be signed and botocore is not installed."""
        if bucket.anonymous and bucket.requester_pays:
            raise ConfigurationError(
                "requester_pays needs credentials to charge: it cannot be anonymous"
            )
        self.bucket = bucket
        self._lock = threading.Lock()
        self._session: Any = None
        if not bucket.anonymous:
            self._session = _session(bucket.profile)

    def address(
        self, href: str, headers: Mapping[str, str], *, renew: bool = False
    ) -> SignedRequest:
        """See Access. `renew` looks for the credentials anew: roles hand out short-lived ones."""
        url = self.url_of(href)
        sent = dict(headers)
        if self.bucket.requester_pays:
            sent[PAYER_HEADER] = "requester"
        if self.bucket.anonymous:
            return SignedRequest(url, sent)
        return SignedRequest(url, self._signed(href, url, sent, renew))

    def url_of(self, href: str) -> str:
        """The unsigned https:// address of an object."""
        parts = urlsplit(href, allow_fragments=False)
        key = quote(parts.path.lstrip("/"), safe="/-_.~")
        if self.bucket.endpoint:
            return f"{self.bucket.endpoint.rstrip('/')}/{parts.netloc}/{key}"
        host = f"s3.{self.bucket.region}.amazonaws.com"
        # A dot in the bucket's name does not fit Amazon's certificate: such a bucket goes by path.
        if "." in parts.netloc:
            return f"https://{host}/{parts.netloc}/{key}"
        return f"https://{parts.netloc}.{host}/{key}"

    def check(self) -> str | None:
        """What is wrong with the credentials, or None."""
        if self.bucket.anonymous:
            return None
        try:
            self._credentials(renew=True)
        except LookupError as error:
            return str(error)
        return None

    def _signed(self, href: str, url: str, headers: dict[str, str], renew: bool) -> dict[str, str]:
        from botocore.auth import S3SigV4Auth  # noqa: PLC0415 - an extra
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415

        try:
            credentials = self._credentials(renew)
        except LookupError as error:
            raise SourceUnavailable(name_of(href), str(error)) from None
        request = AWSRequest(method="GET", url=url, headers=headers)
        S3SigV4Auth(credentials, "s3", self.bucket.region).add_auth(request)
        return {str(name): str(value) for name, value in request.headers.items()}

    def _credentials(self, renew: bool) -> Any:  # noqa: ANN401 - botocore has no types
        """Frozen credentials; LookupError when there are none or they cannot be had."""
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415

        with self._lock:
            try:
                if renew:
                    self._session = _session(self.bucket.profile)
                found = self._session.get_credentials()
                frozen = found.get_frozen_credentials() if found else None
            except BotoCoreError as error:
                raise LookupError(f"no credentials for S3: {error}") from error
        if frozen is None or not frozen.access_key:
            raise LookupError(
                "no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a "
                "profile or a role, or anonymous = true for a public bucket"
            )
        return frozen


def _session(profile: str) -> Any:  # noqa: ANN401
    try:
        import botocore.session  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "s3:// needs botocore: pip install 'landcover[s3]' (or anonymous = true)"
        ) from error
    return botocore.session.Session(profile=profile or None)


class ByScheme:
    """`s3://` through the source's bucket settings, hosts with SAS tokens signed, the rest as it
    is (an Access)."""

    def __init__(self, bucket: Bucket, signed: SasAuthenticator | None = None) -> None:
        self.bucket = bucket
        self.signed = signed
        self._plain = Plain()
        self._lock = threading.Lock()
        self._s3: S3 | None = None

    @property
    def s3(self) -> S3:
        """Made when first needed: a source without `s3://` needs no botocore."""
        with self._lock:
            if self._s3 is None:
                self._s3 = S3(self.bucket)
            return self._s3

    def address(
        self, href: str, headers: Mapping[str, str], *, renew: bool = False
    ) -> SignedRequest:
        """See Access."""
        if href.startswith("s3://"):
            return self.s3.address(href, headers, renew=renew)
        if self.signed is not None:
            return self.signed.address(href, headers, renew=renew)
        return self._plain.address(href, headers, renew=renew)

    def advice(self, href: str, status: int) -> str:
        """What an operator can do when `href` is still refused after a renewed try."""
        if href.startswith("s3://"):
            if self.bucket.anonymous:
                return f"S3 answers {status}: the bucket is not public; drop anonymous = true"
            if not self.bucket.requester_pays:
                return (
                    f"S3 answers {status}: check the credentials and region "
                    f"({self.bucket.region}); a requester-pays bucket needs requester_pays = true"
                )
            return (
                f"S3 answers {status}: check that the credentials may read the bucket and that "
                f"its region is {self.bucket.region}"
            )
        if self.signed is not None and self.signed.applies(href):
            return (
                f"the storage answers {status} even with a new token: the container may be closed "
                "or the file gone from it; see the catalog's status page"
            )
        return f"the server answers {status}: it does not let this source read; set its signing"
