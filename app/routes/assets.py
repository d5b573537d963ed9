"""Files of web pages: read and compressed once, under names that change with their content."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import Request
from starlette.responses import Response

from app.routes.compression import accepts_gzip

FOREVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"


@dataclass(frozen=True, slots=True)
class Asset:
    """The bytes of a file, as they are and as gzip."""

    content: bytes
    packed: bytes
    digest: str

    @classmethod
    def of(cls, content: bytes) -> Asset:
        """Return the asset of these bytes."""
        squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
        packed = squeeze.compress(content) + squeeze.flush()
        return cls(content, packed, hashlib.blake2b(content, digest_size=8).hexdigest())

    def answer(self, request: Request, media_type: str, headers: dict[str, str]) -> Response:
        """Return the file, or 304 when the client has it."""
        etag = f'W/"{self.digest}"'
        headers = {**headers, "etag": etag, "vary": "Accept-Encoding"}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if not accepts_gzip(request.scope):
            return Response(self.content, 200, headers, media_type)
        headers["content-encoding"] = "gzip"
        return Response(self.packed, 200, headers, media_type)


@cache
def asset_of(path: Path) -> Asset:
    """Return the asset of a file, read once."""
    return Asset.of(path.read_bytes())


def version_of(paths: dict[str, Path]) -> str:
    """Return a digest of all files: one folder name for all, as they name each other."""
    digests = (f"{name} {asset_of(path).digest}" for name, path in sorted(paths.items()))
    return hashlib.blake2b("\n".join(digests).encode(), digest_size=6).hexdigest()
