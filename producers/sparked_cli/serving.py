"""Commands that run until they are stopped, and those that show or measure the whole system."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from sparked_cli.options import AsJson, Command
from sparked_cli.output import REFUSED, err, out, say

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

Settings = TypeVar("Settings", bound="BaseSettings")

_OURS = (
    "sparked_cli",
    "sparked_clerk",
    "sparked_credits",
    "sparked_gateway",
    "sparked_webhooks",
    "sparked_workers",
    "sparked_world",
)

commands = typer.Typer()
command = partial(commands.command, cls=Command, rich_help_panel="Run")


def log_to_stderr() -> None:
    """Have this process tell what happens; a person's terminal gets it in colour.

    Of others' libraries only warnings: arq tells of each sweep, every few seconds, and httpx of each URL.
    """
    from rich.logging import RichHandler

    handler = RichHandler(console=err) if sys.stderr.isatty() else logging.StreamHandler()
    logging.basicConfig(
        level=logging.WARNING, handlers=[handler], format="%(levelname)s %(name)s: %(message)s"
    )
    for package in _OURS:
        logging.getLogger(package).setLevel(logging.INFO)


def stop_on_signals(stop: Callable[[], None]) -> None:
    """SIGTERM and Ctrl-C end it in good order."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


@command()
def up(
    data: Annotated[
        Path, typer.Option(help="Folder that keeps the data between runs.", metavar="FOLDER")
    ] = Path(".credits"),
    as_json: AsJson = False,
) -> None:
    """Start a store, a worker, the jobs, the gateway and the webhooks here, until Ctrl-C.

    Prints the URLs to connect to. The webhooks are started if one of their secrets is set. The data are kept in a
    folder between runs.
    """
    from sparked_cli.up import serve

    log_to_stderr()
    asyncio.run(serve(data, as_json=as_json))


@command()
def worker(
    url: Annotated[str, typer.Option(help="The store; else CREDITS_URL.", metavar="URL")] = "",
    as_json: AsJson = False,
) -> None:
    """Apply what apps ask for, until stopped.

    Run as many as wanted. More settings, CREDITS_…, are in docs/operations.md.
    """
    from sparked_workers.settings import WorkerSettings
    from sparked_workers.worker import Worker

    log_to_stderr()
    settings = read_settings(WorkerSettings, url)

    async def work() -> None:
        worker = Worker(
            settings.url.get_secret_value(),
            namespace=settings.namespace,
            epoch=settings.epoch,
            witness=settings.witness,
            lease_ms=settings.lease_ms,
            weak_durability=settings.weak_durability,
        )
        stop_on_signals(worker.stop)
        await worker.run(lambda: say("serving", {"ready": True, "pid": os.getpid()}, as_json=as_json))

    asyncio.run(work())


@command()
def jobs(
    url: Annotated[str, typer.Option(help="The store; else CREDITS_URL.", metavar="URL")] = "",
    charges: Annotated[
        bool,
        typer.Option("--charges", help="Serve the queue of apps that speak arq instead; see docs/arq.md."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Act on sign-ups and trainings, reconcile every six hours, and tell the endpoints, until stopped.

    Run as many as wanted. The settings, CREDITS_… and CLERK_…, are in docs/operations.md.
    """
    from sparked_workers.charges import ChargesSettings, charges_worker
    from sparked_workers.jobs import jobs_worker
    from sparked_workers.settings import JobsSettings
    from sparked_workers.supervision import supervise

    log_to_stderr()
    if charges:
        charging = read_settings(ChargesSettings, url)
        make_worker = partial(charges_worker, charging)
    else:
        make_worker = partial(jobs_worker, read_settings(JobsSettings, url))

    async def work() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop.set)
        ready = partial(say, "serving", {"ready": True, "pid": os.getpid()}, as_json=as_json)
        await supervise(make_worker, stop, ready=ready)

    asyncio.run(work())


def read_settings(kind: type[Settings], url: str) -> Settings:
    """The settings of the environment; `url`, where given, instead of CREDITS_URL. `StoreRefused` if any is wrong."""
    from pydantic import ValidationError

    from sparked_workers.settings import refused

    try:
        given: dict[str, Any] = {"url": url} if url else {}
        return kind(**given)
    except ValidationError as error:
        raise refused(error) from None


@command()
def demo(
    port: Annotated[
        int,
        typer.Option(
            help="First of the ports that it listens at, one for each app and service; 0: any that are free.",
            min=0,
            max=65_000,
        ),
    ] = 8100,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps the ledger; none given: a temporary one.", metavar="FOLDER"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Use all of it in a browser: four example apps, the console and a stand-in of Clerk, until Ctrl-C.

    Prints the URLs. Users and secrets are made anew each time.
    """
    from sparked_cli.demo import serve

    log_to_stderr()
    logging.disable(logging.INFO)  # Who looks at it sees it in the browser.
    asyncio.run(serve(data, port, as_json=as_json))


@command()
def tour() -> None:
    """See the whole story on a real store, in seconds.

    Exits with 1 if any of it fails to hold.
    """
    from sparked_cli.tour import tell
    from sparked_cli.tour_stage import TourFailed

    try:
        asyncio.run(tell(out))
    except TourFailed as error:
        err.print(f"[red]It does not hold:[/red] {error}")
        raise typer.Exit(REFUSED) from None


class Measured(StrEnum):
    """What `credits bench` can measure."""

    CHARGES = "charges"
    KINDS = "kinds"
    WEBHOOKS = "webhooks"
    RECONCILE = "reconcile"
    EVENTS = "events"
    GATEWAY = "gateway"


@command()
def bench(
    what: Annotated[
        Measured,
        typer.Argument(
            help="Charges per second, beside three other ways; the store's time for each kind of intent; events "
            "taken in per second, and how fast; accounts reconciled per second; what listeners "
            "cost the gateway, and how soon they hear; charges over HTTP, beside those of the SDK."
        ),
    ] = Measured.CHARGES,
    quick: Annotated[bool, typer.Option("--quick", help="Within a minute, and less exact.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure the system on this machine."""
    from sparked_cli.bench import bench, table
    from sparked_cli.bench_events import bench_events, events_table
    from sparked_cli.bench_gateway import bench_gateway, gateway_table
    from sparked_cli.bench_kinds import bench_kinds, kinds_table
    from sparked_cli.bench_reconcile import bench_reconcile, reconcile_table
    from sparked_cli.bench_webhooks import bench_webhooks, webhooks_table

    benches = {
        Measured.CHARGES: (bench, table),
        Measured.KINDS: (bench_kinds, kinds_table),
        Measured.WEBHOOKS: (bench_webhooks, webhooks_table),
        Measured.RECONCILE: (bench_reconcile, reconcile_table),
        Measured.EVENTS: (bench_events, events_table),
        Measured.GATEWAY: (bench_gateway, gateway_table),
    }
    measure, shown = benches[what]
    result = asyncio.run(measure(quick=quick, report=partial(err.print, style="dim")))
    say(shown(result), result, as_json=as_json)
