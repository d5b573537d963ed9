"""Entries as they lie on disk and in Redis: nothing that is not as written is ever served.

An entry is `magic, length, digest, payload`. The digest is of key and payload, so that an entry
found under another key is as wrong as a damaged one.
"""

from __future__ import annotations

import hashlib

MAGIC = b"LCB2"
_DIGEST = 16
_HEADER = len(MAGIC) + 8 + _DIGEST


def encode_entry(key: str, payload: bytes) -> bytes:
    """An entry."""
    digest = hashlib.blake2b(payload, digest_size=_DIGEST, key=key.encode()[:64]).digest()
    return MAGIC + len(payload).to_bytes(8, "little") + digest + payload


def decode_entry(key: str, data: bytes) -> bytes | None:
    """The payload of an entry, or None when a single bit of it is not as written for `key`."""
    payload = data[_HEADER:]
    return payload if encode_entry(key, payload) == data else None
