"""One policy of retries, one breaker, one reading of Retry-After."""

from __future__ import annotations

import asyncio
import email.utils
import threading
import time

import pytest

from app.resilience import (
    CircuitBreaker,
    CircuitOpen,
    OutOfReach,
    RetryPolicy,
    ServiceError,
    retry_after,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def guarded(circuit: CircuitBreaker, error: BaseException | None = None) -> None:
    with circuit.guard(harmless=lambda each: isinstance(each, KeyError)):
        if error is not None:
            raise error


def wait_of(circuit: CircuitBreaker) -> float:
    """Return the seconds a caller is told to wait."""
    with pytest.raises(CircuitOpen) as refusal:
        guarded(circuit)
    return refusal.value.wait_s


def test_a_half_open_circuit_lets_one_through_and_no_more() -> None:
    clock = Clock()
    circuit = CircuitBreaker(2, 10, clock)
    circuit.failed("a")
    guarded(circuit)
    for reason in "ab":
        circuit.failed(reason)
    assert wait_of(circuit) == pytest.approx(10)
    clock.now = 10.5
    with circuit.guard():
        assert wait_of(circuit) > 0
    for reason in "bc":
        circuit.failed(reason)
    assert (circuit.is_open, circuit.reason) == (True, "c")
    assert wait_of(circuit) == pytest.approx(10)
    clock.now = 21
    guarded(circuit)
    guarded(circuit)
    assert not circuit.is_open


@pytest.mark.parametrize(
    "error", [ValueError("x"), RecursionError(), ServiceError("down", status=503), MemoryError()]
)
def test_every_exception_reaches_the_breaker_also_while_it_is_half_open(error: Exception) -> None:
    clock = Clock()
    circuit = CircuitBreaker(1, 10, clock)
    for turn in range(4):
        clock.now = 11 * turn
        with pytest.raises(type(error)):
            guarded(circuit, error)
        assert wait_of(circuit) == pytest.approx(10)
    clock.now = 50
    guarded(circuit)
    assert not circuit.is_open


def test_texts_of_unexpected_errors_are_not_shown() -> None:
    circuit = CircuitBreaker(1, 10)
    with pytest.raises(ValueError, match="SECRET"):
        guarded(circuit, ValueError("https://a/?sig=SECRET"))
    assert circuit.reason == "unexpected ValueError"


def test_a_call_that_is_cancelled_says_nothing_of_the_server() -> None:
    clock = Clock()
    circuit = CircuitBreaker(1, 10, clock)
    circuit.failed("down")
    clock.now = 11
    with pytest.raises(asyncio.CancelledError):
        guarded(circuit, asyncio.CancelledError())
    assert circuit.is_open
    with pytest.raises(KeyError):  # the next may try at once; the server answers
        guarded(circuit, KeyError())
    assert not circuit.is_open


def test_a_caller_awaits_the_one_that_is_let_through() -> None:
    clock = Clock()
    circuit = CircuitBreaker(1, 10, clock)
    circuit.failed("down")
    clock.now = 11
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with circuit.guard():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(30)
    threading.Timer(0.2, leave.set).start()
    with circuit.guard(wait_s=30):
        assert not circuit.is_open
    thread.join()


def test_what_the_server_asks_for_prolongs_the_rest_up_to_a_minute() -> None:
    clock = Clock()
    circuit = CircuitBreaker(1, 5, clock)
    for requested, rest in ((0, 5), (20, 20), (3600, 60)):
        clock.now += 100
        with pytest.raises(ServiceError):
            guarded(circuit, ServiceError("busy", status=429, retry_after=requested))
        assert wait_of(circuit) == pytest.approx(rest)


def test_a_probe_finds_the_server_back_before_the_rest_is_over() -> None:
    clock = Clock()
    circuit = CircuitBreaker(1, 10, clock)
    calls: list[float] = []

    def call() -> None:
        calls.append(clock.now)
        if clock.now < 3:
            raise ServiceError("still down", status=503)

    circuit.failed("down")
    while not circuit.probe(call):
        clock.now += 1
    assert (clock.now, calls) == (3, [0, 1, 2, 3])
    assert not circuit.is_open
    guarded(circuit)


def test_probes_that_fail_do_not_keep_the_traffic_out() -> None:
    clock = Clock()
    circuit = CircuitBreaker(1, 10, clock)
    circuit.failed("down")

    def call() -> None:
        raise ServiceError("slow for a probe", timed_out=True)

    for _ in range(11):
        assert not circuit.probe(call)
        clock.now += 1
    assert circuit.reason == "slow for a probe"
    guarded(circuit)
    assert not circuit.is_open


@pytest.mark.parametrize(("requested", "rest"), [(20, 20), (3600, 60)])
def test_a_server_that_asks_to_be_left_alone_is_and_it_is_said(
    requested: float, rest: float
) -> None:
    clock = Clock()
    circuit = CircuitBreaker(1, 4, clock)
    busy = ServiceError("busy", status=429, retry_after=requested)
    with pytest.raises(ServiceError):
        guarded(circuit, busy)
    calls: list[float] = []
    while not circuit.probe(lambda: calls.append(clock.now)):
        assert (
            circuit.reason == f"busy; it asked to be left alone, for {rest - clock.now:.0f} s more"
        )
        clock.now += 1
    assert calls == [rest]

    def again() -> None:
        raise busy

    with pytest.raises(ServiceError):
        guarded(circuit, ServiceError("down"))
    assert not circuit.probe(again)
    clock.now += rest - 1
    assert not circuit.probe(lambda: calls.append(clock.now))
    assert len(calls) == 1


def test_a_failure_that_began_before_the_server_was_back_says_nothing() -> None:
    clock = Clock()
    circuit = CircuitBreaker(1, 10, clock)
    circuit.failed("down")
    clock.now = 11
    with pytest.raises(ServiceError), circuit.guard():  # noqa: PT012
        assert circuit.probe(lambda: None)
        raise ServiceError("hung since before", timed_out=True)
    assert not circuit.is_open
    with pytest.raises(ServiceError):
        guarded(circuit, ServiceError("down again"))
    assert circuit.is_open


def test_what_was_never_requested_says_nothing_of_the_server() -> None:
    clock = Clock()
    circuit = CircuitBreaker(1, 10, clock)
    with pytest.raises(OutOfReach):
        guarded(circuit, OutOfReach("a.org is no host of this source"))
    assert not circuit.is_open
    circuit.failed("down")
    clock.now = 11
    with pytest.raises(OutOfReach):
        guarded(circuit, OutOfReach("a.org is no host of this source"))
    assert circuit.is_open
    guarded(circuit)
    assert not circuit.is_open


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0), ("0", 0), ("7", 7), (" 7 ", 7), ("3600", 60), ("9" * 5000, 60), ("-1", 0),
        ("1.5", 0), ("²", 0), ("٣", 0), ("soon", 0), ("Fri, 99 Foo 2026 00:00:00 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("Fri, 31 Dec 2100 23:59:59 GMT", 60),
        ("Fri, 31 Dec 1" + "0" * 400 + " 23:59:59 GMT", 0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_and_rubbish_is_nothing(text: str, seconds: float) -> None:
    assert retry_after({"retry-after": text}) == seconds


def test_a_date_is_compared_with_the_servers_own_clock() -> None:
    now = time.time()
    soon = email.utils.formatdate(now + 20, usegmt=True)
    assert 18 <= retry_after({"retry-after": soon}) <= 20
    fast_clock = {"date": email.utils.formatdate(now + 7200, usegmt=True)}
    later = email.utils.formatdate(now + 7210, usegmt=True)
    assert 9 <= retry_after({**fast_clock, "retry-after": later}) <= 11


# ---- retries -------------------------------------------------------------------------------------


def tried(
    policy: RetryPolicy, errors: list[ServiceError], deadline: float | None = None
) -> tuple[list[float], bool]:
    """Return (the pauses, whether a result came)."""
    clock = Clock()
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.now += seconds

    def call(_: float) -> bool:
        if errors:
            raise errors.pop(0)
        return True

    try:
        return pauses, policy.run(call, deadline=deadline, sleep=sleep, clock=clock)
    except ServiceError:
        return pauses, False


def test_pauses_double_and_follow_the_server() -> None:
    policy = RetryPolicy(attempts=4, total_s=100, first_pause_s=0.5)
    down = [ServiceError("down", status=503) for _ in range(3)]
    assert tried(policy, down) == ([0.5, 1.0, 2.0], True)
    assert tried(policy, [ServiceError("busy", status=429, retry_after=7)]) == ([7], True)


def test_attempts_time_and_answers_for_good_end_it() -> None:
    policy = RetryPolicy(attempts=3, total_s=10, first_pause_s=0.5)
    assert tried(policy, [ServiceError("down") for _ in range(3)]) == ([0.5, 1.0], False)
    assert tried(policy, [ServiceError("gone", status=404)]) == ([], False)
    assert tried(policy, [ServiceError("busy", status=429, retry_after=10)]) == ([], False)
    assert tried(policy, [ServiceError("down")], deadline=0.4) == ([], False)
