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
from app.resilience import OutOfReach, ServiceError

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
        self._left_alone_until = 0.0
        self._stamps: dict[str, int] = {}
        try:
            self.index = self._read()
        except ServiceError as error:
            after = error.retry_after or 5
            raise SourceUnavailable(source_id, str(error), retry_after=after) from error
        except _Unreadable as error:
            raise ConfigurationError(f"source {source_id}: {error}") from error
        if not self.index.scenes:
            raise nothing_served(url, self.index.skipped, "no item in it")

    @property
    def unavailable(self) -> str | None:
        return self._unavailable

    def refresh(self) -> None:
        """Read the catalog again when it may have changed; a remote one that has not expired is
        requested only, so that a server which went away is noticed. SourceUnavailable when it
        cannot be read or lists nothing that can be served any more: the scenes stay as they were
        known."""
        with self._lock:
            try:
                if not self._may_have_changed():
                    if "://" in self._url:
                        self._document(self._url)
                        self._unavailable = None
                    return
                index = self._read()
                self._unavailable = None if index.scenes else f"{self._url}: no scene can be served"
            except (ServiceError, _Unreadable) as error:
                rest_s = error.retry_after if isinstance(error, ServiceError) else 0.0
                self._left_alone_until = self._clock() + rest_s
                self._unavailable = str(error)
                self._read_at = min(self._read_at, self._clock() - self._expires_s)
            if self._unavailable:
                raise SourceUnavailable(self._id, self._unavailable)
            if index.scenes != self.index.scenes or index.skipped != self.index.skipped:
                self.index = index
                self.generation += 1

    def probe(self) -> None:
        """Request the first document briefly; once it is there, read all of it."""
        if self._clock() < self._left_alone_until:
            return
        try:
            if "://" in self._url:
                self._api.brief.get(self._url)
            self.refresh()
        except (ServiceError, SourceUnavailable):
            return

    def _may_have_changed(self) -> bool:
        if "://" in self._url:
            return self._clock() - self._read_at >= self._expires_s
        return any(_stamp(path) != stamp for path, stamp in self._stamps.items())

    def _read(self) -> Index:
        self._stamps = {}
        scenes: dict[str, Scene] = {}
        skipped: list[SkippedFile] = []
        items = self._items(skipped)
        results = scenes_in(items, self.reading, self._id, self._asset, self._api.refusal)
        for result in results:
            if isinstance(result, SkippedFile):
                skipped.append(result)
            elif scenes.setdefault(result.id, result) != result:
                skipped.append(
                    SkippedFile(result.id, f"has the id of another item ({result.href})")
                )
        self._read_at = self._clock()
        return Index(scenes.values(), skipped)

    def _items(self, skipped: list[SkippedFile]) -> Iterator[tuple[str, object]]:
        """Yield (address, item) of everything the catalog leads to; each document is read once.

        One that makes no sense, is missing or out of reach is `skipped`, unless it is the first.
        """
        waiting, seen = [self._url], {self._url}
        while waiting:
            href = waiting.pop()
            try:
                document = self._document(href)
            except _Unreadable as error:
                if href == self._url:
                    answer = error.__cause__
                    if isinstance(answer, ServiceError) and answer.status != 200:
                        raise answer from None
                    raise
                skipped.append(SkippedFile(href, error.reason))
                continue
            if document.get("type") == "Feature":
                yield href, document
                continue
            for item in objects_in(document, "features"):
                yield href, item
            for link in objects_in(document, "links"):
                if link.get("rel") not in ("child", "item", "next"):
                    continue
                try:
                    target = self._joined(href, str(link.get("href", "")))
                except _Unreadable as error:
                    skipped.append(SkippedFile(href, error.reason))
                    continue
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
            if len(seen) > MOST_DOCUMENTS:
                raise _Unreadable(self._url, f"more than {MOST_DOCUMENTS:,} documents")

    def _document(self, href: str) -> dict[str, Any]:
        """Return a document; _Unreadable for good, ServiceError when it may come later."""
        if "://" in href:
            try:
                return self._api.get(href).content
            except OutOfReach as error:
                raise _Unreadable(href, f"is not requested: {error}") from error
            except ServiceError as error:
                if error.is_transient:
                    raise
                raise _Unreadable(href, str(error)) from error
        try:
            self._stamps[href] = _stamp(href)
            if Path(href).exists() and not Path(href).is_file():
                raise _Unreadable(href, "is no file")
            content = json.loads(Path(href).read_text(encoding="utf-8"))
        except OSError as error:
            raise _Unreadable(href, f"cannot be opened: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise _Unreadable(href, "is not JSON") from error
        if not isinstance(content, dict):
            raise _Unreadable(href, "is not a JSON object")
        return content

    def _joined(self, base: str, href: str) -> str:
        """Return a link seen from its document; a document on the web does not lead to local
        files."""
        try:
            if "://" in base:
                target = urljoin(base, href)
                if urlsplit(target).scheme not in ("http", "https"):
                    raise _Unreadable(base, f"leads to {href[:100]!r}, which is not on the web")
                return target
            if href.startswith("file://"):
                return str(local_path(href))
            if "://" in href:
                return href
            return str(local_path(str(Path(base).parent / href)).resolve())
        except (ValueError, OSError, RuntimeError) as error:
            raise _Unreadable(base, f"leads to {href[:100]!r}, which is no address") from error


class _Unreadable(Exception):
    """A document that cannot be read, and why."""

    def __init__(self, href: str, reason: str) -> None:
        super().__init__(f"{href}: {reason}")
        self.reason = reason


def _stamp(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return -1
