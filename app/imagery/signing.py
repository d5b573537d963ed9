"""SAS signing: unsigned addresses outside, one cached token per container inside.

Azure blob storage is read with a token in the query of the address; the Planetary Computer gives
them out for some 45 minutes. An address with a token is made for one read and never kept, logged
or put into a key: `Signer.signed` is called last thing before the bytes are asked for, and what
the storage answers 401, 403 or 409 is reported to `Signer.refused`, which says whether another
try is worth it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from app.imagery.json_api import JsonApi, Patience, Unanswered, without_query
from app.imagery.token import Token, TokenFaulty, token_of

Mode = Literal["auto", "always", "never"]

REFUSALS = frozenset({401, 403, 409})
"""No token, a wrong or expired one; 409: anonymous reading of a container was switched off."""
BLOB_HOSTS = (".blob.core.windows.net",)
KEY_VARIABLES = ("LANDCOVER_SUBSCRIPTION_KEY", "PC_SDK_SUBSCRIPTION_KEY")
KEY_HEADER = "Ocp-Apim-Subscription-Key"
PATIENCE = Patience(attempts=3, attempt_s=5, total_s=8)
COOL_DOWN_S = 5.0
LONGEST_COOL_DOWN_S = 60.0

log = logging.getLogger("landcover.imagery")


class SigningFailed(Exception):
    """No token to read with; says what the token service did and when it is asked again."""

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


class Signer:
    """Signs the addresses of one source; used by any thread."""

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
        suffixes that begin with a dot) are ever signed.
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

    def signed(self, href: str) -> str:
        """The address to read now: with a token where one is needed. SigningFailed.

        Never waits longer than the token service's patience (8 s), and while a valid token is
        there only the one thread that renews it waits at all.
        """
        container = self._container(href)
        if container is None or not self._wanted(container):
            return href
        return f"{href}{'&' if '?' in href else '?'}{self._token(container).query}"

    def refused(self, href: str, used: str, status: int) -> bool:
        """Told that `used`, what `signed` made of `href`, was answered with `status`.

        True when another try is worth it: an unsigned read now becomes a signed one; a token is
        dropped, unless another thread has replaced it already.
        """
        container = self._container(href)
        if container is None or self.mode == "never" or status not in REFUSALS:
            return False
        with container.lock:
            if used == href:
                if not container.closed:
                    log.info("container %s answers %d: it is read signed", _name(container), status)
                container.closed = True
            elif container.token and used.endswith(container.token.query):
                log.info("container %s answers %d: its token is dropped", _name(container), status)
                container.token = None
        return True

    def check(self, href: str) -> str | None:
        """Fetches a token for `href` where one could be needed; what is wrong with it, or None."""
        container = self._container(href)
        if container is None or self.mode == "never":
            return None
        try:
            token = self._token(container)
        except SigningFailed as failure:
            return str(failure)
        return token.clock_warning

    def applies(self, href: str) -> bool:
        """Whether an address is on one of the hosts that are signed."""
        return self._container(href) is not None

    def _wanted(self, container: _Container) -> bool:
        return self.mode == "always" or (self.mode == "auto" and container.closed)

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
        if not container.asking.acquire(blocking=not usable, timeout=-1 if usable else _LONGEST):
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
        except Unanswered as error:
            wait = min(max(error.retry_after or 0.0, COOL_DOWN_S), LONGEST_COOL_DOWN_S)
            raise SigningFailed(
                _explained(error), retry_after=wait, timed_out=error.timed_out
            ) from error
        self.tokens_fetched += 1
        try:
            token = token_of(answer, got=self._clock(), wall=self._wall_clock())
        except TokenFaulty as error:
            reason = f"{without_query(url)} {error}"
            raise SigningFailed(reason, retry_after=COOL_DOWN_S) from None
        if token.clock_warning:
            log.warning("%s: %s", without_query(url), token.clock_warning)
        return token


_LONGEST = PATIENCE.total_s + PATIENCE.attempt_s

_SECRET = re.compile(r"(?:\?|&)?\b(?:sig|se|st|sp|sv|sr|skoid|sktid|skt|ske|sks|skv|spr)=[^&\s'\"]*")


def without_tokens(text: str) -> str:
    """A foreign message without the parameters of SAS tokens."""
    return _SECRET.sub("", text)


def _key_header() -> dict[str, str]:
    for name in KEY_VARIABLES:
        if key := os.environ.get(name):
            return {KEY_HEADER: key}
    return {}


def _explained(error: Unanswered) -> str:
    if error.status == 429:
        return f"{error}: too many tokens were asked for; a subscription key raises the limit"
    if error.status in (401, 403):
        return f"{error}: a subscription key may be needed ({KEY_VARIABLES[0]})"
    if error.status == 404:
        return f"{error}: it knows no such container; check the source's token_url"
    return str(error)


def _name(container: _Container) -> str:
    return f"{container.account}/{container.name}"
