"""What the jobs have left in the store, as metrics: read when they are asked for, and left out if that fails."""

import asyncio
import logging
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from redis.exceptions import RedisError

from sparked_credits.errors import Unavailable, describe
from sparked_credits.keys import Keys
from sparked_webhooks.stores import Stores

GAUGES_S = 2.0
"""How long reading may take in all. Prometheus waits 10 s, unless told otherwise."""

_RUN = {
    "verified": ("verified", "Accounts that the last finished reconciliation verified.", 1),
    "fixed": ("fixed", "Accounts that it fixed.", 1),
    "opened": ("opened", "Accounts that it opened.", 1),
    "errors": ("errors", "What it could not do.", 1),
    "duration_ms": ("duration_seconds", "How long it took.", 1000),
    "finished_at": ("finished_timestamp_seconds", "When it ended.", 1000),
}
"""Fields of a run's hash: what the metric is called, what it says, and by what the field is divided."""

_NEWEST = 3
"""Runs that are looked at: one may be under way, and one left unfinished."""

_log = logging.getLogger(__name__)


async def gauges(stores: Stores, keys: Keys) -> bytes:
    """In Prometheus' text format. Without an answer of the store, only that there was none: `credits_store_up` 0."""
    registry = CollectorRegistry()
    up = Gauge("credits_store_up", "Whether the store answered.", registry=registry)
    try:
        async with asyncio.timeout(GAUGES_S):
            await _read(stores, keys, registry)
        up.set(1)
    except (Unavailable, RedisError, OSError, TimeoutError) as error:
        _log.warning("metrics are incomplete: %s", describe(error))
    return generate_latest(registry)


async def _read(stores: Stores, keys: Keys, registry: CollectorRegistry) -> None:
    store = await stores.main()
    waiting, dead, unpaid, runs = await store.commands(
        [
            ("XLEN", keys.inbox()),
            ("XLEN", keys.inbox_dead()),
            ("ZCARD", keys.jobs("unpaid")),
            ("ZRANGE", keys.jobs("runs"), 0, _NEWEST - 1, "REV"),
        ]
    )
    _add(registry, "credits_inbox_events", "Events that are not dealt with yet.", waiting)
    _add(registry, "credits_inbox_dead_letters", "Events that nothing could be made of.", dead)
    _add(registry, "credits_trainings_unpaid", "Completed trainings that are not paid yet.", unpaid)
    if isinstance(runs, list) and runs:
        names = [keys.jobs(f"run:{run.decode()}") for run in runs]
        found = await store.commands([("HMGET", name, "state", *_RUN) for name in names])
        _add_runs(registry, [fields for fields in found if isinstance(fields, list) and fields[0]])


def _add_runs(registry: CollectorRegistry, runs: list[list[bytes | None]]) -> None:
    """The newest one's state, and of the newest that has ended, what it did."""
    if runs:
        state = Gauge("credits_reconciliation_state", "Of the newest one.", ["state"], registry=registry)
        state.labels((runs[0][0] or b"").decode()).set(1)
    ended = next((fields[1:] for fields in runs if fields[0] != b"running"), [None] * len(_RUN))
    for (name, told, unit), value in zip(_RUN.values(), ended, strict=True):
        _add(registry, f"credits_reconciliation_{name}", told, value, unit)


def _add(registry: CollectorRegistry, name: str, told: str, value: Any, unit: int = 1) -> None:
    """Add it, unless there is no such number: the reply is an error, or the field is absent."""
    try:
        number = float(value) / unit
    except (TypeError, ValueError):
        return
    Gauge(name, told, registry=registry).set(number)
