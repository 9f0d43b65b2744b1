"""`credits tour`: the whole story, told by real calls on a real store. What is told is checked."""

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.panel import Panel

from sparked_cli.processes import terminating
from sparked_cli.tour_outside import sign_up, train
from sparked_cli.tour_proof import prove, tamper_and_reconcile
from sparked_cli.tour_services import services
from sparked_cli.tour_stage import Stage
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
                Panel(
                    "A store of our own (every answer is on disk first), and four apps.\n"
                    "Beside it a worker, the jobs and the webhooks, each a process of its own."
                )
            )
            outside = await stack.enter_async_context(services(embedded.url, data))
            admin = await stack.enter_async_context(Admin.connect(embedded.url, actor="tour"))
            user = await sign_up(console, admin, outside)
            stage = await _set(console, embedded.url, data, user, admin, stack)
            await spend(stage)
            await rush(stage)
            await stack.enter_async_context(terminating(await crash(stage, outside.worker)))
            await hold(stage)
            await spend_promotional(stage)
            await train(stage, outside)
            await tamper_and_reconcile(stage, outside)
            await prove(stage)


async def _set(
    console: Console, url: str, data: Path, user: str, admin: Admin, stack: AsyncExitStack
) -> Stage:
    apps = [
        await stack.enter_async_context(Credits.connect(url, app=name))
        for name in ("chat", "canvas", "studio", "train")
    ]
    return Stage(console, url, data, user, admin, *apps)
