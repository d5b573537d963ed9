"""A SAS token as a token service gives it out, and how long it may be used.

Its dates are compared with the service's own clock (the `Date` header), not with this machine's:
clocks of containers drift, and services have given out tokens with wrong dates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs

from app.imagery.store.json_api import Answer

EARLY_S = 300.0
EARLY_SHARE = 0.2
"""A token is renewed with less than 5 minutes or less than a fifth of its life left, whichever
comes first, but never in the first half of its life."""
TOLERANCE_S = 30.0
"""A token that begins this much later than now is taken: clocks of one service differ."""
SKEW_S = 120.0


class InvalidToken(Exception):
    """What a token service answered is no token that can be used now."""


@dataclass(frozen=True, slots=True)
class Token:
    """`query` is the secret; `got` and `expires` are seconds of a monotonic clock."""

    query: str = field(repr=False)
    got: float
    expires: float
    clock_warning: str | None = None

    def lasts(self, now: float) -> bool:
        """Whether it can still be used."""
        return now < self.expires

    def due(self, now: float) -> bool:
        """Whether it is time to renew it."""
        life = self.expires - self.got
        early = min(max(EARLY_S, EARLY_SHARE * life), life / 2)
        return self.expires - now < early


def token_of(answer: Answer, *, got: float, wall: float) -> Token:
    """The token in `{"token": "st=…&se=…&sig=…", "msft:expiry": …}`; TokenFaulty.

    `got` is the monotonic time of the answer, `wall` this machine's time of day, used when the
    service does not give its own.
    """
    query = answer.content.get("token")
    if not isinstance(query, str) or "sig=" not in query:
        raise InvalidToken("answered without a token")
    fields = parse_qs(query)
    now = answer.date if answer.date is not None else wall
    ends = [
        at
        for at in (_time(answer.content.get("msft:expiry")), _time(_first(fields, "se")))
        if at is not None
    ]
    if not ends:
        raise InvalidToken("gave a token that does not say when it expires")
    starts = _time(_first(fields, "st"))
    skew = now - wall
    aside = (
        f"this machine's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead'}"
        if abs(skew) > SKEW_S
        else None
    )
    # Two dates that disagree: the storage goes by the token's own, a client by the other.
    expires = min(ends)
    if expires <= now:
        raise InvalidToken(
            f"gave a token that expired {_shown(expires)}; it is {_shown(now)} there"
        )
    if starts is not None and starts > now + TOLERANCE_S:
        raise InvalidToken(
            f"gave a token that is not valid before {_shown(starts)}; it is {_shown(now)} there"
        )
    return Token(query.lstrip("?"), got, got + (expires - now), aside)


def _first(fields: dict[str, list[str]], name: str) -> str | None:
    return fields[name][0] if name in fields else None


def _time(text: object) -> float | None:
    """RFC 3339, without an offset taken as UTC, as seconds since 1970."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _shown(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
