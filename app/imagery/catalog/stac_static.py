"""The catalog of a static STAC catalog, collection, item or item collection.

Read as a whole, from a path or the web, at start and again when a local document changed or a
remote one has expired.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from app.errors import ConfigurationError, SourceUnavailable
from app.imagery.catalog.index import Index, InMemoryCatalog, SkippedFile, nothing_served
from app.imagery.catalog.stac_items import JsonClient, objects_in, scenes_in
from app.imagery.scene import ReadOptions, Scene, local_path
from app.resilience import ServiceError

MOST_DOCUMENTS = 100_000
DAY_S = 86_400.0


class StaticStacCatalog(InMemoryCatalog):
    """The scenes of a static catalog (a Catalog)."""

    def __init__(
        self,
        source_id: str,
        url: str,
        reading: ReadOptions,
        api: JsonClient,
        *,
        asset: str = "",
        expires_s: float = DAY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """ConfigurationError when the catalog cannot be read or nothing in it can be served,
        SourceUnavailable when its server does not answer."""
        super().__init__(reading)
        self._unavailable: str | None = None
        self._id = source_id
        self._url = url
        self._asset = asset
        self._api = api
        self._expires_s = expires_s
        self._clock = clock
        self._read_at = 0.0
        self._stamps: dict[str, int] = {}
        try:
            self.index = self._read()
        except ServiceError as error:
            raise SourceUnavailable(source_id, str(error)) from error
        except _Unreadable as error:
            raise ConfigurationError(f"source {source_id}: {error}") from error
        if not self.index.scenes:
            raise nothing_served(url, self.index.skipped, "no item in it")

    @property
    def unavailable(self) -> str | None:
        return self._unavailable

    def refresh(self) -> None:
        """Read the catalog again when it may have changed; SourceUnavailable when it cannot be
        read or lists nothing that can be served any more: the scenes stay as they were known."""
        if not self._may_have_changed():
            return
        try:
            index = self._read()
            self._unavailable = None if index.scenes else f"{self._url}: no scene can be served"
        except (ServiceError, _Unreadable) as error:
            self._unavailable = str(error)
        if self._unavailable:
            raise SourceUnavailable(self._id, self._unavailable)
        if index.scenes != self.index.scenes or index.skipped != self.index.skipped:
            self.index = index
            self.generation += 1

    def _may_have_changed(self) -> bool:
        if "://" in self._url:
            return self._clock() - self._read_at >= self._expires_s
        return any(_stamp(path) != stamp for path, stamp in self._stamps.items())

    def _read(self) -> Index:
        self._stamps = {}
        scenes: dict[str, Scene] = {}
        skipped = []
        for result in scenes_in(self._items(), self.reading, self._id, self._asset):
            if isinstance(result, SkippedFile):
                skipped.append(result)
            elif scenes.setdefault(result.id, result) != result:
                skipped.append(
                    SkippedFile(result.id, f"has the id of another item ({result.href})")
                )
        self._read_at = self._clock()
        return Index(scenes.values(), skipped)

    def _items(self) -> Iterator[tuple[str, object]]:
        """Yield (address, item) of everything the catalog leads to; each document is read once.
        None for the item: a document that makes no sense, other than the first."""
        waiting, seen = [self._url], {self._url}
        while waiting:
            href = waiting.pop()
            try:
                document = self._document(href)
            except _NotJson:
                if href == self._url:
                    raise
                yield href, None
                continue
            if document.get("type") == "Feature":
                yield href, document
                continue
            for item in objects_in(document, "features"):
                yield href, item
            for link in objects_in(document, "links"):
                if link.get("rel") not in ("child", "item", "next"):
                    continue
                target = self._joined(href, str(link.get("href", "")))
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
            if len(seen) > MOST_DOCUMENTS:
                raise _Unreadable(f"{self._url}: more than {MOST_DOCUMENTS:,} documents")

    def _document(self, href: str) -> dict[str, Any]:
        if "://" in href:
            try:
                return self._api.get(href).content
            except ServiceError as error:
                if error.status == 200:
                    raise _NotJson(str(error)) from error
                raise
        try:
            self._stamps[href] = _stamp(href)
            if Path(href).exists() and not Path(href).is_file():
                raise _NotJson(f"{href}: is no file")
            content = json.loads(Path(href).read_text(encoding="utf-8"))
        except OSError as error:
            raise _Unreadable(f"{href}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise _NotJson(f"{href}: is not JSON") from error
        if not isinstance(content, dict):
            raise _NotJson(f"{href}: is not a JSON object")
        return content

    def _joined(self, base: str, href: str) -> str:
        """Return a link seen from its document; a document on the web does not lead to local
        files."""
        if "://" in base:
            target = urljoin(base, href)
            if urlsplit(target).scheme not in ("http", "https"):
                raise _Unreadable(f"{base}: leads to {target[:100]}, which is not on the web")
            return target
        if href.startswith("file://"):
            return str(local_path(href))
        return href if "://" in href else str(local_path(str(Path(base).parent / href)).resolve())


class _Unreadable(Exception):
    """A document that cannot be read."""


class _NotJson(_Unreadable):
    """A document that is there, and no JSON object."""


def _stamp(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return -1
