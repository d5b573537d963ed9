"""Who sends a request: an address, or a key in `Authorization: Bearer …` or `X-API-Key`.

Everything that a request has done belongs to its client, whose share of the queue and of the
threads it uses (app.scheduling).
"""

from __future__ import annotations

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access import Client, Clients
from app.errors import AccessDenied
from app.routes.problems import problem
from app.scheduling import Flow, prioritized

CHALLENGE = {"www-authenticate": 'Bearer realm="landcover"'}
_HOW = "start the server with LANDCOVER_OPERATOR_KEY, and send it as `Authorization: Bearer <key>`"


class Identified:
    """Puts the client of every request into its scope; 401 for a key that is nobody's."""

    def __init__(self, app: ASGIApp, clients: Clients) -> None:
        self.app = app
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = self._client_of(scope)
        if client is None:
            detail = "the key of this request is not one of this server's"
            await problem(401, "Unknown key", detail, CHALLENGE)(scope, receive, send)
            return
        scope["landcover.client"] = client
        scope["landcover.has_operator"] = self._clients.has_operator
        with prioritized(True, Flow(client.name, client.quota.weight)):
            await self.app(scope, receive, send)

    def _client_of(self, scope: Scope) -> Client | None:
        # Without keys, what a proxy asks of its clients is none of ours.
        if self._clients and (key := _key_of(scope)) is not None:
            return self._clients.of_key(key)
        peer = scope.get("client")
        return self._clients.of_address(peer[0] if peer else "unknown")


def client_of(request: Request) -> Client:
    """Return who sent a request."""
    client: Client = request.scope["landcover.client"]
    return client


def owner_of(request: Request) -> str | None:
    """Return whose jobs a request may list: None for the operator, who may list all. AccessDenied
    for a client without a key."""
    client = client_of(request)
    if client.operator:
        return None
    if client.has_key:
        return client.name
    known = bool(request.scope["landcover.has_operator"])
    how = "send it as `Authorization: Bearer <key>`" if known else _HOW
    raise AccessDenied(
        "the list of jobs needs the operator's key, as a job's address is all that is needed to "
        f"read and to delete it: {how}",
        known=known,
    )


def _key_of(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        text = value.decode("latin-1")
        if name == b"x-api-key":
            return str(text.strip())
        if name == b"authorization" and text[:7].lower() == "bearer ":
            return str(text[7:].strip())
    return None
