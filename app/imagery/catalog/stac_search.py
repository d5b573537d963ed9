"""Item search of a STAC API: one area, every page.

Asked with POST where the API's landing page offers it, else with GET. `links` with `rel: next` are
followed as they are given: GET addresses, POST bodies, and bodies to be merged into the one before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from app.grid.pixel_grid import Bounds
from app.imagery.hrefs import without_query
from app.imagery.store.json_api import ApiError, JsonApi

PAGE = 250
MOST_PAGES = 200


@dataclass(frozen=True, slots=True)
class Query:
    """What every search of a source asks for, apart from the area. `datetime`: an interval of
    RFC 3339; `filters`: the API's `query` extension, {"naip:state": {"eq": "ga"}}."""

    collection: str = ""
    datetime: str = ""
    filters: Mapping[str, Any] = field(default_factory=dict)

    def body(self, bounds: Bounds) -> dict[str, Any]:
        """The JSON of a POST."""
        body: dict[str, Any] = {"bbox": list(bounds), "limit": PAGE}
        if self.collection:
            body["collections"] = [self.collection]
        if self.datetime:
            body["datetime"] = self.datetime
        if self.filters:
            body["query"] = dict(self.filters)
        return body

    def address(self, url: str, bounds: Bounds) -> str:
        """The address of a GET."""
        fields = {"bbox": ",".join(f"{value:.7f}" for value in bounds), "limit": str(PAGE)}
        if self.collection:
            fields["collections"] = self.collection
        if self.datetime:
            fields["datetime"] = self.datetime
        return f"{url}?{urlencode(fields)}"


class StacApi:
    """One STAC API."""

    def __init__(self, url: str, api: JsonApi, query: Query) -> None:
        self.url = url.rstrip("/")
        self.query = query
        self.searches = 0
        self._api = api
        self._posts: bool | None = None

    def collection(self) -> dict[str, Any]:
        """The collection's document, the landing page without one; Unanswered."""
        path = f"/collections/{self.query.collection}" if self.query.collection else "/"
        return self._api.get(f"{self.url}{path}").content

    def items(self, bounds: Bounds) -> Iterator[Any]:
        """Every item whose footprint meets `bounds` (west, south, east, north), page by page.

        Unanswered when a page does not come: a part of an answer is no answer.
        """
        self.searches += 1
        method, url = ("POST" if self._by_post() else "GET"), f"{self.url}/search"
        body: dict[str, Any] | None = self.query.body(bounds) if method == "POST" else None
        headers: dict[str, str] = {}
        if method == "GET":
            url = self.query.address(url, bounds)
        asked: set[str] = set()
        for _ in range(MOST_PAGES):
            asked.add(f"{method} {url} {body}")
            if method == "POST":
                page = self._api.post(url, body or {}, headers).content
            else:
                page = self._api.get(url, headers).content
            features = page.get("features")
            if not isinstance(features, list):
                raise ApiError(url, "answered a search without `features`", status=200)
            yield from features
            link = _next(page)
            if link is None:
                return
            method = str(link.get("method", "GET")).upper()
            url = self._same_host(urljoin(url, str(link["href"])))
            given = link.get("body")
            given = given if isinstance(given, dict) else {}
            body = ({**(body or {}), **given} if link.get("merge") else given) or body
            more = link.get("headers")
            headers = {str(k): str(v) for k, v in more.items()} if isinstance(more, dict) else {}
            if f"{method} {url} {body}" in asked:
                raise ApiError(url, "names a page it has already given as the next", status=200)
        raise ApiError(url, f"has more than {MOST_PAGES} pages for one area", status=200)

    def _by_post(self) -> bool:
        """Whether the landing page offers POST; also when it does not say how to search."""
        if self._posts is None:
            links = self._api.get(f"{self.url}/").content.get("links")
            searches = [
                link
                for link in (links if isinstance(links, list) else [])
                if isinstance(link, dict) and link.get("rel") == "search"
            ]
            methods = {str(link.get("method", "GET")).upper() for link in searches}
            self._posts = "POST" in methods or not methods
        return self._posts or bool(self.query.filters)

    def _same_host(self, url: str) -> str:
        """The next page is on the API's own server: a page must not send us elsewhere."""
        if urlsplit(url).netloc != urlsplit(self.url).netloc:
            raise ApiError(
                url, f"is named as the next page by {without_query(self.url)}: another server"
            )
        return url


def _next(page: dict[str, Any]) -> dict[str, Any] | None:
    links = page.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") == "next" and link.get("href"):
            return link
    return None
