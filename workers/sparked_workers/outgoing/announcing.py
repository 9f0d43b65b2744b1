"""Writing an event of the jobs, for endpoints to be told of."""

import json
from collections.abc import Mapping
from typing import Any

from sparked_credits.errors import store_errors
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.outgoing.event_types import OF_JOBS

OUTBOX_MAX = 100_000
"""Announced events that wait to be relayed; past it the oldest go, and `events.missing` tells that they did."""

DATA_BYTES_MAX = 65_536


async def announce(store: Store, keys: Keys, type: str, data: Mapping[str, Any], *, id: str) -> None:  # noqa: A002
    """Tell the endpoints that something happened: now, by the store's clock. It is durable when this returns.

    Announcing it again under the same `id` is safe: it is delivered once for as long as its record is kept, 30 days
    at the least unless 100 000 newer ones come; after that the receiver knows it by the message's id.

    Args:
        type: One of `event_types.OF_JOBS`.
        data: Plain JSON; with `user` where there is one, and nothing personal.
        id: What makes it this event and no other, such as `training.paused-<job>-<attempt>`.

    Raises:
        ValueError: `data` is longer than `DATA_BYTES_MAX` as JSON. Nothing was written; tell less.
        Unavailable: The store did not answer: announce it again, under the same id.
    """
    assert type in OF_JOBS, (
        f"{type} is no type of event: name it in outgoing/event_types.py and docs/events.md"
    )
    text = json.dumps(data, separators=(",", ":"))
    if len(text) > DATA_BYTES_MAX:
        raise ValueError(f"{type}: its data has {len(text)} bytes, {DATA_BYTES_MAX} are the most")
    event = ("v", 1, "id", id, "type", type, "data", text)
    with store_errors("announcing an event"):
        await store.command("XADD", keys.jobs("outbox"), "MAXLEN", "~", OUTBOX_MAX, "*", *event)
