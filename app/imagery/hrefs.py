"""Addresses as they may be shown."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def without_query(url: str) -> str:
    """The address without query, fragment and user: what may be logged."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def name_of(href: str) -> str:
    """A file's name without its suffix, which is what people call the scene."""
    name = urlsplit(href).path.rpartition("/")[2]
    return name.rpartition(".")[0] or name or without_query(href)
