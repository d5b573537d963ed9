"""Addresses as they may be shown."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def without_query(url: str) -> str:
    """Return the address without query, fragment and user: what may be logged."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid address"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def name_of(href: str) -> str:
    """A file's name without its suffix, which is what people call the scene."""
    name = urlsplit(href).path.rpartition("/")[2]
    return name.rpartition(".")[0] or name or without_query(href)
