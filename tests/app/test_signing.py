"""SAS signing: one token for many reads, a new one in time, and nowhere a trace of it."""

from __future__ import annotations

import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.errors import SourceUnavailable
from app.imagery.store import SignedRequest
from app.imagery.store.json_api import JsonApi
from app.imagery.store.planetary_computer import SasAuthenticator
from app.resilience import RetryPolicy
from tests.app.conftest import HERE
from tests.world.doubles import Doubles, doubles

QUICK = RetryPolicy(attempts=3, attempt_s=5, total_s=3, first_pause_s=0.01)


APIS: list[JsonApi] = []
"""Clients to be closed at the end of a test."""


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Doubles]:
    with doubles() as running:
        (tmp_path / "m_1.tif").write_bytes(bytes(range(200)))
        running.add(tmp_path / "m_1.tif")
        yield running
        while APIS:
            APIS.pop().close()


@pytest.fixture
def href(services: Doubles) -> str:
    return services.blob("m_1.tif")


def signed(services: Doubles, mode: Any = "auto", **options: Any) -> SasAuthenticator:  # noqa: ANN401
    api = options.pop("api", None) or JsonApi(QUICK, HERE)
    APIS.append(api)
    return SasAuthenticator(services.token_url, mode, hosts=(services.host,), api=api, **options)


def status_of(address: SignedRequest) -> int:
    request = urllib.request.Request(address.url, headers=dict(address.headers))  # noqa: S310
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def read(access: SasAuthenticator, href: str) -> int:
    """As a reader does: once more after 401, 403 or 409."""
    status = status_of(access.address(href, {"range": "bytes=0-9"}))
    if status in (401, 403, 409):
        status = status_of(access.address(href, {"range": "bytes=0-9"}, renew=True))
    return status


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_auto_reads_unsigned_while_that_is_allowed(services: Doubles, href: str) -> None:
    access = signed(services)
    assert [read(access, href) for _ in range(3)] == [206] * 3
    assert services.count("/sas/") == 0
    assert access.address(href, {}).url == href


@pytest.mark.parametrize("status", [401, 403, 409])
def test_auto_signs_what_is_refused_and_remembers_it(
    services: Doubles, href: str, status: int
) -> None:
    services.closed = status
    access = signed(services)
    assert [read(access, href) for _ in range(5)] == [206] * 5
    assert services.count("/sas/") == 1
    unsigned = [path for _, path in services.requests if path.endswith("m_1.tif")]
    assert len(unsigned) == 1


def test_always_signs_the_first_read_and_never_does_not(services: Doubles, href: str) -> None:
    services.closed = 409
    assert status_of(signed(services, "always").address(href, {})) == 200
    never = signed(services, "never")
    assert read(never, href) == 409
    assert services.count("/sas/") == 1


def test_a_token_goes_to_no_other_host(services: Doubles) -> None:
    access = signed(services, "always")
    for other in ("https://example.org/naip/a.tif", f"{services.url}.evil.org/naip/a.tif"):
        assert access.address(other, {}, renew=True).url == other
    assert services.count("/sas/") == 0


def test_the_account_and_the_container_are_taken_from_the_address(services: Doubles) -> None:
    APIS.append(JsonApi(QUICK, HERE))
    access = SasAuthenticator(services.token_url, "always", api=APIS[-1])
    access.address("https://naipeuwest.blob.core.windows.net/naip/v002/a.tif", {})
    access.address("https://naipeuwest.blob.core.windows.net/naip/v002/b.tif", {})
    access.address("https://naipeuwest.blob.core.windows.net/other/a.tif", {})
    requested = [path.rpartition("/token/")[2] for _, path in services.requests]
    assert requested == ["naipeuwest/naip", "naipeuwest/other"]


def test_many_threads_cost_one_token(services: Doubles, href: str) -> None:
    services.closed, services.token_delay_s = 409, 0.2
    access = signed(services)
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda _: read(access, href), range(64))) == {206}
    assert services.count("/sas/") == 1


def test_tokens_void_in_the_middle_cost_one_new_token_and_no_error(
    services: Doubles, href: str
) -> None:
    services.closed = 409
    access = signed(services)
    gate = threading.Barrier(8)

    def work(_: int) -> list[int]:
        before = [read(access, href) for _ in range(3)]
        if gate.wait(60) == 0:
            services.expire()
        gate.wait(60)
        return before + [read(access, href) for _ in range(3)]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert results == [[206] * 6] * 8
    assert services.count("/sas/") == 2


@pytest.mark.parametrize(
    ("life", "after", "tokens"),
    [(2700, 2100, 1), (2700, 2200, 2), (600, 290, 1), (600, 310, 2), (7200, 5700, 1)],
)
def test_a_token_is_renewed_before_its_end_and_not_in_its_first_half(
    services: Doubles, href: str, life: float, after: float, tokens: int
) -> None:
    services.life_s = life
    clock = Clock()
    access = signed(services, "always", clock=clock)
    access.address(href, {})
    clock.now += after
    access.address(href, {})
    assert services.count("/sas/") == tokens


