"""`credits bench webhooks`: events taken in at a steady rate and as fast as may be, and how soon they have effect."""

import asyncio
import json
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import Any
from urllib.parse import urlsplit

from rich.console import Group
from rich.table import Table
from svix.webhooks import Webhook

from sparked_clerk.stand_in.users import Users
from sparked_cli.bench_load import Http, Row, closed_loop, open_loop
from sparked_cli.processes import Process, start_telling, start_worker, terminating
from sparked_credits.inbox import Event
from sparked_credits.keys import Keys, shard_of
from sparked_credits.store import Store
from sparked_workers.embedded import EmbeddedStore
from sparked_workers.setup import SHARDS, initialise

PER_S = 200
SENDERS = 64
P99_MS = 50
"""What 99 of 100 accepted events have to be answered in, at `PER_S`."""

_DRAIN_S = 120.0


@dataclass(frozen=True, slots=True)
class _Stage:
    store: Store
    http: Http
    host: str
    clerk: Webhook
    training: Webhook


async def bench_webhooks(*, quick: bool, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure on processes of their own; the shape of the result is that of `credits bench webhooks --json`."""
    seconds, burst_s = (4, 2.0) if quick else (20, 5.0)
    count = PER_S * seconds
    with tempfile.TemporaryDirectory(prefix="credits-bench-") as folder:
        async with _staged(Path(folder)) as (stage, jobs):
            users = [f"user_{token_hex(8)}" for _ in range(count // 2)]
            rows = [await _steady(stage, "healthz", [_get(stage.host, "/healthz")] * count, report)]
            events = _events(stage, users)
            began_ms = await stage.store.time_ms()
            rows.append(await _steady(stage, "accepted", events, report))
            report("until every account is open")
            effect = await _effect(stage.store, users, began_ms)
            rows.append(await _steady(stage, "xadd", [b""] * count, report))
            async with terminating(jobs):
                pass
            most = []
            for way in ("healthz", "accepted"):
                report(f"{way}, as fast as {SENDERS} senders get answers")
                requests = _many(stage, way, int(burst_s * 4000))
                most.append(await closed_loop(way, stage.http.send, requests, SENDERS, burst_s))
    return {"steady": rows, "most": most, "effect": effect, "ratios": _ratios(rows, most)}


async def _steady(stage: _Stage, way: str, requests: list[bytes], report: Callable[[str], None]) -> Row:
    report(f"{way}, {PER_S} a second")
    send = _bare_xadd(stage.store) if way == "xadd" else stage.http.send
    return await open_loop(way, send, requests, PER_S)


@asynccontextmanager
async def _staged(data: Path) -> AsyncIterator[tuple[_Stage, Process]]:
    secrets = {name: f"whsec_{b64encode(token_bytes(24)).decode()}" for name in ("clerk", "training")}
    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(EmbeddedStore(data / "store"))
        store = await stack.enter_async_context(Store(embedded.url))
        await initialise(store, Keys())
        settings = {
            "CREDITS_URL": embedded.url,
            "CREDITS_WEBHOOKS_PORT": "0",
            "CLERK_WEBHOOK_SECRET": secrets["clerk"],
            "TRAINING_WEBHOOK_SECRET": secrets["training"],
        }
        worker, (jobs, _), (webhooks, told) = await asyncio.gather(
            start_worker(embedded.url, data / "worker.json", lease_ms=5000),
            start_telling(["-m", "sparked_cli", "jobs", "--json"], settings),
            start_telling(["-m", "sparked_cli", "webhooks", "--json"], settings),
        )
        for process in (worker, jobs, webhooks):
            await stack.enter_async_context(terminating(process))
        where = urlsplit(told["url"])
        assert where.hostname
        assert where.port
        http = await stack.enter_async_context(Http(where.hostname, where.port))
        host = f"{where.hostname}:{where.port}"
        yield _Stage(store, http, host, Webhook(secrets["clerk"]), Webhook(secrets["training"])), jobs


# What is sent


def _events(stage: _Stage, users: Iterable[str]) -> list[bytes]:
    """Of each user, the sign-up and a training that starts: signed here, for that is the sender's work."""
    requests: list[bytes] = []
    for user in users:
        shown = {**Users().add(f"{user}@example.com", verified=True).as_clerk(), "id": user}
        signed_up = {"data": shown, "object": "event", "type": "user.created", "timestamp": 0}
        started = {"job_id": f"job_{user}", "user_id": user, "model": "small", "estimated_gpu_hours": 0.1}
        requests += (
            _post(stage.host, "/webhooks/clerk", stage.clerk, signed_up),
            _post(
                stage.host,
                "/webhooks/training",
                stage.training,
                {"type": "training.started", "data": started},
            ),
        )
    return requests


def _post(host: str, path: str, signer: Webhook, event: dict[str, Any]) -> bytes:
    body, message, now = json.dumps(event), f"msg_{token_hex(12)}", datetime.now(UTC)
    head = {
        "host": host,
        "content-type": "application/json",
        "content-length": str(len(body)),
        "svix-id": message,
        "svix-timestamp": str(int(now.timestamp())),
        "svix-signature": signer.sign(message, now, body),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n{body}".encode()


def _get(host: str, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()


def _many(stage: _Stage, way: str, count: int) -> list[bytes]:
    if way == "healthz":
        return [_get(stage.host, "/healthz")] * count
    return _events(stage, (f"user_{token_hex(8)}" for _ in range(count // 2)))


def _bare_xadd(store: Store) -> Callable[[bytes], Any]:
    """The one write that accepting an event cannot do without."""
    event = Event(
        "clerk", f"msg_{token_hex(12)}", "user.created", {"user": "user_0", "verified": True}, "0" * 64
    )
    entry = ("XADD", "bench:xadd", "*", *event.as_stored())

    async def send(_request: bytes) -> bool:
        return bool(await store.command(*entry))

    return send


# What comes of it


async def _effect(store: Store, users: list[str], began_ms: float) -> Row:
    """How long after its event was due each account was open, by the store's clock."""
    keys = Keys()
    began = time.perf_counter()
    while await store.command("XLEN", keys.inbox()):
        if time.perf_counter() > began + _DRAIN_S:
            break
        await asyncio.sleep(0.05)
    reads = [("XRANGE", keys.entries(shard_of(user, SHARDS), user), "-", "+", "COUNT", 1) for user in users]
    first = await store.commands(reads)
    waits = [
        int(rows[0][0].partition(b"-")[0]) - (began_ms + 2000 * number / PER_S)
        for number, rows in enumerate(first)
        if rows
    ]
    waits.sort()
    last = len(waits) - 1
    return {
        "accounts": len(waits),
        "expected": len(users),
        "p50_ms": round(waits[last // 2]) if waits else None,
        "p99_ms": round(waits[int(last * 0.99)]) if waits else None,
        "left_s": round(time.perf_counter() - began, 2),
    }


def _ratios(rows: list[Row], most: list[Row]) -> dict[str, float]:
    steady, fast = ({row["way"]: row for row in each} for each in (rows, most))
    return {
        "p50_over_healthz": round(steady["accepted"]["p50_ms"] / steady["healthz"]["p50_ms"], 2),
        "p50_over_xadd": round(steady["accepted"]["p50_ms"] / steady["xadd"]["p50_ms"], 2),
        "most_over_healthz": round(fast["accepted"]["per_s"] / fast["healthz"]["per_s"], 2),
    }


def webhooks_table(result: dict[str, Any]) -> Group:
    """The result as a person reads it, with the target and whether it is met."""
    steady = Table("way", title=f"{PER_S} events a second, whatever is answered; appendfsync always")
    for heading in ("sent", "p50 ms", "p99 ms", "max ms", "errors"):
        steady.add_column(heading, justify="right")
    for row in result["steady"]:
        numbers = (f"{row[name]:.2f}" for name in ("p50_ms", "p99_ms", "max_ms"))
        steady.add_row(row["way"], str(row["sent"]), *numbers, str(row["errors"]))
    most = Table("way", title=f"As many as {SENDERS} senders get answered, jobs at rest")
    for heading in ("answers/s", "p50 ms", "p99 ms", "errors"):
        most.add_column(heading, justify="right")
    for row in result["most"]:
        most.add_row(
            row["way"],
            f"{row['per_s']:,.0f}",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            str(row["errors"]),
        )
    p99 = next(row["p99_ms"] for row in result["steady"] if row["way"] == "accepted")
    met = "[green]met[/green]" if p99 < P99_MS else "[red]missed[/red]"
    effect, ratios = result["effect"], result["ratios"]
    told = (
        f"p99 of an accepted event at {PER_S} a second: {p99:.2f} ms, target < {P99_MS} ms: {met}\n"
        f"p50 over /healthz: {ratios['p50_over_healthz']}, over a bare XADD: {ratios['p50_over_xadd']}; "
        f"most accepted over /healthz: {ratios['most_over_healthz']}\n"
        f"from the event to the open account: p50 {effect['p50_ms']} ms, p99 {effect['p99_ms']} ms; "
        f"{effect['accounts']} of {effect['expected']} open, the last {effect['left_s']} s after the last event"
    )
    return Group(steady, most, told)
