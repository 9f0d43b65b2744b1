"""Announcing, relaying and delivering, as the jobs do it, in a test's own system."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparked_credits.identity import identify
from sparked_credits.keys import shard_of
from sparked_workers.outgoing import announce, records
from sparked_workers.outgoing.delivering import Delivered, deliver_due
from sparked_workers.outgoing.endpoints import name_of
from sparked_workers.outgoing.records import Delivery, Record
from sparked_workers.outgoing.relaying import Relayed, relay
from sparked_workers.outgoing.sending import Sender
from sparked_workers.settings import Endpoint
from tests.conftest import SHARDS, System

ROOT = Path(__file__).parents[2]


def documented() -> dict[str, dict[str, Any]]:
    """The `data` of the example of each type in docs/events.md."""
    lines = (ROOT / "docs" / "events.md").read_text().splitlines()
    examples = [json.loads(line) for line in lines if line.startswith('{"type": ')]
    return {example["type"]: example["data"] for example in examples}


async def announce_paused(system: System, *jobs: str, user: str = "ada") -> None:
    """An event of the jobs for each."""
    for job in jobs:
        data = {"user": user, "job_id": job}
        await announce(system.store, system.keys, "training.paused", data, id=f"training.paused-{job}-1")


async def write_ledger_event(system: System, type_: str, data: dict[str, Any], user: str = "ada") -> str:
    """An event as `lua/outbox.lua` writes it; returns its id in the stream."""
    stream = system.keys.outbox(shard_of(user, SHARDS))
    fields = (
        "v",
        1,
        "type",
        type_,
        "user",
        user,
        "seq",
        7,
        "at",
        1_764_000_000_123,
        "data",
        json.dumps(data),
    )
    return str((await system.store.command("XADD", stream, "*", *fields)).decode())


async def relayed(system: System, *endpoints: Endpoint) -> Relayed:
    return await relay(
        system.store, system.keys, await identify(system.store, system.keys), endpoints, within_s=20
    )


async def delivered(system: System, *endpoints: Endpoint, sender: Sender | None = None) -> Delivered:
    """One round of deliveries, to private addresses too unless `sender` is another."""
    if sender is not None:
        return await deliver_due(system.store, system.keys, endpoints, sender, within_s=20)
    async with Sender(private_addresses=True) as allowing:
        return await deliver_due(system.store, system.keys, endpoints, allowing, within_s=20)


async def newest(system: System) -> list[Record]:
    """All records, newest first."""
    return await records.newest(system.store, system.keys, most=1000)


async def only_delivery(system: System) -> Delivery:
    """The one delivery of the one event."""
    (record,) = await newest(system)
    (delivery,) = record.deliveries
    return delivery


async def make_due(system: System, endpoints: Sequence[Endpoint], *, overdue_ms: int = 0) -> None:
    """Have everything that waits be due now, or since some time; so the schedule's hours pass."""
    due = int(await system.store.time_ms()) - overdue_ms
    for endpoint in endpoints:
        waiting = system.keys.jobs(f"deliveries:{name_of(endpoint)}")
        for event in await system.store.command("ZRANGE", waiting, 0, -1):
            await system.store.command("ZADD", waiting, due, event)
