"""`credits bench`: this system beside three other ways of charging, in one run on one machine, as ratios."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

from rich.console import Group
from rich.table import Table

from sparked_cli.bench_ways import ACTION, LIMIT, METADATA, METADATA_TEXT, Charge, direct, ours, through_arq
from sparked_cli.processes import Process, start_worker, terminating
from sparked_credits import Admin, ChargeIntent, Credits
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.embedded import EmbeddedStore
from sparked_workers.setup import SHARDS, initialise
from sparked_workers.worker import Worker

CALLERS = (1, 64, 1024)
ROUND_CHARGES = 20_000

Row = dict[str, Any]
Report = Callable[[str], None]


async def bench(*, quick: bool, report: Report) -> dict[str, Any]:
    """Measure all ways; the shape of the result is that of `credits bench --json`."""
    users = [f"user_{number}" for number in range(200 if quick else 1000)]
    with tempfile.TemporaryDirectory(prefix="credits-bench-") as folder:
        data = Path(folder)
        async with EmbeddedStore(data / "store") as embedded, Store(embedded.url) as store:
            await initialise(store, Keys())
            report("server time and memory, on full queues")
            server = await _server_side(store, embedded.url, data, users, rounds=1 if quick else 5)
            worker = await start_worker(embedded.url, data / "worker.json", lease_ms=5000)
            async with terminating(worker):
                idle = await _idle_share(worker, 2.0 if quick else 10.0)
                rows = await _compare(embedded.url, users, quick=quick, report=report)
    limit_row = server.pop("limit_row")
    return {"rows": [*rows, limit_row], **server, "idle_cpu_share": idle, "ratios": _ratios(rows, server)}


# Awaited charges


async def _compare(url: str, users: list[str], *, quick: bool, report: Report) -> list[Row]:
    """Short rounds of (a) and (b) in turn, so that noise falls on both; (c) is steady, and slow: one round."""
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        credits_ = await stack.enter_async_context(ours(url, users))
        directly = await stack.enter_async_context(direct(url, users))
        await _fund_minimal(url, users)
        for callers in CALLERS:
            report(f"{callers} callers")
            mine: list[Row] = []
            theirs: list[Row] = []
            for _ in range(3 if quick else 5):
                mine.append(await drive("credits", credits_, callers, 0.8 if quick else 3.0))
                theirs.append(await drive("direct", directly, callers, 0.8 if quick else 3.0))
            rows += [middle(mine), middle(theirs)]
    async with through_arq(url, users) as by_arq:
        for callers in CALLERS:
            report(f"{callers} callers through arq")
            rows.append(await drive("arq", by_arq, callers, 2.0 if quick else 6.0))
    return rows


async def drive(way: str, charge: Charge, callers: int, seconds: float) -> Row:
    """`callers` callers, each with one charge in flight at a time, for `seconds`."""
    waits: list[float] = []
    began = time.perf_counter()
    end = began + seconds

    async def call() -> None:
        while (start := time.perf_counter()) < end:
            await charge()
            waits.append(time.perf_counter() - start)

    await asyncio.gather(*(call() for _ in range(callers)))
    per_s = len(waits) / (time.perf_counter() - began)
    waits.sort()
    return _row(way, callers, per_s, waits)


def _row(way: str, callers: int, per_s: float, waits: list[float]) -> Row:
    return {
        "way": way,
        "callers": callers,
        "per_s": round(per_s, 1),
        "p50_ms": round(1000 * waits[len(waits) // 2], 3),
        "p99_ms": round(1000 * waits[int(len(waits) * 0.99)], 3),
    }


def middle(rounds: list[Row]) -> Row:
    numbers = {name: median(row[name] for row in rounds) for name in ("per_s", "p50_ms", "p99_ms")}
    return {**rounds[0], **numbers}


async def _fund_minimal(url: str, users: list[str]) -> None:
    async with Store(url) as store:
        await store.commands([("HSET", f"min:account:{user}", "posted", 10**12) for user in users])


# The store's own time


async def _server_side(
    store: Store, url: str, data: Path, users: list[str], *, rounds: int
) -> dict[str, Any]:
    """Full queues drained by our script and by the minimal one in turn: server µs, and what a charge leaves."""
    mine: list[float] = []
    limits: list[float] = []
    calls: list[float] = []
    per_s: list[float] = []
    kept: list[int] = []
    async with Credits.connect(url, app="chat") as credits_:
        await _open_accounts(store, url, data, users)
        for _ in range(rounds):
            before = await _memory(store)
            mine.append(await _drain_ours(store, url, data, users, credits_))
            kept.append(await _memory(store) - before)
            micros, took = await _drain_minimal(store, users)
            limits.append(micros)
            calls += took
            per_s.append(ROUND_CHARGES / sum(took))
    calls.sort()
    return {
        "server_us_per_charge": round(median(mine), 2),
        "limit_us_per_charge": round(median(limits), 2),
        "bytes_per_charge": round(sum(kept) / (ROUND_CHARGES * rounds)),
        "limit_row": _row("limit", 1, median(per_s), calls),
    }


async def _open_accounts(store: Store, url: str, data: Path, users: list[str]) -> None:
    worker = Worker(url, witness=data / "worker.json")
    running = asyncio.create_task(worker.run())
    async with Admin.connect(url, actor="bench") as admin:
        await asyncio.gather(*(admin.open_account(user, initial=10**12, timeout=60) for user in users))
    worker.stop()
    await running
    await store.commands([("HSET", f"limit:{{0}}:account:{user}", "posted", 10**12) for user in users])


async def _drain_ours(store: Store, url: str, data: Path, users: list[str], credits_: Credits) -> float:
    """Server µs per charge of our script, in a worker, on full queues."""
    intents = [
        ChargeIntent(
            user=users[n % len(users)], key=str(uuid4()), amount=1, action=ACTION, metadata=dict(METADATA)
        )
        for n in range(ROUND_CHARGES)
    ]
    for start in range(0, len(intents), 1000):
        await asyncio.gather(
            *(credits_.enqueue(intent, timeout=60) for intent in intents[start : start + 1000])
        )
    await store.command("CONFIG", "RESETSTAT")
    worker = Worker(url, witness=data / "worker.json")
    running = asyncio.create_task(worker.run())
    queues = [("XLEN", Keys().intents(shard)) for shard in range(SHARDS)]
    while any(await store.commands(queues)):  # noqa: ASYNC110 - the queues are another process's
        await asyncio.sleep(0.05)
    worker.stop()
    await running
    return await _script_micros(store) / ROUND_CHARGES


async def _drain_minimal(store: Store, users: list[str]) -> tuple[float, list[float]]:
    """Server µs per charge of the minimal script, and the seconds of each call of 128."""
    queue = "limit:{0}:queue"
    for start in range(0, ROUND_CHARGES, 1000):
        await store.commands(
            [
                ("XADD", queue, "*", "user", users[n % len(users)], "key", str(uuid4()),
                 "amount", 1, "action", ACTION, "metadata", METADATA_TEXT)
                for n in range(start, start + 1000)
            ]
        )  # fmt: skip
    sha = await store.command("SCRIPT LOAD", LIMIT)
    await store.command("CONFIG", "RESETSTAT")
    took: list[float] = []
    while True:
        began = time.perf_counter()
        if not await store.command("EVALSHA", sha, 1, queue):
            break
        took.append(time.perf_counter() - began)
    return await _script_micros(store) / ROUND_CHARGES, took


async def _script_micros(store: Store) -> float:
    stats: dict[str, Any] = await store.command("INFO", "commandstats")
    return float(
        sum(
            stats[f"cmdstat_{name}"]["usec"]
            for name in ("fcall", "evalsha", "eval")
            if f"cmdstat_{name}" in stats
        )
    )


async def _memory(store: Store) -> int:
    memory: dict[str, Any] = await store.command("INFO", "memory")
    return int(memory["used_memory"])


async def _idle_share(worker: Process, seconds: float) -> float | None:
    """The share of a core that an idle worker with all shards uses; None where /proc does not tell."""
    stat = Path(f"/proc/{worker.pid}/stat")
    if sys.platform != "linux":
        return None
    before = _ticks(stat)
    await asyncio.sleep(seconds)
    return round((_ticks(stat) - before) / os.sysconf("SC_CLK_TCK") / seconds, 4)


def _ticks(stat: Path) -> int:
    fields = stat.read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# What it means


def _ratios(rows: list[Row], server: dict[str, Any]) -> dict[str, float]:
    by = {(row["way"], row["callers"]): row for row in rows}

    def ratio(way: str, callers: int, field: str = "per_s") -> float:
        mine, theirs = float(by["credits", callers][field]), float(by[way, callers][field])
        return round(mine / theirs, 2)

    return {
        "over_arq_at_1024": ratio("arq", 1024),
        "over_direct_at_1024": ratio("direct", 1024),
        "over_direct_at_64": ratio("direct", 64),
        "p50_over_direct_at_1": ratio("direct", 1, "p50_ms"),
        "server_over_limit": round(server["server_us_per_charge"] / server["limit_us_per_charge"], 2),
    }


def table(result: dict[str, Any]) -> Group:
    """The result as a person reads it, with each target and whether it is met."""
    ways = Table("way", title="Awaited charges, appendfsync always")
    for heading in ("callers", "charges/s", "p50 ms", "p99 ms"):
        ways.add_column(heading, justify="right")
    for row in result["rows"]:
        ways.add_row(
            row["way"],
            str(row["callers"]),
            f"{row['per_s']:,.0f}",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
        )
    targets = Table("what", title="Targets")
    for heading in ("measured", "target", ""):
        targets.add_column(heading, justify="right")
    for what, measured, at_least, bound in _targets(result):
        if measured is not None:
            met = measured >= bound if at_least else measured <= bound
            sign = "≥" if at_least else "≤"
            targets.add_row(
                what, f"{measured:g}", f"{sign} {bound:g}", "[green]met" if met else "[red]missed"
            )
    times = f"server time per charge: {result['server_us_per_charge']} µs, minimal {result['limit_us_per_charge']} µs"
    return Group(ways, targets, times)


def _targets(result: dict[str, Any]) -> list[tuple[str, float | None, bool, float]]:
    ratios = result["ratios"]
    return [
        ("charges/s over arq, 1024 callers", ratios["over_arq_at_1024"], True, 40),
        ("charges/s over direct, 1024 callers", ratios["over_direct_at_1024"], True, 2),
        ("charges/s over direct, 64 callers", ratios["over_direct_at_64"], True, 1.2),
        ("p50 over direct, 1 caller", ratios["p50_over_direct_at_1"], False, 2.5),
        ("server time over the minimal script's", ratios["server_over_limit"], False, 1.6),
        ("bytes kept per charge", result["bytes_per_charge"], False, 450),
        ("share of a core, idle worker", result["idle_cpu_share"], False, 0.02),
    ]
