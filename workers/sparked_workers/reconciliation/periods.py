"""The schedule: which run is due. A run has its period's name, so that a tick that comes twice is one run."""

from datetime import UTC, datetime

from sparked_credits.errors import store_errors
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.reconciliation.records import LEASE, RUNNING, run_key

PERIOD_HOURS = 6


def period_of(at_ms: float) -> str:
    """The period that a moment, in ms since 1970, is in: `2026-11-24T18:00Z`. They begin at 0, 6, 12 and 18 h UTC."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.replace(hour=at.hour - at.hour % PERIOD_HOURS, minute=0).strftime("%Y-%m-%dT%H:%MZ")


async def missed_period(store: Store, keys: Keys) -> str | None:
    """The present period, by the store's clock, if its run has not begun, or was left unfinished and nobody is at it.

    However many periods were missed before, there is one run to catch up with.

    Raises:
        Unavailable: The store did not answer.
    """
    with store_errors("reading the schedule"):
        period = period_of(await store.time_ms())
        state = await store.command("HGET", run_key(keys, period), "state")
        is_due = state is None or state == RUNNING
        if not is_due or await store.command("EXISTS", keys.jobs(LEASE)):
            return None
    return period
