"""`credits bench gateway`: awaited charges over HTTP beside those of the SDK, in turn, in one run on one machine."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from rich.console import Group
from rich.table import Table

from sparked_cli.bench import drive, middle
from sparked_cli.bench_load import Http
from sparked_cli.bench_ways import ACTION, METADATA, Charge, ours, spread
from sparked_cli.processes import start_telling, start_worker, terminating
from sparked_credits import Admin
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_gateway import api_keys
from sparked_gateway.callers import Scope
from sparked_gateway.rates import RATE_MAX
from sparked_workers.embedded import EmbeddedStore
from sparked_workers.setup import initialise

CALLERS = (1, 64, 256)
RATIO_MIN = 0.4
"""What one gateway process has to reach of the SDK's charges a second."""
ADDED_MS_MAX = 1.5
"""What it may add to the median wait of one caller."""

Row = dict[str, Any]


async def bench_gateway(*, quick: bool, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure on processes of their own; the shape of the result is that of `credits bench gateway --json`."""
    users = [f"user_{number}" for number in range(200)]
    rounds, seconds = (3, 0.8) if quick else (5, 3.0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="credits-bench-") as folder:
        async with _ways(Path(folder), users) as ways:
            for callers in CALLERS:
                report(f"{callers} callers")
                measured: dict[str, list[Row]] = {way: [] for way in ways}
                for _ in range(rounds):
                    for way, charge in ways.items():
                        measured[way].append(await drive(way, charge, callers, seconds))
                rows += [middle(each) for each in measured.values()]
    return {"rows": rows, "ratios": _ratios(rows)}


@asynccontextmanager
async def _ways(data: Path, users: list[str]) -> AsyncIterator[dict[str, Charge]]:
    """The SDK and the gateway, in front of one store and worker."""
    keys = Keys()
    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(EmbeddedStore(data / "store"))
        async with Store(embedded.url) as store:
            await initialise(store, keys)
            scopes = [Scope.CHARGE]
            _, token = await api_keys.create(store, keys, app="chat", scopes=scopes, rate=RATE_MAX)
        settings = {"CREDITS_URL": embedded.url, "CREDITS_GATEWAY_PORT": "0"}
        worker, (gateway, told) = await asyncio.gather(
            start_worker(embedded.url, data / "worker.json", lease_ms=5000),
            start_telling(["-m", "sparked_cli", "gateway", "--json"], settings),
        )
        for process in (worker, gateway):
            await stack.enter_async_context(terminating(process))
        async with Admin.connect(embedded.url, actor="bench") as admin:
            await asyncio.gather(*(admin.open_account(user, initial=10**12, timeout=60) for user in users))
        sdk = await stack.enter_async_context(ours(embedded.url, users))
        yield {"sdk": sdk, "gateway": await stack.enter_async_context(_over_http(told["url"], token, users))}


@asynccontextmanager
async def _over_http(url: str, token: str, users: list[str]) -> AsyncIterator[Charge]:
    """The same charges, of the same size, as any HTTP client would send them."""
    where = urlsplit(url)
    assert where.hostname
    assert where.port
    head = (
        f"POST /v1/charges HTTP/1.1\r\nhost: {where.netloc}\r\nauthorization: Bearer {token}\r\n"
        "content-type: application/json\r\naccept: */*\r\nuser-agent: bench\r\n"
    )
    # Made before, but for the key: what a client does for its request is not the gateway's.
    around_key = {user: _around_key(head, user) for user in users}
    next_user = spread(users)

    async with Http(where.hostname, where.port) as http:

        async def charge() -> None:
            before, after = around_key[next_user()]
            if not await http.send(before + str(uuid4()).encode() + after):
                raise RuntimeError("the gateway refused a charge: see its problem with `credits gateway`")

        yield charge


def _around_key(head: str, user: str) -> tuple[bytes, bytes]:
    """A request without its key: what comes before that, and what after."""
    charge = {"user": user, "amount": 1, "action": ACTION, "metadata": METADATA, "timeout": 60}
    body = json.dumps(charge)
    before = f"{head}content-length: {len(body)}\r\nidempotency-key: "
    return before.encode(), f"\r\n\r\n{body}".encode()


def _ratios(rows: list[Row]) -> dict[str, float]:
    by = {(row["way"], row["callers"]): row for row in rows}
    ratios = {
        f"over_sdk_at_{callers}": round(by["gateway", callers]["per_s"] / by["sdk", callers]["per_s"], 2)
        for callers in CALLERS
    }
    return {**ratios, "added_p50_ms_at_1": round(by["gateway", 1]["p50_ms"] - by["sdk", 1]["p50_ms"], 2)}


def gateway_table(result: dict[str, Any]) -> Group:
    """The result as a person reads it, with the targets and whether they are met."""
    ways = Table("way", title="Awaited charges, appendfsync always, one gateway process")
    for heading in ("callers", "charges/s", "p50 ms", "p99 ms"):
        ways.add_column(heading, justify="right")
    for row in result["rows"]:
        waits = (f"{row[name]:.2f}" for name in ("p50_ms", "p99_ms"))
        ways.add_row(row["way"], str(row["callers"]), f"{row['per_s']:,.0f}", *waits)
    ratios = result["ratios"]
    told = [
        f"charges/s over the SDK's, {callers} callers: {ratios[f'over_sdk_at_{callers}']}, target ≥ {RATIO_MIN}: "
        f"{_met(ratios[f'over_sdk_at_{callers}'] >= RATIO_MIN)}"
        for callers in CALLERS[1:]
    ]
    added = ratios["added_p50_ms_at_1"]
    told.append(f"added p50, 1 caller: {added} ms, target ≤ {ADDED_MS_MAX} ms: {_met(added <= ADDED_MS_MAX)}")
    return Group(ways, "\n".join(told))


def _met(is_met: bool) -> str:
    return "[green]met[/green]" if is_met else "[red]missed[/red]"
