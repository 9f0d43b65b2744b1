"""`credits up`: an embedded store and a worker in one command."""

import asyncio
import logging
from pathlib import Path

from sparked_cli.output import out, say
from sparked_cli.serving import stop_on_signals
from sparked_credits import StoreRefused
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.embedded import EmbeddedStore, StoreDidNotStart
from sparked_workers.setup import initialise
from sparked_workers.worker import Worker

_RESTART_S = 0.5

_log = logging.getLogger(__name__)


async def serve(data: Path, *, as_json: bool) -> None:
    """Serve from `data` until SIGINT or SIGTERM; a store that dies is started again."""
    embedded = EmbeddedStore(data / "store")
    try:
        await embedded.start()
    except (StoreDidNotStart, OSError) as error:
        raise StoreRefused(str(error)) from error
    try:
        async with Store(embedded.url) as store:
            await initialise(store, Keys())
        worker = Worker(embedded.url, witness=data / "witness.json")
        stop_on_signals(worker.stop)
        supervision = asyncio.create_task(_supervise(embedded))
        try:
            await worker.run(lambda: _say_ready(embedded, as_json=as_json))
        finally:
            supervision.cancel()
    finally:
        await embedded.stop()


async def _supervise(embedded: EmbeddedStore) -> None:
    while True:
        code = await embedded.wait()
        _log.error("the store ended with code %d: starting it again", code)
        while True:
            await asyncio.sleep(_RESTART_S)
            try:
                await embedded.start()
                break
            except (StoreDidNotStart, OSError) as error:
                _log.error("%s", error)


def _say_ready(embedded: EmbeddedStore, *, as_json: bool) -> None:
    say(
        f"Ready. In another terminal:\n  export CREDITS_URL={embedded.url}",
        {"url": embedded.url},
        as_json=as_json,
    )
    out.file.flush()
