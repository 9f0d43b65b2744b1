"""The commands of `credits`."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.logging import RichHandler
from rich.table import Table

from sparked_cli.output import UNUSABLE, err, finish, out, say, say_error, whole_number
from sparked_credits import Admin, Balance, Credits, InvalidIntent, Page, Receipt, StoreRefused
from sparked_credits.identity import Identity, identify
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.settings import WorkerSettings
from sparked_workers.setup import SHARDS, accept_loss, initialise
from sparked_workers.witness import Witness, default_path
from sparked_workers.worker import Worker

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Prepaid credits: one key, one outcome, never below the floor. "
    "CREDITS_URL names the store; without one, `credits up` starts one and prints its URL.",
)

# An amount of -5 is to be refused as an amount, not as an unknown option.
_AMOUNTS = {"ignore_unknown_options": True}

Url = Annotated[
    str, typer.Option(envvar="CREDITS_URL", help="The store; may hold a password.", show_envvar=True)
]
Namespace = Annotated[str, typer.Option(envvar="CREDITS_NAMESPACE", help="What all keys begin with.")]
Epoch = Annotated[str | None, typer.Option(envvar="CREDITS_EPOCH", help="The epoch the store must have.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
User = Annotated[str, typer.Argument(help="Whose account.")]
Amount = Annotated[str, typer.Argument(help="Whole credits.")]
Key = Annotated[str, typer.Option(help="Idempotency key: the same key never takes effect twice.")]
App = Annotated[str, typer.Option(help="On behalf of which app; keys are unique per user and app.")]
Actor = Annotated[str, typer.Option(help="Who acts; kept with the entry.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the outcome.")]


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. Misuse is explained, in JSON where JSON was asked for."""
    try:
        code = app(list(arguments), standalone_mode=False, prog_name="credits")
    except typer.TyperException as error:
        if str(error):  # Empty where no command was given: the help is printed already.
            say_error({"error": "UsageError", "message": str(error)}, as_json="--json" in arguments)
        return UNUSABLE
    except (typer.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0


def _url(url: str) -> str:
    if not url:
        raise StoreRefused(
            "no store is named: set CREDITS_URL, or run `credits up` and use the URL that it prints"
        )
    return url


# One call from the shell


@app.command()
def init(
    url: Url = "",
    namespace: Namespace = "credits",
    shards: Annotated[str, typer.Option(help="Slices of the users; permanent.")] = str(SHARDS),
    as_json: AsJson = False,
) -> None:
    """Set up a new store, once. On a store that is set up already, say what it is."""

    async def work() -> Identity:
        async with Store(_url(url)) as store:
            return await initialise(store, Keys(namespace), shards=whole_number("shards", shards))

    identity = finish(work(), as_json=as_json)
    say(
        f"The store is ready: epoch {identity.epoch}, {identity.shards} shards.",
        {"epoch": identity.epoch, "shards": identity.shards},
        as_json=as_json,
    )


@app.command("open", context_settings=_AMOUNTS)
def open_account(
    user: User,
    url: Url = "",
    initial: Annotated[str, typer.Option(help="Credits granted at once.")] = "100",
    key: Key = "open",
    actor: Actor = "cli",
    namespace: Namespace = "credits",
    epoch: Epoch = None,
    timeout: Timeout = 5.0,
    as_json: AsJson = False,
) -> None:
    """Open an account, exactly once however often it is asked for."""

    async def work() -> Receipt:
        whole = whole_number("initial", initial)
        async with Admin.connect(_url(url), actor=actor, namespace=namespace, epoch=epoch) as admin:
            return await admin.open_account(user, initial=whole, key=key, timeout=timeout)

    _say_receipt(finish(work(), as_json=as_json), as_json=as_json)


@app.command(context_settings=_AMOUNTS)
def grant(
    user: User,
    amount: Amount,
    key: Key,
    reason: Annotated[str, typer.Option(help="Why; kept with the entry.")],
    url: Url = "",
    actor: Actor = "cli",
    namespace: Namespace = "credits",
    epoch: Epoch = None,
    timeout: Timeout = 5.0,
    as_json: AsJson = False,
) -> None:
    """Give an account credits."""

    async def work() -> Receipt:
        whole = whole_number("amount", amount)
        async with Admin.connect(_url(url), actor=actor, namespace=namespace, epoch=epoch) as admin:
            return await admin.grant(user, whole, reason=reason, key=key, timeout=timeout)

    _say_receipt(finish(work(), as_json=as_json), as_json=as_json)


@app.command(context_settings=_AMOUNTS)
def charge(
    user: User,
    amount: Amount,
    key: Key,
    action: Annotated[str, typer.Option(help="What for, such as chat_message.")] = "charge",
    metadata: Annotated[str, typer.Option(help="A JSON object, kept with the entry.")] = "{}",
    url: Url = "",
    app_name: Annotated[str, typer.Option("--app", help="On behalf of which app.")] = "cli",
    namespace: Namespace = "credits",
    epoch: Epoch = None,
    timeout: Timeout = 5.0,
    as_json: AsJson = False,
) -> None:
    """Take credits from an account and await the receipt."""

    async def work() -> Receipt:
        whole = whole_number("amount", amount)
        known = _json_object(metadata)
        async with Credits.connect(_url(url), app=app_name, namespace=namespace, epoch=epoch) as client:
            return await client.charge(user, whole, action=action, key=key, metadata=known, timeout=timeout)

    _say_receipt(finish(work(), as_json=as_json), as_json=as_json)


@app.command()
def balance(
    user: User,
    url: Url = "",
    namespace: Namespace = "credits",
    epoch: Epoch = None,
    as_json: AsJson = False,
) -> None:
    """What an account has: posted, held, available."""

    async def work() -> Balance:
        async with Credits.connect(_url(url), app="cli", namespace=namespace, epoch=epoch) as client:
            return await client.balance(user)

    found = finish(work(), as_json=as_json)
    numbers = {"posted": found.posted, "held": found.held, "available": found.available}
    say(
        f"{found.available} available (posted {found.posted}, held {found.held})",
        {"user": user, **numbers},
        as_json=as_json,
    )


@app.command()
def history(
    user: User,
    url: Url = "",
    limit: Annotated[str, typer.Option(help="Entries to show, 1 to 1000.")] = "50",
    before: Annotated[
        str | None, typer.Option(help="Start after this entry: `next` of the page before.")
    ] = None,
    namespace: Namespace = "credits",
    epoch: Epoch = None,
    as_json: AsJson = False,
) -> None:
    """The entries of an account's ledger, newest first."""

    async def work() -> Page:
        most = whole_number("limit", limit)
        async with Credits.connect(_url(url), app="cli", namespace=namespace, epoch=epoch) as client:
            return await client.history(user, limit=most, before=before)

    page = finish(work(), as_json=as_json)
    machine = {"user": user, "entries": [entry.as_dict() for entry in page.entries], "next": page.next}
    say(history_table(page), machine, as_json=as_json)
    if page.next and not as_json:
        out.print(f"more: --before {page.next}")


def history_table(page: Page) -> Table:
    """A page of entries as a person reads them."""
    table = Table(title="History, newest first")
    for heading in ("seq", "time (UTC)", "action", "app", "amount", "posted", "key"):
        table.add_column(
            heading, justify="right" if heading in ("seq", "amount", "posted") else "left", no_wrap=True
        )
    for entry in page.entries:
        at = datetime.fromtimestamp(entry.at / 1000, UTC).strftime("%m-%d %H:%M:%S")
        amount = f"[green]+{entry.amount}[/green]" if entry.amount > 0 else f"[red]{entry.amount}[/red]"
        table.add_row(str(entry.seq), at, entry.action, entry.origin, amount, str(entry.posted), entry.key)
    return table


def _say_receipt(receipt: Receipt, *, as_json: bool) -> None:
    again = " (replayed)" if receipt.replayed else ""
    say(
        f"{receipt.kind} of {receipt.amount}: {receipt.available} available after it, entry {receipt.seq}{again}",
        receipt.as_dict(),
        as_json=as_json,
    )


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidIntent('metadata: must be a JSON object, such as {"model": "small"}')
    return value


# What runs until it is stopped


def _log(json_lines: bool = False) -> None:
    handler = logging.StreamHandler() if json_lines or not sys.stderr.isatty() else RichHandler(console=err)
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(levelname)s %(name)s: %(message)s")


def stop_on_signals(worker: Worker) -> None:
    """SIGTERM and Ctrl-C end it in good order."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)


@app.command()
def worker(
    url: Annotated[str, typer.Option(help="The store; else CREDITS_URL.")] = "",
    as_json: AsJson = False,
) -> None:
    """Apply intents until stopped. Run as many as wanted; CREDITS_… settings are in docs/operations.md."""
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

    finish(work(), as_json=as_json)


def _worker_settings(url: str, *, as_json: bool) -> WorkerSettings:
    try:
        return WorkerSettings(**({"url": url} if url else {}))  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = "; ".join(f"CREDITS_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        say_error({"error": "StoreRefused", "message": f"settings: {wrong}"}, as_json=as_json)
        raise typer.Exit(UNUSABLE) from None


@app.command()
def up(
    data: Annotated[Path, typer.Option(help="Folder that keeps the data between runs.")] = Path(".credits"),
    as_json: AsJson = False,
) -> None:
    """An embedded store and a worker, in the foreground until Ctrl-C. Prints the URL to connect to."""
    from sparked_cli.up import serve

    _log()
    finish(serve(data, as_json=as_json), as_json=as_json)


@app.command("accept-loss")
def accept(
    url: Url = "",
    witness: Annotated[
        Path | None, typer.Option(envvar="CREDITS_WITNESS", help="The worker's witness file.")
    ] = None,
    namespace: Namespace = "credits",
    as_json: AsJson = False,
) -> None:
    """Let shards go on that halted because the store is behind. Says what is missing; it stays missing."""

    async def work() -> dict[int, int]:
        keys = Keys(namespace)
        async with Store(_url(url)) as store:
            identity = await identify(store, keys)
            file = Witness(witness or default_path(identity.epoch), identity.epoch)
            return await accept_loss(store, keys, identity, file)

    lost = finish(work(), as_json=as_json)
    text = "\n".join(f"shard {shard}: {count} decided intents are missing" for shard, count in lost.items())
    say(text or "Nothing is missing.", {"lost": lost}, as_json=as_json)


# To see and to measure


@app.command()
def tour() -> None:
    """The whole story on a real store, in seconds; exits non-zero if any of it fails to hold."""
    from sparked_cli.tour import TourFailed, tell

    try:
        finish(tell(out), as_json=False)
    except TourFailed as error:
        err.print(f"[red]It does not hold:[/red] {error}")
        raise typer.Exit(1) from None


@app.command()
def bench(
    quick: Annotated[bool, typer.Option(help="Within a minute, and less exact.")] = False,
    as_json: AsJson = False,
) -> None:
    """Charges per second beside three other ways, in one run, as ratios."""
    from sparked_cli.bench import bench as measure
    from sparked_cli.bench import table

    result = finish(measure(quick=quick, report=lambda line: err.print(line, style="dim")), as_json=as_json)
    say(table(result), result, as_json=as_json)