def test_a_renewal_that_fails_leaves_the_token_that_lasts(
    services: Doubles, href: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    access = signed(services, "always", clock=clock)
    first = access.address(href, {}).url
    clock.now += 2500
    services.token_answers = [(503, {})] * 3
    assert access.address(href, {}).url == first
    assert "the present token still lasts" in caplog.text
    # The service is left alone for a while, then asked again.
    assert access.address(href, {}).url == first
    assert services.count("/sas/") == 4
    clock.now += 10
    assert access.address(href, {}).url != first


def test_while_one_thread_renews_the_others_read_on(services: Doubles, href: str) -> None:
    clock = Clock()
    access = signed(services, "always", clock=clock)
    first = access.address(href, {}).url
    clock.now += 2500
    services.token_delay_s = 1.0
    with ThreadPoolExecutor(2) as pool:
        renewing = pool.submit(lambda: access.address(href, {}).url)
        while services.count("/sas/") < 2:
            time.sleep(0.005)
        assert access.address(href, {}).url == first
        assert not renewing.done()
        assert renewing.result() != first


def test_a_short_storm_of_429_is_waited_out(services: Doubles, href: str) -> None:
    services.token_answers = [(429, {"retry-after": "1"}), (429, {})]
    pauses: list[float] = []
    access = signed(services, "always", api=JsonApi(QUICK, HERE, sleep=pauses.append))
    assert status_of(access.address(href, {})) == 200
    assert pauses == [1.0, 0.02]


@pytest.mark.parametrize("requested", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_long_retry_after_is_not_slept_and_the_service_is_left_alone(
    services: Doubles, href: str, requested: str
) -> None:
    services.token_answers = [(429, {"retry-after": requested})]
    clock = Clock()
    pauses: list[float] = []
    access = signed(services, "always", clock=clock, api=JsonApi(QUICK, HERE, sleep=pauses.append))
    for _ in range(20):
        with pytest.raises(SourceUnavailable, match="429 Too Many Requests: too many tokens"):
            access.address(href, {})
    assert pauses == []
    assert services.count("/sas/") == 1
    clock.now += 61
    assert status_of(access.address(href, {})) == 200


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_service_that_stays_down_is_asked_three_times_and_named(
    services: Doubles, href: str, status: int
) -> None:
    services.token_answers = [(status, {})] * 9
    with pytest.raises(SourceUnavailable, match=rf"scene m_1: .*/token/127/naip answered {status}"):
        signed(services, "always").address(href, {})
    assert services.count("/sas/") == 3


@pytest.mark.parametrize(("status", "advice"), [(401, "subscription key"), (404, "token_url")])
def test_a_refusal_for_good_is_not_repeated_and_says_what_to_do(
    services: Doubles, href: str, status: int, advice: str
) -> None:
    services.token_answers = [(status, {})] * 3
    with pytest.raises(SourceUnavailable, match=advice):
        signed(services, "always").address(href, {})
    assert services.count("/sas/") == 1


@pytest.mark.parametrize(
    ("dates", "reason"),
    [((-7200, -3600), "gave a token that expired"), ((3600, 7200), "is not valid before")],
)
def test_a_token_with_wrong_dates_is_not_used_and_reported(
    services: Doubles, href: str, dates: tuple[float, float], reason: str
) -> None:
    services.dates = dates
    access = signed(services, "always")
    with pytest.raises(SourceUnavailable, match=reason):
        access.address(href, {})
    assert services.count("m_1.tif") == 0
    assert reason in str(access.check(href))


@pytest.mark.parametrize("skew", [-7200, 7200])
def test_a_wrong_clock_of_this_machine_changes_nothing_and_is_reported(
    services: Doubles, href: str, skew: float
) -> None:
    services.skew_s, services.closed = skew, 403
    access = signed(services)
    assert [read(access, href) for _ in range(4)] == [206] * 4
    assert services.count("/sas/") == 1
    side = "behind" if skew > 0 else "ahead"
    assert "this machine's clock is" in str(access.check(href))
    assert side in str(access.check(href))


@pytest.mark.parametrize("variable", ["LANDCOVER_SUBSCRIPTION_KEY", "PC_SDK_SUBSCRIPTION_KEY"])
def test_the_subscription_key_goes_to_the_token_service_only(
    services: Doubles, href: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "my-key")
    status_of(signed(services, "always").address(href, {}))
    sent = [headers.get("ocp-apim-subscription-key") for headers in services.headers]
    assert sent == ["my-key", None]


def _expired(services: Doubles) -> None:
    services.expire()


def _storm(services: Doubles) -> None:
    services.expire()
    services.token_answers = [(429, {"retry-after": "3600"})]


@pytest.mark.parametrize("fault", [_expired, _storm])
def test_no_signature_is_in_a_log_an_error_or_a_representation(
    services: Doubles,
    href: str,
    fault: Callable[[Doubles], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="landcover")
    services.closed = 409
    access = signed(services)
    assert read(access, href) == 206
    address = access.address(href, {})
    assert "sig=" in address.url
    assert "sig=" not in repr(address)
    caplog.clear()
    fault(services)
    message = ""
    try:
        read(access, href)
    except SourceUnavailable as error:
        message = f"{error} {error!r} {error.__cause__}"
    ours = [record for record in caplog.records if record.name.startswith("landcover")]
    assert ours
    text = message + " ".join(record.getMessage() + repr(record.args) for record in ours)
    assert "naip" in text
    assert "sig=" not in text
    assert "secret" not in text
