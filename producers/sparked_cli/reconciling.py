"""`credits reconcile`: users beside accounts, accounts beside the ledger, and what is wrong put right."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sparked_cli.connecting import Connection, connected
from sparked_cli.operations import PANEL
from sparked_cli.options import Command
from sparked_cli.output import REFUSED, err, say
from sparked_cli.serving import read_settings
from sparked_cli.tables import clock, grid, plain
from sparked_credits import InvalidIntent, StoreRefused
from sparked_credits.exchange import Exchange
from sparked_credits.identity import Identity
from sparked_credits.intents import SYSTEM
from sparked_credits.keys import Keys
from sparked_credits.models import Balance
from sparked_credits.store import Store

if TYPE_CHECKING:
    from sparked_clerk.directory import ClerkDirectory
    from sparked_workers.reconciliation import Run
    from sparked_workers.settings import JobsSettings

_RECENT = 10

_DOING = {
    "users": "listing users",
    "opening": "opening accounts",
    "ledger": "verifying accounts",
    "repairs": "repairing accounts",
    "totals": "checking totals",
    "loose_ends": "looking for loose ends",
    "report": "reporting",
}

commands = typer.Typer()
command = partial(commands.command, cls=Command, rich_help_panel=PANEL)


@command()
@connected
def reconcile(
    to: Connection,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look, tell, and write nothing.")] = False,
    max_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the accounts, up to 1, past which none is opened or repaired. "
            "None given: CREDITS_RECONCILE_SHARE_MAX.",
            metavar="SHARE",
        ),
    ] = None,
    last: Annotated[
        bool, typer.Option("--last", help="Show the last run instead, whoever asked for it.")
    ] = False,
) -> None:
    """Put right what is wrong: users without accounts, accounts that are not what the ledger says.

    Charges may go on meanwhile; `credits jobs` does the same every six hours. Needs CLERK_SECRET_KEY to look at users.
    Exits with 1 if anything stays wrong.
    """
    try:
        run = to.with_store(_show_last if last else partial(_reconcile, to, dry_run, max_share))
    except KeyboardInterrupt:
        if not dry_run:
            err.print("Interrupted: `credits reconcile` goes on where it was.")
        raise
    if run is None:
        say("There was no reconciliation yet.", {}, as_json=to.as_json)
        return
    say(run_table(run), run.as_dict(), as_json=to.as_json)
    if not run.is_right:
        raise typer.Exit(REFUSED)


async def _show_last(store: Store, keys: Keys, _: Identity) -> "Run | None":
    from sparked_workers.reconciliation import runs

    return next(iter(await runs(store, keys, 1)), None)


async def _reconcile(
    to: Connection, dry_run: bool, max_share: float | None, store: Store, keys: Keys, identity: Identity
) -> "Run | None":
    from sparked_workers.reconciliation import ReconciliationRules, reconcile
    from sparked_workers.settings import JobsSettings

    settings = read_settings(JobsSettings, to.url)
    if max_share is not None and not 0 < max_share <= 1:
        raise InvalidIntent(f"max-share: must be above 0, and 1 at most, not {max_share}")
    rules = ReconciliationRules(
        signup_grant=settings.signup_grant,
        verified_only=settings.signup_verified_only,
        share_max=settings.reconcile_share_max if max_share is None else max_share,
    )
    async with AsyncExitStack() as stack:
        exchange = await stack.enter_async_context(
            Exchange(store, keys, origin=SYSTEM, stream=keys.control, epoch=identity.epoch)
        )
        return await reconcile(
            exchange,
            await stack.enter_async_context(_directory(settings)),
            run=await _id(store, keys),
            trigger="cli",
            rules=rules,
            dry_run=dry_run,
            progress=stack.enter_context(_progress(to)),
        )


@asynccontextmanager
async def _directory(settings: "JobsSettings") -> "AsyncIterator[ClerkDirectory | None]":
    from sparked_clerk.directory import ClerkDirectory, DirectoryRefused

    if settings.clerk_secret_key is None:
        yield None
        return
    key = settings.clerk_secret_key.get_secret_value()
    async with AsyncExitStack() as stack:
        try:
            directory = await stack.enter_async_context(ClerkDirectory.connect(settings.clerk_api_url, key))
        except DirectoryRefused as error:
            raise StoreRefused(f"settings: {error}") from error
        yield directory


async def _id(store: Store, keys: Keys) -> str:
    """The last run from a command line, if it was interrupted; else a new one."""
    from sparked_workers.reconciliation import RunState, runs

    for run in await runs(store, keys, _RECENT):
        if run.trigger == "cli" and run.state is RunState.RUNNING:
            return run.id
    return f"cli-{token_hex(6)}"


@contextmanager
def _progress(to: Connection) -> "Iterator[Callable[[Run], None]]":
    """A bar on the terminal, if there is one and nobody asked for JSON; it is given the run after each step."""
    if to.as_json or not err.is_terminal:
        yield lambda run: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("reconciling", total=None)

        def show(run: "Run") -> None:
            swept = run.verified + run.wrong
            listing = run.place.phase == "users"
            bar.update(
                task,
                description=_DOING[run.place.phase],
                completed=run.users if listing else swept,
                total=None if listing else max(swept, run.accounts + run.opened),
            )

        yield show


def run_table(run: "Run") -> Group:
    """A run as a person reads it."""
    report = run.report
    parts: list[RenderableType] = [_counts(run)]
    if report.findings:
        numbers = ("cached", "calculated")
        table = grid("Wrong accounts", "user", *numbers, "what was wrong", "outcome", numbers=numbers)
        for each in report.findings:
            outcome = plain(each.outcome or "not touched")
            balances = (_balance(each.cached), _balance(each.calculated))
            table.add_row(plain(each.user), *balances, plain(each.problems[0]), outcome)
        parts.append(table)
    for title, lines in (
        ("Users without an account", [] if report.opened else report.missing),
        ("Opened", report.opened),
        ("Accounts unknown to Clerk", report.unknown),
        ("Totals that are WRONG", report.totals),
        ("Errors", report.errors),
        (
            "Loose ends",
            [f"{each.what}: {each.count}, since {clock(each.oldest_at)}" for each in report.loose_ends],
        ),
    ):
        if lines:
            parts += [Text(title, style="bold"), *(Text("  ").append(plain(line)) for line in lines)]
    return Group(*parts, _verdict(run))


def _counts(run: "Run") -> Table:
    what = "Dry run" if run.dry_run else f"Reconciliation {run.id}"
    table = grid(
        f"{what}, {clock(run.started_at)}, {run.duration_ms / 1000:.1f} s",
        "what",
        "number",
        numbers=("number",),
    )
    users = {"none": "no Clerk", "incomplete": f"{run.users}, not all"}.get(run.place.listing, str(run.users))
    for name, value in (
        ("users listed", users),
        ("without an account", str(run.missing)),
        ("opened", str(run.opened)),
        ("accounts verified", str(run.verified)),
        ("wrong", str(run.wrong)),
        ("fixed", str(run.fixed)),
        ("unknown to Clerk", str(run.unknown)),
        ("errors", str(run.errors)),
    ):
        table.add_row(name, value)
    return table


def _balance(balance: Balance) -> str:
    return f"{balance.posted}, {balance.held} held" if balance.held else str(balance.posted)


def _verdict(run: "Run") -> Text:
    if run.reason:
        return Text(f"{run.state}: ", style="bold red").append(plain(run.reason))
    if run.state == "running":
        return Text("It is under way, or was left unfinished.", style="yellow")
    return (
        Text("All is right.", style="green")
        if run.is_right
        else Text("Something is WRONG.", style="bold red")
    )
