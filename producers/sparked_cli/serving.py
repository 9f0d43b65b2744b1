"""Commands that run until they are stopped, and those that show or measure the whole system."""

import asyncio
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparked_cli.options import AsJson, Command
from sparked_cli.output import REFUSED, UNUSABLE, err, out, say, say_error

if TYPE_CHECKING:
    from sparked_workers.settings import WorkerSettings
    from sparked_workers.worker import Worker

commands = typer.Typer()
command = partial(commands.command, cls=Command, rich_help_panel="Run")


def _log() -> None:
    from rich.logging import RichHandler

    handler = RichHandler(console=err) if sys.stderr.isatty() else logging.StreamHandler()
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(levelname)s %(name)s: %(message)s")


def stop_on_signals(worker: "Worker") -> None:
    """SIGTERM and Ctrl-C end it in good order."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)


@command()
def up(
    data: Annotated[
        Path, typer.Option(help="Folder that keeps the data between runs.", metavar="FOLDER")
    ] = Path(".credits"),
    as_json: AsJson = False,
) -> None:
    """Start a store and a worker here, until Ctrl-C.

    Prints the URL to connect to. The data are kept in a folder between runs.
    """
    from sparked_cli.up import serve

    _log()
    asyncio.run(serve(data, as_json=as_json))


@command()
def worker(
    url: Annotated[str, typer.Option(help="The store; else CREDITS_URL.", metavar="URL")] = "",
    as_json: AsJson = False,
) -> None:
    """Apply what apps ask for, until stopped.

    Run as many as wanted. More settings, CREDITS_…, are in docs/operations.md.
    """
    from sparked_workers.worker import Worker

    _log()
    settings = _worker_settings(url, as_json=as_json)

    async def work() -> None:
        worker = Worker(
            settings.url.get_secret_value(),
            namespace=settings.namespace,
            epoch=settings.epoch,
            witness=settings.witness,
            lease_ms=settings.lease_ms,
            weak_durability=settings.weak_durability,
        )
        stop_on_signals(worker)
        await worker.run(lambda: say("serving", {"ready": True, "pid": os.getpid()}, as_json=as_json))

    asyncio.run(work())


def _worker_settings(url: str, *, as_json: bool) -> "WorkerSettings":
    from pydantic import ValidationError

    from sparked_workers.settings import WorkerSettings

    try:
        return WorkerSettings(**({"url": url} if url else {}))  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = "; ".join(f"CREDITS_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        say_error({"error": "StoreRefused", "message": f"settings: {wrong}"}, as_json=as_json)
        raise typer.Exit(UNUSABLE) from None


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


@command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Within a minute, and less exact.")] = False,
    kinds: Annotated[bool, typer.Option("--kinds", help="The store's time for each kind of intent.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure charges per second, beside three other ways."""

    def report(line: str) -> None:
        err.print(line, style="dim")

    if kinds:
        from sparked_cli.bench_kinds import bench_kinds, kinds_table

        result = asyncio.run(bench_kinds(quick=quick, report=report))
        say(kinds_table(result), result, as_json=as_json)
    else:
        from sparked_cli.bench import bench, table

        result = asyncio.run(bench(quick=quick, report=report))
        say(table(result), result, as_json=as_json)
