"""The JSON client: bounded, and no error or log of it holds a query, a user or a password."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.imagery.store.json_api import ApiError, JsonApi
from app.imagery.store.reach import Reach
from app.resilience import OutOfReach, RetryPolicy
from tests.world.range_server import Mode, RangeServer, range_server

QUICK = RetryPolicy(attempts=2, attempt_s=0.5, total_s=2, first_pause_s=0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    (tmp_path / "ok.json").write_text(json.dumps({"a": 1}))
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "page.html").write_text("<html>")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with range_server(tmp_path) as running:
        yield running


@pytest.fixture
def api() -> Iterator[JsonApi]:
    running = JsonApi(QUICK, Reach(hosts=["127.0.0.1"]))
    yield running
    running.close()


def secret(url: str, path: str) -> str:
    """Return an address with everything that may not be shown."""
    return f"{url}/{path}?token=SECRET#SECRET".replace("http://", "http://user:SECRET@")


def shown(error: BaseException) -> str:
    """Return what a traceback shows of an error and of what led to it."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{error} {error!r} " + (shown(before) if before else "")


FAULTS: dict[str, tuple[Mode, str, str]] = {
    "down": ("503", "ok.json", "answered 503 Service Unavailable"),
    "forbidden": ("403", "ok.json", "answered 403"),
    "gone": ("ok", "gone.json", "answered 404"),
    "redirect": ("redirect", "ok.json", "answered 302"),
    "hang": ("hang", "ok.json", "does not answer in time"),
    "truncated": ("truncate", "ok.json", "cannot be reached"),
    "page": ("ok", "page.html", "not JSON"),
    "list": ("ok", "list.json", "not an object"),
    "deep": ("ok", "deep.json", "not JSON"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_an_error_names_the_address_without_query_user_and_password(
    server: RangeServer, api: JsonApi, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    mode, path, reason = FAULTS[kind]
    server.fault(mode)
    began = time.monotonic()
    with caplog.at_level(logging.DEBUG), pytest.raises(ApiError, match=reason) as refusal:
        api.get(secret(server.base, path))
    assert time.monotonic() - began < QUICK.total_s + QUICK.attempt_s + 2
    error = refusal.value
    assert f"{server.base}/{path}" in str(error)
    for text in (error.reason, shown(error), caplog.text):
        assert "SECRET" not in text


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://[::1", "nothing://a", "http://a\x00b", "http://a.org"]
)
def test_an_address_that_does_not_work_is_named_in_the_same_way(api: JsonApi, url: str) -> None:
    with pytest.raises((ApiError, OutOfReach)) as refusal:
        api.post(f"{url}/a?token=SECRET", {})
    assert "SECRET" not in shown(refusal.value)


def test_an_answer_is_an_object_and_the_services_time(server: RangeServer, api: JsonApi) -> None:
    answer = api.get(f"{server.base}/ok.json")
    assert answer.content == {"a": 1}
    assert answer.date is not None
    assert abs(answer.date - time.time()) < 60
