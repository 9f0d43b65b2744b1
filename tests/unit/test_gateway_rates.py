"""How often a key may ask, and how often refusals are told, by a clock of the test's."""

import logging

import pytest

from sparked_gateway.rates import Rates
from sparked_gateway.refusals import LINES_S, Refusals


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_seconds_worth_is_let_through_at_once_and_then_the_rate(clock: Clock) -> None:
    rates = Rates(clock)
    assert [rates.wait_s("a", 10) for _ in range(12)] == [0] * 10 + [1, 1]
    clock.now += 0.25
    assert [rates.wait_s("a", 10) for _ in range(3)] == [0, 0, 1]
    clock.now += 3600
    assert sum(rates.wait_s("a", 10) == 0 for _ in range(100)) == 10


def test_being_refused_does_not_put_the_next_request_off(clock: Clock) -> None:
    rates = Rates(clock)
    assert rates.wait_s("a", 1) == 0
    for _ in range(1000):
        assert rates.wait_s("a", 1) == 1
    clock.now += 1
    assert rates.wait_s("a", 1) == 0


def test_keys_do_not_use_up_each_others_rate(clock: Clock) -> None:
    rates = Rates(clock)
    assert [rates.wait_s(key, 1) for key in "aab"] == [0, 1, 0]


def test_who_has_asked_nothing_for_a_second_takes_no_room(clock: Clock) -> None:
    rates = Rates(clock)
    for number in range(1000):
        assert rates.wait_s(f"user_{number}", 1) == 0
    clock.now += 1
    assert [rates.wait_s("a", 1), rates.wait_s("a", 1)] == [0, 1]
    assert len(rates._buckets) == 1
    clock.now += 0.5
    assert rates.wait_s("a", 1) == 1


def test_refusals_are_told_a_few_times_a_second_and_the_rest_is_counted(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    refusals = Refusals(clock)
    for _ in range(1000):
        refusals.tell(401, "no bearer token")
    refusals.tell(403, "has no scope admin", key="0123456789ab")
    assert len(caplog.messages) == LINES_S + 1
    assert caplog.messages[0] == "refused with 401: no bearer token"
    left_out = 1000 - LINES_S
    assert caplog.messages[-1] == (
        f"refused with 403: API key 0123456789ab: has no scope admin ({left_out} more refusals were not told)"
    )
    clock.now += 1
    refusals.tell(401, "no bearer token")
    assert caplog.messages[-1] == "refused with 401: no bearer token"
