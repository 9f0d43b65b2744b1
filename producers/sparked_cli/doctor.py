"""`credits doctor`: what is wrong with a store and with settings, and what to do about it."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from sparked_cli.connecting import Connection, connected
from sparked_cli.gateway import gateway_server
from sparked_cli.ingesting import webhooks_server
from sparked_cli.operations import PANEL
from sparked_cli.options import Command
from sparked_cli.output import REFUSED, say
from sparked_cli.serving import read_settings
from sparked_cli.tables import plain
from sparked_credits import CreditsError, StoreRefused, Unavailable
from sparked_credits.identity import identify
from sparked_credits.keys import Keys
from sparked_credits.store import Store

if TYPE_CHECKING:
    from sparked_workers.doctor import Finding
    from sparked_workers.witness import Witness

commands = typer.Typer()
command = partial(commands.command, cls=Command, rich_help_panel=PANEL)

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@command()
@connected
def doctor(
    to: Connection,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair queues that are jammed; nothing that waits is lost.")
    ] = False,
    witness: Annotated[
        Path | None,
        typer.Option(envvar="CREDITS_WITNESS", help="A worker's witness file.", metavar="FILE"),
    ] = None,
    jobs_url: Annotated[
        str | None,
        typer.Option(envvar="CREDITS_JOBS_URL", help="Where arq's queue is; else the store.", metavar="URL"),
    ] = None,
) -> None:
    """Examine the store and this machine's settings, and say what to change.

    Exits with 1 if anything fails. Sees most as the store's user `worker`; changes nothing unless told to repair.
    """
    findings, repaired = asyncio.run(_examine(to, witness, jobs_url, repair=repair))
    failed = sum(finding.verdict == "fail" for finding in findings)
    warned = sum(finding.verdict == "warn" for finding in findings)
    say(
        _table(repaired, findings, f"failed: {failed}, warnings: {warned}"),
        {
            "ok": not failed,
            "findings": [finding.as_dict() for finding in findings],
            "repaired": [finding.as_dict() for finding in repaired],
        },
        as_json=to.as_json,
    )
    if failed:
        raise typer.Exit(REFUSED)


async def _examine(
    to: Connection, witness: Path | None, jobs_url: str | None, *, repair: bool
) -> "tuple[list[Finding], list[Finding]]":
    """What was found, in the end, and what was repaired before."""
    from sparked_workers.doctor import Finding, Verdict, examine
    from sparked_workers.doctor import repair as repair_queues

    url, keys = to.store_url(), Keys(to.namespace)
    findings, repaired = _settings(url), []
    try:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(Store(url))
            findings.append(Finding("store", Verdict.OK, "it answers"))
            if repair:
                identity = await identify(store, keys, to.epoch)
                repaired = await repair_queues(store, keys, identity.shards)
            queue = await _queue(stack, store, jobs_url)
            seen = await _witness(store, keys, to.epoch, witness)
            findings += await examine(store, keys, epoch=to.epoch, witness=seen, queue=queue)
    except Unavailable as error:
        todo = "start it, or check CREDITS_URL" if not isinstance(error, StoreRefused) else "as it says"
        findings.append(Finding("store", Verdict.FAIL, str(error), todo))
    return findings, repaired


def _settings(url: str) -> "list[Finding]":
    """Whether workers, jobs, webhooks and gateways would take this process's settings; their values are not told."""
    from sparked_workers.doctor import Finding, Verdict

    checks: dict[str, Callable[[], str]] = {
        "worker's settings": lambda: _worker_settings(url),
        "jobs' settings": lambda: _jobs_settings(url),
        "webhooks' settings": lambda: _webhooks_settings(url),
        "gateway's settings": lambda: _gateway_settings(url),
    }
    findings = []
    for subject, check in checks.items():
        try:
            findings.append(Finding(subject, Verdict.OK, check()))
        except CreditsError as error:
            text = str(error).removeprefix("settings: ")
            findings.append(
                Finding(subject, Verdict.FAIL, text, "set it right where that process is started")
            )
    return findings


def _worker_settings(url: str) -> str:
    from sparked_workers.settings import WorkerSettings

    read_settings(WorkerSettings, url)
    return "right"


def _jobs_settings(url: str) -> str:
    from sparked_workers.jobs_settings import check_jobs_settings
    from sparked_workers.settings import JobsSettings

    settings = read_settings(JobsSettings, url)
    check_jobs_settings(settings)
    if settings.clerk_secret_key:
        return "right"
    return "right; without CLERK_SECRET_KEY, users are not compared with Clerk's"


def _webhooks_settings(url: str) -> str:
    from sparked_webhooks.settings import WebhooksSettings

    settings = read_settings(WebhooksSettings, url)
    return "right" if webhooks_server(settings) else "none of its secrets is set here"


def _gateway_settings(url: str) -> str:
    from sparked_gateway.settings import GatewaySettings

    settings = read_settings(GatewaySettings, url)
    gateway_server(settings)
    return "right" if settings.clerk() else "right; without CLERK_PUBLISHABLE_KEY, only apps are let in"


async def _queue(stack: AsyncExitStack, store: Store, jobs_url: str | None) -> Store | None:
    """Where arq's queue is; None where it cannot be reached."""
    if not jobs_url:
        return None if store.is_cluster else store
    try:
        return await stack.enter_async_context(Store(jobs_url))
    except Unavailable:
        return None


async def _witness(store: Store, keys: Keys, epoch: str | None, file: Path | None) -> "Witness | None":
    """What a worker of this machine remembers; None where there is none, or of another store."""
    from sparked_workers.witness import Witness, default_path

    try:
        found = (await identify(store, keys, epoch)).epoch
    except StoreRefused:
        return None
    path = file or default_path(found)
    return Witness(path, found) if path.exists() else None


def _table(repaired: "Sequence[Finding]", findings: "Sequence[Finding]", verdict: str) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in (*repaired, *findings):
        text = plain(finding.text)
        if finding.todo:
            text.append(f"\n→ {finding.todo}")
        table.add_row(Text(finding.verdict, _STYLES[finding.verdict]), plain(finding.subject), text)
    table.add_row("", "", verdict)
    return table
