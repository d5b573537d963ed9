"""SAS tokens: unsigned addresses outside, one cached token per container inside.

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
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from app.errors import SourceUnavailable, without_query
from app.imagery.scene import name_of
from app.imagery.store import SignedRequest
from app.imagery.store.json_api import Answer, ApiError, JsonApi
from app.resilience import CircuitBreaker, CircuitOpen, RetryPolicy, ServiceError

Mode = Literal["auto", "always", "never"]

BLOB_HOSTS = (".blob.core.windows.net",)
KEY_VARIABLES = ("LANDCOVER_SUBSCRIPTION_KEY", "PC_SDK_SUBSCRIPTION_KEY")
KEY_HEADER = "Ocp-Apim-Subscription-Key"
POLICY = RetryPolicy(attempts=3, attempt_s=3, total_s=8)
COOL_DOWN_S = 2.0
"""A token service that failed is left alone for so long, or for what its `Retry-After` says."""
_LONGEST_S = POLICY.total_s + POLICY.attempt_s

EARLY_S = 300.0
EARLY_SHARE = 0.2
"""A token is renewed with less than 5 minutes or less than a fifth of its life left, whichever
comes first, but never in the first half of its life."""
TOLERANCE_S = 30.0
"""A token that begins this much later than now is accepted: clocks of one service differ."""
SKEW_S = 120.0

log = logging.getLogger("landcover.imagery")


@dataclass(frozen=True, slots=True)
class Token:
    """`query` is the secret; `issued` and `expires` are seconds of a monotonic clock."""

    query: str = field(repr=False)
    issued: float
    expires: float
    clock_warning: str | None = None

    def is_valid(self, now: float) -> bool:
        """Return whether it can still be used."""
        return now < self.expires

    def is_due(self, now: float) -> bool:
        """Return whether it is time to renew it."""
        life = self.expires - self.issued
        early = min(max(EARLY_S, EARLY_SHARE * life), life / 2)
        return self.expires - now < early


class _Container:
    """What is known of one container. `lock` guards it; `renewing` is held by the one thread that
    requests a token."""

    def __init__(self, account: str, name: str, clock: Callable[[], float]) -> None:
        self.account, self.name, self.title = account, name, f"{account}/{name}"
        self.lock = threading.Lock()
        self.renewing = threading.Lock()
        self.circuit = CircuitBreaker(1, COOL_DOWN_S, clock)
        self.closed = False
        self.token: Token | None = None


class SasAuthenticator:
    """Makes files in Azure containers readable whose tokens a token service gives out (an
    Authenticator).

    `auto` reads unsigned until a container answers 401, 403 or 409 (anonymous reading switched
    off), signs then and remembers the answer for the container; `always`; `never`.
    """

    def __init__(
        self,
        token_url: str,
        mode: Mode = "auto",
        *,
        api: JsonApi,
        hosts: tuple[str, ...] = BLOB_HOSTS,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`token_url` may hold {account} and {container}, which are taken from the address read:
        https://{account}.blob.core.windows.net/{container}/… Only addresses on `hosts` (names, or
        suffixes that begin with a dot) are ever signed, so a token goes to no other server.
        """
        self.mode = mode
        self.token_url = token_url
        self._hosts = tuple(host.lower() for host in hosts)
        self._api = api
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._containers: dict[tuple[str, str], _Container] = {}
        self._used = threading.local()

    def address(
        self, href: str, headers: Mapping[str, str], *, renew: bool = False
    ) -> SignedRequest:
        """Return the signed address of a file; see Authenticator. Waits no longer than the token
        service's policy (8 s); while a valid token is there, only the one thread that renews it
        waits at all.

        `renew` drops the token this thread's last address was made with, unless another thread has
        replaced it since: many reads refused at once cost one new token.
        """
        container = self._container(href)
        if container is None or self.mode == "never":
            return SignedRequest(href, headers)
        if renew:
            self._refused(container)
        if self.mode == "auto" and not container.closed:
            self._last_used()[container.title] = None
            return SignedRequest(href, headers)
        try:
            token = self._token(container)
        except (ServiceError, CircuitOpen) as failure:
            raise SourceUnavailable(
                name_of(href), f"cannot be signed for: {failure.reason}", whole_source=True
            ) from None
        self._last_used()[container.title] = token
        return SignedRequest(f"{href}{'&' if '?' in href else '?'}{token.query}", headers)

    def check(self, href: str) -> str | None:
        """Return what is wrong with the token service's answer for `href`, or None; requests it."""
        container = self._container(href)
        if container is None or self.mode == "never":
            return None
        try:
            return self._token(container).clock_warning
        except (ServiceError, CircuitOpen) as failure:
            return failure.reason

    def applies(self, href: str) -> bool:
        """Return whether an address is on one of the hosts that are signed."""
        return self._container(href) is not None

    def advice(self, status: int) -> str:
        """Return what an operator can do about a read that stays refused."""
        return (
            f"the storage answers {status} even with a new token: the container may be closed "
            "or the file gone from it; see the catalog's status page"
        )

    def _refused(self, container: _Container) -> None:
        used = self._last_used().get(container.title)
        with container.lock:
            if not container.closed and used is None:
                log.info("container %s refuses unsigned reads: it is read signed", container.title)
            container.closed = True
            if container.token is not None and container.token is used:
                log.info("container %s refuses its token: it is dropped", container.title)
                container.token = None

    def _last_used(self) -> dict[str, Token | None]:
        """Return what this thread's last address of each container was signed with."""
        tokens: dict[str, Token | None] = self._used.__dict__.setdefault("tokens", {})
        return tokens

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
            if key not in self._containers:
                self._containers[key] = _Container(*key, self._clock)
            return self._containers[key]

    def _token(self, container: _Container) -> Token:
        """Return the container's token, renewed early: one thread requests it, the others wait or
        use the present one."""
        token = container.token
        if token is not None and not token.is_due(self._clock()):
            return token
        usable = token is not None and token.is_valid(self._clock())
        if not container.renewing.acquire(
            blocking=not usable, timeout=-1 if usable else _LONGEST_S
        ):
            if token is not None and usable:
                return token
            raise ServiceError("the token service does not answer in time", timed_out=True)
        try:
            token = container.token
            if token is not None and not token.is_due(self._clock()):
                return token
            return self._renewed(container, token)
        finally:
            container.renewing.release()

    def _renewed(self, container: _Container, present: Token | None) -> Token:
        usable = present is not None and present.is_valid(self._clock())
        try:
            with container.circuit.guard():
                token = self._requested(container)
        except (ServiceError, CircuitOpen) as failure:
            if isinstance(failure, ServiceError):
                still = "; the present token still lasts" if usable else ""
                log.warning("%s%s", failure.reason, still)
            if present is None or not usable:
                raise
            return present
        with container.lock:
            container.token = token
        return token

    def _requested(self, container: _Container) -> Token:
        url = self.token_url.replace("{account}", container.account).replace(
            "{container}", container.name
        )
        try:
            answer = self._api.get(url, _key_header())
        except ApiError as error:
            error.reason += _hint(error.status)
            raise
        token = token_in(answer, url, issued=self._clock(), wall=self._wall_clock())
        if token.clock_warning:
            log.warning("%s: %s", without_query(url), token.clock_warning)
        return token


