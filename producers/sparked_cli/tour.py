"""`credits tour`: the whole story, told by real calls on a real store. What is told is checked."""

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.panel import Panel

from sparked_cli.processes import start_worker, terminating
from sparked_cli.tour_proof import prove, tamper_and_repair
from sparked_cli.tour_stage import LEASE_MS, Stage
from sparked_cli.tour_story import crash, hold, rush, spend, spend_promotional
from sparked_credits import Admin, Credits
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.embedded import EmbeddedStore
from sparked_workers.setup import initialise


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
            stage = await _set(console, embedded.url, data, stack)
            await spend(stage)
            await rush(stage)
            await stack.enter_async_context(terminating(await crash(stage, worker)))
            await hold(stage)
            await spend_promotional(stage)
            await tamper_and_repair(stage)
            await prove(stage)


async def _set(console: Console, url: str, data: Path, stack: AsyncExitStack) -> Stage:
    admin = await stack.enter_async_context(Admin.connect(url, actor="tour"))
    apps = [
        await stack.enter_async_context(Credits.connect(url, app=name))
        for name in ("chat", "canvas", "studio", "train")
    ]
    return Stage(console, url, data, admin, *apps)
