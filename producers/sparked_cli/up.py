"""`credits up`: an embedded store, a worker, the jobs and the webhooks in one command."""

import asyncio
import logging
from functools import partial
from pathlib import Path

from sparked_cli.ingesting import webhooks_server
from sparked_cli.output import out, say
from sparked_cli.serving import read_settings, stop_on_signals
from sparked_credits import CreditsError, StoreRefused
from sparked_credits.keys import Keys
from sparked_credits.store import Store
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
    embedded = EmbeddedStore(data / "store")
    try:
        await embedded.start()
    except (StoreDidNotStart, OSError) as error:
        raise StoreRefused(str(error)) from error
    try:
        async with Store(embedded.url) as store:
            await initialise(store, Keys())
        await _serve_all(embedded, data, as_json=as_json)
    finally:
        await embedded.stop()


async def _serve_all(embedded: EmbeddedStore, data: Path, *, as_json: bool) -> None:
    """The store's supervisor, a worker, the jobs, and the webhooks where a secret for them is set."""
    worker = Worker(embedded.url, witness=data / "witness.json")
    # The store is one of our own, whatever other one the environment tells of.
    own = {"namespace": Keys().namespace, "epoch": None}
    jobs = read_settings(JobsSettings, embedded.url).model_copy(update=own)
    webhooks = webhooks_server(read_settings(WebhooksSettings, embedded.url).model_copy(update=own))
    stopping = asyncio.Event()
    urls = {"url": embedded.url}
    starting = {"worker", "jobs", *(["webhooks"] if webhooks else [])}

    def stop() -> None:
        stopping.set()
        worker.stop()
        if webhooks:
            webhooks.stop()

    def started(what: str) -> None:
        starting.discard(what)
        if not starting:
            _say_ready(urls, as_json=as_json)

    def webhooks_started(url: str) -> None:
        urls["webhooks"] = url
        started("webhooks")

    stop_on_signals(stop)
    supervision = asyncio.create_task(_supervise(embedded))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run(partial(started, "worker")))
            group.create_task(supervise(partial(jobs_worker, jobs), stopping, ready=partial(started, "jobs")))
            if webhooks:
                group.create_task(webhooks.run(webhooks_started))
    except* CreditsError as errors:
        raise errors.exceptions[0] from None
    finally:
        supervision.cancel()


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


def _say_ready(urls: dict[str, str], *, as_json: bool) -> None:
    told = [f"Ready. In another terminal:\n  export CREDITS_URL={urls['url']}"]
    if "webhooks" in urls:
        told.append(f"Webhooks are taken in at {urls['webhooks']}/webhooks/clerk and the like.")
    say("\n".join(told), urls, as_json=as_json)
    out.file.flush()
