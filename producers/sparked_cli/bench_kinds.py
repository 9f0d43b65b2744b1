"""`credits bench kinds`: the store's own time for each kind of intent, on full queues, in one run."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from sparked_cli.bench_reads import bench_reads
from sparked_credits.exchange import Exchange
from sparked_credits.intents import (
    SYSTEM,
    AdjustIntent,
    CaptureIntent,
    ChargeIntent,
    CheckpointIntent,
    CloseIntent,
    DebtIntent,
    FreezeIntent,
    GrantIntent,
    HoldIntent,
    Intent,
    LimitIntent,
    OpenIntent,
    PostChargeIntent,
    RebuildIntent,
    RefundIntent,
    ThresholdsIntent,
    UnfreezeIntent,
    VoidIntent,
    Window,
)
from sparked_credits.keys import Keys, shard_of
from sparked_credits.lots import Priority
from sparked_credits.store import Store
from sparked_workers.embedded import EmbeddedStore
from sparked_workers.setup import SHARDS, initialise
from sparked_workers.worker import Worker

USERS = [f"user_{number}" for number in range(200)]
LATER_MS = 4_000_000_000_000
"""A moment in 2096, for what is to expire, but not yet."""

Row = dict[str, Any]
Make = Callable[[str, str], Intent]
"""The intent for a user and a key."""


def _charge(user: str, key: str) -> Intent:
    return ChargeIntent(user=user, key=key, amount=1, action="chat_message")


def _hold(user: str, key: str) -> Intent:
    return HoldIntent(user=user, key=key, amount=2, action="training_job", expires_in_ms=86_400_000)


def _grant_lot(user: str, key: str) -> Intent:
    number = int(key.rpartition("-")[2])
    return GrantIntent(
        user=user, key=key, amount=10**6, priority=Priority.PROMOTIONAL, expires_at_ms=LATER_MS + number
    )


# Name, what is measured, and what has to be there before, under the same keys. Those on plain accounts come first.
_CASES: list[tuple[str, Make, Make | None]] = [
    ("open", lambda user, key: OpenIntent(user=f"{user}.{key}", key=key, amount=100), None),
    ("grant", lambda user, key: GrantIntent(user=user, key=key, amount=10**6), None),
    ("charge", _charge, None),
    ("charge, replayed", _charge, _charge),
    (
        "charge, refused",
        lambda user, key: ChargeIntent(user=user, key=key, amount=2**53 - 1, action="chat_message"),
        None,
    ),
    (
        "post_charge",
        lambda user, key: PostChargeIntent(user=user, key=key, amount=1, action="training"),
        None,
    ),
    ("adjust", lambda user, key: AdjustIntent(user=user, key=key, amount=-1), None),
    (
        "refund",
        lambda user, key: RefundIntent(user=user, key=f"r-{key}", amount=1, of=key, of_origin="chat"),
        _charge,
    ),
    ("freeze", lambda user, key: FreezeIntent(user=user, key=key), None),
    ("unfreeze", lambda user, key: UnfreezeIntent(user=user, key=key), None),
    ("hold", _hold, None),
    (
        "capture",
        lambda user, key: CaptureIntent(user=user, key=f"c-{key}", amount=1, of=key, of_origin="chat"),
        _hold,
    ),
    ("void", lambda user, key: VoidIntent(user=user, key=f"v-{key}", of=key, of_origin="chat"), _hold),
    ("grant of an expiring lot", _grant_lot, None),
    ("charge, expiring lots", _charge, None),
    (
        "limit",
        lambda user, key: LimitIntent(user=user, key=key, amount=10**9, window=Window.ROLLING_DAY),
        None,
    ),
    ("thresholds", lambda user, key: ThresholdsIntent(user=user, key=key, thresholds=(10, 100)), None),
    ("debt", lambda user, key: DebtIntent(user=user, key=key, amount=100), None),
    ("charge, lots, limit and thresholds", _charge, None),
]


class _Queues:
    """One system, whose queues are filled and then drained by a worker."""

    def __init__(self, store: Store, url: str, witness: Path, app: Exchange, system: Exchange) -> None:
        self._store = store
        self._url = url
        self._witness = witness
        self._app = app
        self._system = system

    async def drain(self, intents: Sequence[Intent]) -> float:
        """Server µs per intent."""
        apps = (ChargeIntent, RefundIntent, HoldIntent, CaptureIntent, VoidIntent)
        for start in range(0, len(intents), 1000):
            await asyncio.gather(
                *(
                    (self._app if isinstance(intent, apps) else self._system).enqueue(intent, 60, None)
                    for intent in intents[start : start + 1000]
                )
            )
        await self._store.command("CONFIG", "RESETSTAT")
        worker = Worker(self._url, witness=self._witness)
        running = asyncio.create_task(worker.run())
        keys = Keys()
        queues = [("XLEN", queue(shard)) for shard in range(SHARDS) for queue in (keys.intents, keys.control)]
        while any(await self._store.commands(queues)):  # noqa: ASYNC110 - the queues are another task's
            await asyncio.sleep(0.05)
        worker.stop()
        await running
        stats: dict[str, Any] = await self._store.command("INFO", "commandstats")
        return float(stats["cmdstat_fcall"]["usec"]) / len(intents)

    async def sums(self) -> dict[str, dict[str, str]]:
        """For each user, sums that are true, as a verification would find them."""
        keys = Keys()
        found = {}
        for user in USERS:
            names = ("at", "seq", "posted", "held", "lots", "state")
            account = keys.account(shard_of(user, SHARDS), user)
            at, seq, posted, held, lots, state = (
                (value or b"").decode() for value in await self._store.command("HMGET", account, *names)
            )
            found[user] = {"id": f"{at}-{seq}", "posted": posted, "held": held, "lots": lots, "state": state}
        return found


async def bench_kinds(*, quick: bool, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure each kind; the shape of the result is that of `credits bench kinds --json`."""
    count = 1000 if quick else 4000
    with tempfile.TemporaryDirectory(prefix="credits-bench-") as folder:
        data = Path(folder)
        async with (
            EmbeddedStore(data / "store") as embedded,
            Store(embedded.url) as store,
            AsyncExitStack() as stack,
        ):
            keys = Keys()
            await initialise(store, keys)
            app, system = [
                await stack.enter_async_context(
                    Exchange(store, keys, origin=origin, stream=stream, epoch=None, queue_max=10**6)
                )
                for origin, stream in (("chat", keys.intents), (SYSTEM, keys.control))
            ]
            queues = _Queues(store, embedded.url, data / "witness.json", app, system)
            rows = await _measure(queues, count, report)
            entries = 100_000 if quick else 1_000_000
            report(f"reading an account with {entries:,} entries")
            return {"rows": rows, "entries": entries, "reads": await bench_reads(store, entries)}


