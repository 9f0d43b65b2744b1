"""`credits bench events`: what a thousand listeners cost the gateway, and how soon after a charge they hear of it."""

import asyncio
import re
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from rich.console import Group
from rich.table import Table

from sparked_clerk.stand_in.tokens import Signer
from sparked_cli.bench_load import ANSWER_S, Send, open_loop
from sparked_cli.processes import start_telling, start_worker, terminating
from sparked_credits import Admin, Credits
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.embedded import EmbeddedStore
from sparked_workers.setup import initialise

LISTENERS = 1000
PER_S = 100
P99_MS = 100
"""What 99 of 100 events have to be there in, counted from when their charge was due."""

RSS_MB_MAX = 200
"""What the gateway may take with that many listeners."""

_ORIGIN = "https://bench.example.com"
_CLERK = "127.0.0.1:1"
"""Nobody is asked there: the gateway is given the key that sessions are signed with."""

_OPENING = 50
"""Accounts and streams that are opened at a time."""

_ID = re.compile(rb"\nid: (\d+)\n")


@dataclass(frozen=True, slots=True)
class _Stage:
    store_url: str
    gateway: tuple[str, int]
    pid: int
    signer: Signer


class _Listener(asyncio.Protocol):
    """One stream. Numbers of entries rise, so the highest that was told is all there is to remember."""

    def __init__(self) -> None:
        self._seq = 0
        self._told = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        if found := _ID.findall(data):
            self._seq = int(found[-1])
            self._told.set()

    async def hears(self, seq: int) -> None:
        """Return once it was told of the entry `seq`, or of a later one."""
        while self._seq < seq:
            self._told.clear()
            await self._told.wait()


