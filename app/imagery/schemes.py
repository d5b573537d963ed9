"""One way to all files of a source: each address by what it begins with."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from app.imagery.access import Address, Plain
from app.imagery.s3 import S3, Bucket
from app.imagery.signing import Signed


class ByScheme:
    """`s3://` through the source's bucket settings, hosts with SAS tokens signed, the rest as it
    is (an Access)."""

    def __init__(self, bucket: Bucket, signed: Signed | None = None) -> None:
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

    def address(self, href: str, headers: Mapping[str, str], *, renew: bool = False) -> Address:
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
