"""How long outcomes had to wait, of the last second."""

from sparked_credits.applied import Outcome
from sparked_credits.models import Status
from sparked_gateway.pulse import Counts


def outcome(wait_ms: int | None) -> Outcome:
    arrived = None if wait_ms is None else 1000
    return Outcome("u", arrived, Status.APPLIED, "charge", 1, "x", 1, 0, 1, 1000 + (wait_ms or 0))


def test_waits_are_told_by_rank_and_what_ends_by_itself_has_none() -> None:
    counts = Counts(0)
    assert counts.wait_ms() is None
    counts.add([outcome(wait) for wait in [*range(1, 101), None, None]])
    assert counts.wait_ms() == {"p50": 50, "p99": 99, "max": 100}
    assert counts.decided == 100
    assert counts.applied == {"charge": 102}
    counts.add([outcome(-50), outcome(10**9)])
    assert counts.wait_ms() == {"p50": 50, "p99": 99, "max": 60_000}
