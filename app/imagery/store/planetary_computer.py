"""SAS signing: unsigned addresses outside, one cached token per container inside.

Azure blob storage is read with a token in the query of the address; the Planetary Computer gives
them out for some 45 minutes. A signed address is made for one request and kept nowhere: the hrefs
of scenes, keys, logs and errors hold the unsigned one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from app.errors import SourceUnavailable, without_query
from app.imagery.scene import name_of
from app.imagery.store.json_api import ApiError, JsonApi, RetryPolicy
from app.imagery.store.range_request import SignedRequest
from app.imagery.store.sas_token import InvalidToken, Token, token_of

Mode = Literal["auto", "always", "never"]

BLOB_HOSTS = (".blob.core.windows.net",)
KEY_VARIABLES = ("LANDCOVER_SUBSCRIPTION_KEY", "PC_SDK_SUBSCRIPTION_KEY")
KEY_HEADER = "Ocp-Apim-Subscription-Key"
PATIENCE = RetryPolicy(attempts=3, attempt_s=5, total_s=8)
COOL_DOWN_S = 5.0
LONGEST_COOL_DOWN_S = 60.0
_LONGEST_S = PATIENCE.total_s + PATIENCE.attempt_s

log = logging.getLogger("landcover.imagery")


class SigningFailed(Exception):
    """No token to read with: what the token service did, and when it is asked again."""

    def __init__(self, reason: str, *, retry_after: float, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.timed_out = timed_out


@dataclass(slots=True)
class _Container:
    """What is known of one container. `lock` guards it; `asking` is held by the one who asks."""

    account: str
    name: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    asking: threading.Lock = field(default_factory=threading.Lock)
    closed: bool = False
    token: Token | None = None
    failure: SigningFailed | None = None
    silent_until: float = 0.0

    @property
    def title(self) -> str:
        return f"{self.account}/{self.name}"


class SasAuthenticator:
    """The way to files in Azure containers whose tokens a token service gives out (an Access).

    `auto` reads unsigned until a container answers 401, 403 or 409 (anonymous reading switched
    off), signs then and remembers the answer for the container; `always`; `never`.
    """

    def __init__(
        self,
        token_url: str,
        mode: Mode = "auto",
        *,
        hosts: tuple[str, ...] = BLOB_HOSTS,
        api: JsonApi | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`token_url` may hold {account} and {container}, which are taken from the address read:
        https://{account}.blob.core.windows.net/{container}/… Only addresses on `hosts` (names, or
        suffixes that begin with a dot) are ever signed, so a token goes to no other server.
        """
        self.mode = mode
        self.token_url = token_url
        self.tokens_fetched = 0
        self._hosts = tuple(host.lower() for host in hosts)
        self._api = api or JsonApi(PATIENCE)
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._containers: dict[tuple[str, str], _Container] = {}
        self._used = threading.local()

    def address(
        self, href: str, headers: Mapping[str, str], *, renew: bool = False
    ) -> SignedRequest:
        """See Access. Waits no longer than the token service's patience (8 s); while a valid token
        is there, only the one thread that renews it waits at all.

        `renew` drops the token this thread's last address was made with, unless another thread has
        replaced it since: many reads refused at once cost one new token.
        """
        container = self._container(href)
        if container is None or self.mode == "never":
            return SignedRequest(href, headers)
        if renew:
            self._refused(container)
        if self.mode == "auto" and not container.closed:
            self._remember(container, None)
            return SignedRequest(href, headers)
        try:
            token = self._token(container)
        except SigningFailed as failure:
            raise SourceUnavailable(name_of(href), f"cannot be signed for: {failure}") from None
        self._remember(container, token)
        return SignedRequest(f"{href}{'&' if '?' in href else '?'}{token.query}", headers)

    def check(self, href: str) -> str | None:
        """What is wrong with the token service's answer for `href`, or None; asks it."""
        container = self._container(href)
        if container is None or self.mode == "never":
            return None
        try:
            return self._token(container).clock_warning
        except SigningFailed as failure:
            return str(failure)

    def applies(self, href: str) -> bool:
        """Whether an address is on one of the hosts that are signed."""
        return self._container(href) is not None

    def _refused(self, container: _Container) -> None:
        used = self._last(container)
        with container.lock:
            if not container.closed and used is None:
                log.info("container %s refuses unsigned reads: it is read signed", container.title)
            container.closed = True
            if container.token is not None and container.token is used:
                log.info("container %s refuses its token: it is dropped", container.title)
                container.token = None

    def _remember(self, container: _Container, token: Token | None) -> None:
        if not hasattr(self._used, "tokens"):
            self._used.tokens = {}
        self._used.tokens[container.title] = token

    def _last(self, container: _Container) -> Token | None:
        tokens: dict[str, Token | None] = getattr(self._used, "tokens", {})
        return tokens.get(container.title)

    def _container(self, href: str) -> _Container | None:
        parts = urlsplit(href)
        host, path = (parts.netloc or "").lower(), parts.path.strip("/").split("/")
        known = any(
            host.endswith(each) if each.startswith(".") else host == each for each in self._hosts
        )
        if not known or len(path) < 2:
            return None
        key = (host.split(".")[0].split(":")[0], path[0])
        with self._lock:
            return self._containers.setdefault(key, _Container(*key))

    def _token(self, container: _Container) -> Token:
        """The container's token, renewed early; one thread asks, the others wait or use the old."""
        token = container.token
        if token is not None and not token.due(self._clock()):
            return token
        usable = token is not None and token.lasts(self._clock())
        if not container.asking.acquire(blocking=not usable, timeout=-1 if usable else _LONGEST_S):
            if token is not None and usable:
                return token
            raise SigningFailed("the token service does not answer in time", retry_after=5)
        try:
            token = container.token
            if token is not None and not token.due(self._clock()):
                return token
            return self._renewed(container, token)
        finally:
            container.asking.release()

    def _renewed(self, container: _Container, old: Token | None) -> Token:
        usable = old is not None and old.lasts(self._clock())
        failure = container.failure
        if failure is None or self._clock() >= container.silent_until:
            try:
                token = self._fetched(container)
            except SigningFailed as failed:
                failure = failed
                with container.lock:
                    container.failure = failed
                    container.silent_until = self._clock() + failed.retry_after
                log.warning("%s%s", failed, "; the present token still lasts" if usable else "")
            else:
                with container.lock:
                    container.token, container.failure = token, None
                return token
        if old is not None and usable:
            return old
        raise failure

    def _fetched(self, container: _Container) -> Token:
        url = self.token_url.replace("{account}", container.account).replace(
            "{container}", container.name
        )
        try:
            answer = self._api.get(url, _key_header())
        except ApiError as error:
            wait = min(max(error.retry_after or 0.0, COOL_DOWN_S), LONGEST_COOL_DOWN_S)
            raise SigningFailed(
                _explained(error), retry_after=wait, timed_out=error.timed_out
            ) from error
        self.tokens_fetched += 1
        try:
            token = token_of(answer, got=self._clock(), wall=self._wall_clock())
        except InvalidToken as error:
            reason = f"{without_query(url)} {error}"
            raise SigningFailed(reason, retry_after=COOL_DOWN_S) from None
        if token.clock_warning:
            log.warning("%s: %s", without_query(url), token.clock_warning)
        return token


def _key_header() -> dict[str, str]:
    for name in KEY_VARIABLES:
        if key := os.environ.get(name):
            return {KEY_HEADER: key}
    return {}


def _explained(error: ApiError) -> str:
    if error.status == 429:
        return f"{error}: too many tokens were asked for; a subscription key raises the limit"
    if error.status in (401, 403):
        return f"{error}: a subscription key may be needed ({KEY_VARIABLES[0]})"
    if error.status == 404:
        return f"{error}: it knows no such container; check the source's token_url"
    return str(error)
