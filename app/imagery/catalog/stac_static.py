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
from app.imagery.catalog.index import Index, InMemoryCatalog, SkippedFile
from app.imagery.catalog.stac_items import scene_of_item
from app.imagery.scene import ReadOptions, Scene, UnsupportedImage
from app.imagery.store.json_api import ApiError, JsonApi
from app.imagery.store.object_store import ObjectStore

MOST_DOCUMENTS = 100_000
DAY_S = 86_400.0


class StaticStacCatalog(InMemoryCatalog):
    """The scenes of a static catalog (a Catalog)."""

    def __init__(
        self,
        source_id: str,
        url: str,
        reading: ReadOptions,
        remote: ObjectStore,
        *,
        asset: str = "",
        api: JsonApi | None = None,
        expires_s: float = DAY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """ConfigurationError when the catalog cannot be read or nothing in it can be served,
        SourceUnavailable when its server is away."""
        super().__init__(reading)
        self._away: str | None = None
        self._id = source_id
        self._url = url
        self._remote = remote
        self._asset = asset
        self._api = api or JsonApi()
        self._expires_s = expires_s
        self._clock = clock
        self._read_at = 0.0
        self._stamps: dict[str, int] = {}
        try:
            self.index = self._read()
        except ApiError as error:
            raise SourceUnavailable(source_id, str(error)) from error
        except _Unreadable as error:
            raise ConfigurationError(f"source {source_id}: {error}") from error
        if not self.index.scenes:
            reasons = "; ".join(f"{p.path}: {p.reason}" for p in self.index.problems[:5])
            raise ConfigurationError(
                f"{url}: no scene that can be served ({reasons or 'no item in it'})"
            )

    @property
    def unavailable(self) -> str | None:
        """See Catalog."""
        return self._away

    def refresh(self) -> None:
        """Reads the catalog again when it may have changed; SourceUnavailable when it is away or
        lists nothing that can be served any more: the scenes stay as they were known."""
        if not self._may_have_changed():
            return
        try:
            index = self._read()
            self._away = None if index.scenes else f"{self._url}: no scene can be served"
        except (ApiError, _Unreadable) as error:
            self._away = str(error)
        if self._away:
            raise SourceUnavailable(self._id, self._away)
        if index.scenes != self.index.scenes or index.problems != self.index.problems:
            self.index = index
            self.generation += 1

    def _may_have_changed(self) -> bool:
        if "://" in self._url:
            return self._clock() - self._read_at >= self._expires_s
        return any(_stamp(path) != stamp for path, stamp in self._stamps.items())

    def _read(self) -> Index:
        self._stamps = {}
        scenes: dict[str, Scene] = {}
        problems = []
        for href, item in self._items():
            name = str(item.get("id", href))[:100]
            try:
                scene = scene_of_item(
                    item, self.reading, self._remote, asset=self._asset, base=href
                )
            except UnsupportedImage as refusal:
                problems.append(SkippedFile(name, str(refusal)))
                continue
            if scene.id in scenes and scenes[scene.id] != scene:
                problems.append(SkippedFile(name, f"has the id of another item ({href})"))
                continue
            scenes[scene.id] = scene
        self._read_at = self._clock()
        return Index(scenes.values(), problems)

    def _items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(address, item) of everything the catalog leads to; each document is read once."""
        waiting, seen = [self._url], {self._url}
        while waiting:
            href = waiting.pop()
            document = self._document(href)
            kind = document.get("type")
            if kind == "Feature":
                yield href, document
                continue
            features = document.get("features")
            for item in features if isinstance(features, list) else []:
                if isinstance(item, dict):
                    yield href, item
            links = document.get("links")
            for link in links if isinstance(links, list) else []:
                if not isinstance(link, dict) or link.get("rel") not in ("child", "item", "next"):
                    continue
                target = self._joined(href, str(link.get("href", "")))
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
            if len(seen) > MOST_DOCUMENTS:
                raise _Unreadable(f"{self._url}: more than {MOST_DOCUMENTS:,} documents")

    def _document(self, href: str) -> dict[str, Any]:
        if "://" in href:
            return self._api.get(href).content
        try:
            self._stamps[href] = _stamp(href)
            content = json.loads(Path(href).read_text(encoding="utf-8"))
        except OSError as error:
            raise _Unreadable(f"{href}: {error.strerror}") from error
        except ValueError as error:
            raise _Unreadable(f"{href}: is not JSON") from error
        if not isinstance(content, dict):
            raise _Unreadable(f"{href}: is not a JSON object")
        return content

    def _joined(self, base: str, href: str) -> str:
        """A link seen from its document; a document on the web does not lead to local files."""
        if "://" in base:
            target = urljoin(base, href)
            if urlsplit(target).scheme not in ("http", "https"):
                raise _Unreadable(f"{base}: leads to {target[:100]}, which is not on the web")
            return target
        if "://" in href:
            return href
        return str((Path(base).parent / href).resolve())


class _Unreadable(Exception):
    """A document that cannot be read."""


def _stamp(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return -1
