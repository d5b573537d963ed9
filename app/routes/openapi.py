"""The API described as OpenAPI 3.0, which OGC's conformance class names and its clients read.

FastAPI describes it as OpenAPI 3.1, whose schemas are JSON Schema's of 2020.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

MEDIA_TYPE = "application/vnd.oai.openapi+json;version=3.0"
VERSION = "3.0.3"

_IN_PATH = re.compile(r"{(\w+)(?::\w+)?}")

Json = Any


def install(app: FastAPI) -> None:
    """Have an application describe itself at its `openapi_url`."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None or app.openapi_schema["openapi"] != VERSION:
            app.openapi_schema = as_3_0(described())
        return app.openapi_schema

    async def answer(request: Request) -> Response:
        root = request.scope.get("root_path", "").rstrip("/")
        document = openapi() | ({"servers": [{"url": root}]} if root else {})
        return JSONResponse(document, media_type=MEDIA_TYPE)

    app.openapi = openapi  # type: ignore[method-assign]
    address = app.openapi_url
    assert address  # noqa: S101 - set where the application is made
    # In place of FastAPI's own.
    routes = [route for route in app.router.routes if getattr(route, "path", "") != address]
    app.router.routes = [Route(address, answer, include_in_schema=False), *routes]


def as_3_0(document: dict[str, Any]) -> dict[str, Any]:
    """Return a description in OpenAPI 3.1 as one in 3.0.3."""
    converted: dict[str, Any] = _converted(document)
    for path, operations in converted.get("paths", {}).items():
        for operation in operations.values():
            _name_path_parameters(path, operation)
    return {**converted, "openapi": VERSION}


def _name_path_parameters(path: str, operation: dict[str, Any]) -> None:
    """Add those of the path that a route, which reads its path itself, does not declare."""
    parameters = operation.setdefault("parameters", [])
    known = {each["name"] for each in parameters if each.get("in") == "path"}
    for name in _IN_PATH.findall(path):
        if name not in known:
            schema = {"type": "string"}
            parameters.append({"name": name, "in": "path", "required": True, "schema": schema})


def _converted(value: Json) -> Json:
    if isinstance(value, list):
        return [_converted(item) for item in value]
    if not isinstance(value, dict):
        return value
    return _schema({name: _converted(item) for name, item in value.items()})


def _schema(value: dict[str, Json]) -> dict[str, Json]:
    """What JSON Schema says in ways of 2020, said in those of 3.0; anything else unchanged."""
    for name in ("anyOf", "oneOf"):
        options = value.get(name)
        if isinstance(options, list) and {"type": "null"} in options:
            value = _nullable(value, name)
    kinds = value.get("type")
    if isinstance(kinds, list):
        plain = [kind for kind in kinds if kind != "null"]
        value = {**value, **({"nullable": True} if "null" in kinds else {})}
        del value["type"]
        if len(plain) == 1:
            value["type"] = plain[0]
        else:
            value["anyOf"] = [{"type": kind} for kind in plain]
    for exclusive, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        bound = value.get(exclusive)
        if isinstance(bound, int | float) and not isinstance(bound, bool):
            value = {**value, limit: bound, exclusive: True}
    # A property may have any of these names; it is then a schema, not a value.
    if isinstance(value.get("const"), str | int | float | bool):
        value = {**value, "enum": [value["const"]]}
        del value["const"]
    if isinstance(value.get("prefixItems"), list):
        value = {**value, "items": {"anyOf": value["prefixItems"]}}
        del value["prefixItems"]
    if "type" in value and isinstance(value.get("examples"), list):
        value = {**value, "example": value["examples"][0]}
        del value["examples"]
    return value


def _nullable(value: dict[str, Json], name: str) -> dict[str, Json]:
    options = [option for option in value[name] if option != {"type": "null"}]
    rest = {key: item for key, item in value.items() if key != name}
    if len(options) == 1 and "$ref" not in options[0]:
        return {**options[0], **rest, "nullable": True}
    key = "allOf" if len(options) == 1 else name
    return {**rest, key: options, "nullable": True}