def token_in(answer: Answer, url: str, *, issued: float, wall: float) -> Token:
    """Return the token in `{"token": "st=…&se=…&sig=…", "msft:expiry": …}`; ApiError.

    Its dates are compared with the service's own clock (the `Date` header), not with this
    machine's: clocks of containers drift, and services have given out tokens with wrong dates.
    `issued` is the monotonic time of the answer, `wall` this machine's time of day, used when the
    service does not give its own.
    """
    query = answer.content.get("token")
    if not isinstance(query, str) or "sig=" not in query:
        raise ApiError(url, "answered without a token")
    fields = parse_qs(query)
    now = answer.date if answer.date is not None else wall
    ends = [
        at
        for at in (_time(answer.content.get("msft:expiry")), _time(fields.get("se", [None])[0]))
        if at is not None
    ]
    if not ends:
        raise ApiError(url, "gave a token that does not say when it expires")
    starts = _time(fields.get("st", [None])[0])
    skew = now - wall
    side = "behind" if skew > 0 else "ahead"
    warning = f"this machine's clock is {abs(skew):.0f} s {side}" if abs(skew) > SKEW_S else None
    # Two dates that disagree: the storage goes by the token's own, a client by the other.
    expires = min(ends)
    there = f"it is {_shown(now)} there"
    if expires <= now:
        raise ApiError(url, f"gave a token that expired {_shown(expires)}; {there}")
    if starts is not None and starts > now + TOLERANCE_S:
        raise ApiError(url, f"gave a token that is not valid before {_shown(starts)}; {there}")
    return Token(query.lstrip("?"), issued, issued + (expires - now), warning)


def _time(text: object) -> float | None:
    """Return RFC 3339, without an offset taken as UTC, as seconds since 1970."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _shown(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _key_header() -> dict[str, str]:
    for name in KEY_VARIABLES:
        if key := os.environ.get(name):
            return {KEY_HEADER: key}
    return {}


def _hint(status: int | None) -> str:
    """Return what an operator can do about a status of the token service."""
    if status == 429:
        return ": too many tokens were requested; a subscription key raises the limit"
    if status in (401, 403):
        return f": a subscription key may be needed ({KEY_VARIABLES[0]})"
    if status == 404:
        return ": it knows no such container; check the source's token_url"
    return ""