async def _measure(queues: _Queues, count: int, report: Callable[[str], None]) -> list[Row]:
    await queues.drain([OpenIntent(user=user, key="open", amount=10**9) for user in USERS])
    rows: list[Row] = []
    for name, make, before in _CASES:
        report(name)
        # Lots, limits and thresholds are few per account; what is measured is one of them more.
        each = count if name != "grant of an expiring lot" else len(USERS) * 4
        named = [(USERS[n % len(USERS)], f"{name.replace(' ', '_')}-{n}") for n in range(each)]
        if before:
            await queues.drain([before(user, key) for user, key in named])
        rows.append(
            {"kind": name, "server_us": round(await queues.drain([make(*each) for each in named]), 2)}
        )
    for kind in (RebuildIntent, CheckpointIntent):
        name = str(kind.model_fields["kind"].default)
        report(name)
        found = await queues.sums()
        took = await queues.drain([kind(user=user, key=name, sums=found[user]) for user in USERS])
        rows.append({"kind": name, "server_us": round(took, 2)})
    closing = [CloseIntent(user=user, key="close") for user in USERS]
    return [*rows, {"kind": "close", "server_us": round(await queues.drain(closing), 2)}]


def kinds_table(result: dict[str, Any]) -> Group:
    """The result as a person reads it."""
    kinds = Table("kind", title="Server time per intent, full queues")
    kinds.add_column("µs", justify="right")
    for row in result["rows"]:
        kinds.add_row(row["kind"], f"{row['server_us']:.1f}")
    reads = Table("read", title=f"An account with {result['entries']:,} entries")
    for heading in ("server µs", "wait ms"):
        reads.add_column(heading, justify="right")
    for row in result["reads"]:
        reads.add_row(row["read"], f"{row['server_us']:,}", f"{row['wait_ms']:.2f}")
    return Group(kinds, reads)