async def bench_events(*, quick: bool, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure on processes of their own; the shape of the result is that of `credits bench events --json`."""
    seconds = 5 if quick else 20
    users = [f"user_{token_hex(8)}" for _ in range(LISTENERS)]
    turns = [users[number % LISTENERS].encode() for number in range(PER_S * seconds)]
    with tempfile.TemporaryDirectory(prefix="credits-bench-") as folder:
        async with AsyncExitStack() as stack:
            stage = await stack.enter_async_context(_staged(Path(folder)))
            admin = await stack.enter_async_context(Admin.connect(stage.store_url, actor="bench"))
            app = await stack.enter_async_context(Credits.connect(stage.store_url, app="bench"))
            report(f"opening {LISTENERS} accounts")
            await _some_at_a_time([admin.open_account(user, initial=10**6, timeout=60) for user in users])
            before_mb = _rss_mb(stage.pid)
            report(f"opening {LISTENERS} streams")
            listeners = await stack.enter_async_context(_listening(stage, users))
            idle_mb = _rss_mb(stage.pid)
            rows, behind = [], list[float]()
            for way, send in (("charge", _charge(app)), ("event", _charge_and_hear(app, listeners, behind))):
                report(f"{way}, {PER_S} a second")
                rows.append(await open_loop(way, send, turns, PER_S))
            busy_mb = _rss_mb(stage.pid)
    return {
        "listeners": LISTENERS,
        "rss_mb": {"before": before_mb, "idle": idle_mb, "busy": busy_mb},
        "listener_kb": round((idle_mb - before_mb) * 1024 / LISTENERS, 1),
        "steady": rows,
        "behind_receipt_ms": {
            "p50": round(1000 * sorted(behind)[len(behind) // 2], 2),
            "p99": round(1000 * sorted(behind)[len(behind) * 99 // 100], 2),
        },
        "p50_over_charge": round(rows[1]["p50_ms"] / rows[0]["p50_ms"], 2),
    }


@asynccontextmanager
async def _staged(data: Path) -> AsyncIterator[_Stage]:
    signer = Signer()
    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(EmbeddedStore(data / "store"))
        async with Store(embedded.url) as store:
            await initialise(store, Keys())
        settings = {
            "CREDITS_URL": embedded.url,
            "CREDITS_GATEWAY_PORT": "0",
            "CREDITS_ORIGINS": _ORIGIN,
            "CLERK_PUBLISHABLE_KEY": f"pk_test_{b64encode(f'{_CLERK}$'.encode()).decode()}",
            "CLERK_JWT_KEY": signer.pem(),
        }
        worker, (gateway, told) = await asyncio.gather(
            start_worker(embedded.url, data / "worker.json", lease_ms=5000),
            start_telling(["-m", "sparked_cli", "gateway", "--json"], settings),
        )
        for process in (worker, gateway):
            await stack.enter_async_context(terminating(process))
        where = urlsplit(told["url"])
        assert where.hostname
        assert where.port
        yield _Stage(embedded.url, (where.hostname, where.port), gateway.pid, signer)


@asynccontextmanager
async def _listening(stage: _Stage, users: Sequence[str]) -> AsyncIterator[dict[str, _Listener]]:
    """A stream for each user, once each has told a balance."""
    loop = asyncio.get_running_loop()
    listeners: dict[str, _Listener] = {}
    transports: list[asyncio.Transport] = []

    async def listen(user: str) -> None:
        transport, listeners[user] = await loop.create_connection(_Listener, *stage.gateway)
        transports.append(transport)
        head = f"GET /me/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {_token(stage.signer, user)}"
        transport.write(f"{head}\r\n\r\n".encode())
        async with asyncio.timeout(ANSWER_S):
            await listeners[user].hears(1)

    try:
        await _some_at_a_time([listen(user) for user in users])
        yield listeners
    finally:
        for transport in transports:
            transport.abort()


def _token(signer: Signer, user: str) -> str:
    now = int(time.time())
    times = {"iat": now, "nbf": now, "exp": now + 3600}  # A real one lives for a minute.
    return signer.sign({"iss": f"http://{_CLERK}", "sub": user, "sid": "sess_0", "azp": _ORIGIN, **times})


async def _some_at_a_time(work: Sequence[Any]) -> None:
    for start in range(0, len(work), _OPENING):
        await asyncio.gather(*work[start : start + _OPENING])


def _charge(app: Credits) -> Send:
    async def send(user: bytes) -> bool:
        await app.charge(user.decode(), 1, action="bench", key=token_hex(8))
        return True

    return send


def _charge_and_hear(app: Credits, listeners: dict[str, _Listener], behind: list[float]) -> Send:
    """Notes in `behind` how much later than the receipt each event came, in seconds."""

    async def send(user: bytes) -> bool:
        receipt = await app.charge(user.decode(), 1, action="bench", key=token_hex(8))
        answered = time.perf_counter()
        await listeners[user.decode()].hears(receipt.seq)
        behind.append(time.perf_counter() - answered)
        return True

    return send


def _rss_mb(pid: int) -> float:
    """What a process has in memory. `ps` tells it on every system that we run on."""
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True)
    return round(int(told.stdout) / 1024, 1)


def events_table(result: dict[str, Any]) -> Group:
    """The result as a person reads it, with the targets and whether they are met."""
    steady = Table(
        "way", title=f"{PER_S} charges a second, {result['listeners']} listeners; appendfsync always"
    )
    for heading in ("sent", "p50 ms", "p99 ms", "max ms", "errors"):
        steady.add_column(heading, justify="right")
    for row in result["steady"]:
        numbers = (f"{row[name]:.2f}" for name in ("p50_ms", "p99_ms", "max_ms"))
        steady.add_row(row["way"], str(row["sent"]), *numbers, str(row["errors"]))
    p99, rss, behind = result["steady"][1]["p99_ms"], result["rss_mb"], result["behind_receipt_ms"]
    told = (
        f"p99 from a charge to its event: {p99:.2f} ms, target < {P99_MS} ms: {_met(p99 < P99_MS)}; "
        f"p50 over the charge's own: {result['p50_over_charge']}; behind the receipt: "
        f"p50 {behind['p50']:.2f} ms, p99 {behind['p99']:.2f} ms\n"
        f"memory of the gateway: {rss['before']:.0f} MB without listeners, {rss['idle']:.0f} MB with "
        f"{result['listeners']} idle ones, {rss['busy']:.0f} MB after the charges, target < {RSS_MB_MAX} MB: "
        f"{_met(max(rss.values()) < RSS_MB_MAX)}; {result['listener_kb']:.0f} kB for each"
    )
    return Group(steady, told)


def _met(is_met: bool) -> str:
    return "[green]met[/green]" if is_met else "[red]missed[/red]"
