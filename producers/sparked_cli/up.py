"""`credits up`: an embedded store, a worker, the jobs, the webhooks and the gateway in one command."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from sparked_cli.gateway import gateway_server
from sparked_cli.ingesting import webhooks_server
from sparked_cli.output import out, say
from sparked_cli.serving import read_settings, stop_on_signals
from sparked_cli.together import Service, run_together
from sparked_credits import StoreRefused
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_gateway.settings import GatewaySettings
from sparked_webhooks.settings import WebhooksSettings
from sparked_workers.embedded import EmbeddedStore, StoreDidNotStart
from sparked_workers.jobs import jobs_worker
from sparked_workers.settings import JobsSettings
from sparked_workers.setup import initialise
from sparked_workers.supervision import supervise
from sparked_workers.worker import Worker

_RESTART_S = 0.5

_log = logging.getLogger(__name__)


async def serve(data: Path, *, as_json: bool) -> None:
    """Serve from `data` until SIGINT or SIGTERM; a store that dies is started again."""
    async with own_store(data) as url:
        # The store is one of our own, whatever other one the environment tells of.
        own = {"namespace": Keys().namespace, "epoch": None}
        services: dict[str, Service] = {
            "worker": Worker(url, witness=data / "witness.json"),
            "jobs": Jobs(read_settings(JobsSettings, url).model_copy(update=own)),
        }
        webhooks = webhooks_server(read_settings(WebhooksSettings, url).model_copy(update=own))
        if webhooks:
            services["webhooks"] = webhooks
        services["gateway"] = gateway_server(read_settings(GatewaySettings, url).model_copy(update=own))
        stopping = asyncio.Event()
        stop_on_signals(stopping.set)
        await run_together(services, stopping, partial(_say_ready, url, as_json=as_json))


@asynccontextmanager
async def own_store(data: Path) -> AsyncIterator[str]:
    """A store of our own in `data`, set up, and started again if it dies; its URL.

    Raises:
        StoreRefused: It does not start, or what is in the folder is not one of ours; the message says why.
    """
    embedded = EmbeddedStore(data / "store")
    try:
        await embedded.start()
    except (StoreDidNotStart, OSError) as error:
        raise StoreRefused(str(error)) from error
    try:
        async with Store(embedded.url) as store:
            await initialise(store, Keys())
        supervision = asyncio.create_task(_supervise(embedded))
        try:
            yield embedded.url
        finally:
            supervision.cancel()
    finally:
        await embedded.stop()


class Jobs:
    """The jobs, through failures of the store, until `stop`."""

    def __init__(self, settings: JobsSettings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        await supervise(partial(jobs_worker, self._settings), self._stopping, ready=ready)

    def stop(self) -> None:
        self._stopping.set()


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


def _say_ready(url: str, urls: dict[str, str], *, as_json: bool) -> None:
    told = [f"Ready. In another terminal:\n  export CREDITS_URL={url}"]
    if "webhooks" in urls:
        told.append(f"Webhooks are taken in at {urls['webhooks']}/webhooks/clerk and the like.")
    told.append(f"The gateway is at {urls['gateway']}, for apps with a key of `credits keys create`;")
    told.append(f"the console, for admins, at {urls['gateway']}/console.")
    say("\n".join(told), {"url": url, **urls}, as_json=as_json)
    out.file.flush()
