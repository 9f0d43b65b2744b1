"""Runs of reconciliation as they are kept, and their periods and rules. Without a store."""

from datetime import UTC, datetime
from typing import Any

import pytest

from sparked_credits.models import Balance, Verification
from sparked_workers.reconciliation import ReconciliationRules, Run, RunState, period_of
from sparked_workers.reconciliation.run import LISTED_MAX, Finding, Listing, LooseEnd, Phase, note


@pytest.mark.parametrize(
    ("at", "period"),
    [
        (datetime(2026, 11, 24, 0, 0, tzinfo=UTC), "2026-11-24T00:00Z"),
        (datetime(2026, 11, 24, 17, 59, 59, 999_000, tzinfo=UTC), "2026-11-24T12:00Z"),
        (datetime(2026, 11, 24, 18, 0, tzinfo=UTC), "2026-11-24T18:00Z"),
        (datetime(2026, 12, 31, 23, 30, tzinfo=UTC), "2026-12-31T18:00Z"),
    ],
)
def test_periods_begin_four_times_a_day(at: datetime, period: str) -> None:
    assert period_of(at.timestamp() * 1000) == period


@pytest.mark.parametrize(
    ("share", "accounts", "most"), [(0.05, 0, 10), (0.05, 200, 10), (0.05, 1000, 50), (1, 1000, 1000)]
)
def test_few_accounts_may_always_be_acted_on_and_of_many_a_share(
    share: float, accounts: int, most: int
) -> None:
    rules = ReconciliationRules(signup_grant=100, verified_only=False, share_max=share)
    assert rules.most(accounts) == most


def test_a_run_is_read_as_it_was_stored() -> None:
    run = Run(
        "r1", "http", state=RunState.STOPPED, reason="ø", started_at=5, saved_at=7, finished_at=8, users=3
    )
    run.place.phase, run.place.listing, run.place.tally = Phase.LEDGER, Listing.WHOLE, {"then": 2**60}
    run.report.findings = [Finding("ada", Balance(1, 0), Balance(2, 0), ["a problem"], "rebuilt")]
    run.report.loose_ends = [LooseEnd("things", 1, 5)]
    run.complain("an error")
    stored = {name.encode(): value.encode() for name, value in run.to_stored().items()}
    assert Run.from_stored("r1", stored) == run
    assert (stored[b"duration_ms"], stored[b"errors"], stored[b"state"]) == (b"3", b"1", b"stopped")


def test_reports_are_bounded_whatever_is_found() -> None:
    run = Run("r1", "http")
    problems = tuple(f"{number} {'x' * 10_000}" for number in range(100))
    for number in range(2 * LISTED_MAX):
        run.complain("y" * 10_000)
        found = Verification(False, Balance(1, 0), Balance(2, 0), 1, problems)
        note(run.report.findings, Finding.of(f"user-{number}", found))
    assert run.errors == 2 * LISTED_MAX
    assert len(run.report.errors) == len(run.report.findings) == LISTED_MAX
    assert len(run.to_stored()["report"]) < 250_000


@pytest.mark.parametrize(
    ("fields", "is_right"),
    [
        ({}, True),
        ({"missing": 2, "opened": 1, "unknown": 5}, True),
        ({"wrong": 2, "fixed": 2}, True),
        ({"wrong": 2, "fixed": 1}, False),
        ({"errors": 1}, False),
        ({"reason": "too much"}, False),
        ({"missing": 1, "dry_run": True}, False),
    ],
)
def test_a_run_is_right_if_nothing_is_left_wrong(fields: dict[str, Any], is_right: bool) -> None:
    assert Run("r1", "http", **fields).is_right is is_right
