"""`credits tour`: the whole story, told by real calls on a real store. What is told is checked."""

import asyncio
import signal
import tempfile
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.panel import Panel

from sparked_cli.processes import Process, start_worker, terminating
from sparked_cli.tables import history_table
from sparked_credits import Admin, Credits, InsufficientCredits, Page, Receipt
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.embedded import EmbeddedStore
from sparked_workers.setup import initialise

USER = "user_2abc"
LEASE_MS = 1000


class TourFailed(Exception):
    """Something that the tour tells did not hold."""


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise TourFailed(otherwise)


async def tell(console: Console) -> None:
    """Tell the story; raise `TourFailed` at the first thing that does not hold."""
    with tempfile.TemporaryDirectory(prefix="credits-tour-") as folder:
        data = Path(folder)
        async with EmbeddedStore(data / "store") as embedded, AsyncExitStack() as stack:
            async with Store(embedded.url) as store:
                await initialise(store, Keys())
            console.print(
                Panel("A store of our own (every answer is on disk first), a worker, and four apps.")
            )
            worker = await start_worker(embedded.url, data / "witness.json", lease_ms=LEASE_MS)
            await stack.enter_async_context(terminating(worker))
            admin = await stack.enter_async_context(Admin.connect(embedded.url, actor="tour"))
            apps = [
                await stack.enter_async_context(Credits.connect(embedded.url, app=f"{name}.sparked.world"))
                for name in ("chat", "canvas", "studio", "train")
            ]
            await _spend(console, admin, apps[0], apps[1])
            await _rush(console, apps)
            replacement = await _crash(console, embedded.url, data, worker, admin, apps)
            await stack.enter_async_context(terminating(replacement))
            await _prove(console, apps[0])


async def _spend(console: Console, admin: Admin, chat: Credits, canvas: Credits) -> None:
    console.rule("One balance, several apps")
    receipt = await admin.open_account(USER, initial=100)
    _show(console, "signs up", receipt, available=100)
    receipt = await chat.charge(USER, 10, action="chat_message", key="chat-1")
    _show(console, "sends a chat message", receipt, available=90)
    receipt = await canvas.charge(USER, 50, action="canvas_generation", key="canvas-1")
    _show(console, "generates a canvas", receipt, available=40)
    receipt = await canvas.charge(USER, 50, action="canvas_generation", key="canvas-1")
    expect(receipt.replayed, "the retry was not answered as a replay")
    _show(console, "the same request, retried with its key", receipt, available=40)
    try:
        await canvas.charge(USER, 50, action="canvas_generation", key="canvas-2")
    except InsufficientCredits as error:
        expect(
            (error.required, error.available) == (50, 40), f"refused with {error.required}/{error.available}"
        )
        console.print(
            f"  a canvas too many: refused, needs {error.required}, has {error.available}", style="yellow"
        )
    else:
        raise TourFailed("a charge of 50 was taken from 40")


async def _rush(console: Console, apps: list[Credits]) -> None:
    console.rule("200 charges of 1 at once, against 40 credits")
    outcomes = await asyncio.gather(
        *(apps[n % 4].charge(USER, 1, action="chat_message", key=f"rush-{n}") for n in range(200)),
        return_exceptions=True,
    )
    taken = sum(isinstance(outcome, Receipt) for outcome in outcomes)
    refused = sum(isinstance(outcome, InsufficientCredits) for outcome in outcomes)
    left = (await apps[0].balance(USER)).available
    expect((taken, refused, left) == (40, 160, 0), f"{taken} succeeded, {refused} were refused, {left} left")
    console.print(f"  {taken} succeeded, {refused} were refused, {left} credits left", style="green")


async def _crash(
    console: Console,
    url: str,
    data: Path,
    worker: Process,
    admin: Admin,
    apps: list[Credits],
) -> Process:
    console.rule("The worker is killed in the middle of traffic")
    await admin.grant(USER, 5000, reason="a purchase", key="purchase-1")
    numbers = count()
    done: list[Receipt] = []

    async def shop(app: Credits) -> None:
        while (number := next(numbers)) < 1000:
            done.append(await app.charge(USER, 1, action="chat_message", key=f"crash-{number}"))

    traffic = asyncio.gather(*(shop(app) for app in apps for _ in range(8)))
    while len(done) < 300:
        await asyncio.sleep(0)
        expect(not traffic.done(), "the traffic ended before the crash")
    worker.send_signal(signal.SIGKILL)
    answered = len(done)
    console.print(
        f"  SIGKILL after {answered} answers; {len(apps) * 8} callers go on waiting", style="yellow"
    )
    replacement = await start_worker(url, data / "witness.json", lease_ms=LEASE_MS)
    await traffic
    left = (await apps[0].balance(USER)).available
    expect(len(done) == 1000, f"{len(done)} of 1000 callers were answered")
    expect(left == 4000, f"{left} credits left of 5000 after 1000 charges of 1")
    expect(len({receipt.seq for receipt in done}) == 1000, "two charges were given one entry")
    console.print(
        "  a new worker took over: 1000 of 1000 answered, nothing lost, nothing twice", style="green"
    )
    return replacement


async def _prove(console: Console, app: Credits) -> None:
    console.rule("The proof")
    newest = await app.history(USER, limit=8)
    console.print(history_table(newest))
    amounts: list[int] = []
    page: Page | None = None
    while page is None or page.next:
        page = await app.history(USER, limit=1000, before=page.next if page else None)
        amounts += [entry.amount for entry in page.entries]
    posted = (await app.balance(USER)).posted
    expect(sum(amounts) == posted, f"the entries sum up to {sum(amounts)}, posted is {posted}")
    console.print(f"  Σ of {len(amounts)} entries = {sum(amounts)} = posted", style="bold green")


def _show(console: Console, what: str, receipt: Receipt, *, available: int) -> None:
    expect(receipt.available == available, f"{what}: {receipt.available} available, not {available}")
    signed = receipt.amount if receipt.kind == "open" else -receipt.amount
    effect = "still (replayed)" if receipt.replayed else f"{signed:+d} →"
    console.print(f"  {what}: {effect} [bold]{receipt.available}[/bold]")
