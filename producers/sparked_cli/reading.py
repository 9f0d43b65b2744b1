"""Commands that read: balances, histories, statements, reports. They ask the store, not the worker."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from sparked_cli.arguments import end_of_today, moment, optional_moment, whole_number
from sparked_cli.connecting import Connection, connected
from sparked_cli.options import Command, Format, Since, Until, User
from sparked_cli.output import out, say, write_csv
from sparked_cli.tables import (
    account_table,
    history_table,
    holds_table,
    lots_table,
    report_table,
    statement_table,
)
from sparked_credits import Entry
from sparked_credits.identity import Identity
from sparked_credits.keys import Keys
from sparked_credits.store import Store

if TYPE_CHECKING:
    from sparked_credits.report import Report

commands = typer.Typer()
command = partial(commands.command, cls=Command, rich_help_panel="Look")

At = Annotated[
    str | None,
    typer.Option(help="As of then: a date, a date and time (UTC), or a time ago such as 7d.", metavar="TIME"),
]


@command()
@connected
def balance(to: Connection, user: User, at: At = None) -> None:
    """What an account has, or had: posted, held, available."""
    found = to.read(lambda client: client.balance(user, at=optional_moment("at", at)))
    say(
        f"{found.available} available (posted {found.posted}, held {found.held})",
        {"user": user, **found.as_dict()},
        as_json=to.as_json,
    )


@command()
@connected
def account(to: Connection, user: User) -> None:
    """An account's state, balance, debt, thresholds and limits."""
    found = to.read(lambda client: client.account(user))
    say(account_table(found), found.as_dict(), as_json=to.as_json)


@command()
@connected
def history(
    to: Connection,
    user: User,
    limit: Annotated[str, typer.Option(help="Entries to show, 1 to 1000.", metavar="NUMBER")] = "50",
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Begin with the first entry.")] = False,
    kind: Annotated[
        str | None, typer.Option(help="Only entries of this kind, such as refund.", metavar="KIND")
    ] = None,
    action: Annotated[
        str | None, typer.Option(help="Only for this action, such as chat_message.", metavar="ACTION")
    ] = None,
    app: Annotated[
        str | None, typer.Option(help="Only by this app; `system` for admins and jobs.", metavar="NAME")
    ] = None,
    since: Since = None,
    until: Until = None,
    before: Annotated[
        str | None, typer.Option(help="Go on after this entry: `next` of the page before.", metavar="ENTRY")
    ] = None,
    after: Annotated[str | None, typer.Option(help="The same, with --oldest-first.", metavar="ENTRY")] = None,
) -> None:
    """The entries of an account's ledger, newest first."""
    page = to.read(
        lambda client: client.history(
            user,
            limit=whole_number("limit", limit),
            before=before,
            after=after,
            oldest_first=oldest_first,
            kind=kind,
            action=action,
            app=app,
            since=optional_moment("since", since),
            until=optional_moment("until", until),
        )
    )
    machine = {"user": user, "entries": [entry.as_dict() for entry in page.entries], "next": page.next}
    title = f"History, {'oldest' if oldest_first else 'newest'} first"
    say(history_table(page, title), machine, as_json=to.as_json)
    if page.next and not to.as_json:
        out.print(f"more: --{'after' if oldest_first else 'before'} {page.next}")


@command()
@connected
def holds(to: Connection, user: User) -> None:
    """Credits set aside: the open holds of an account."""
    found = to.read(lambda client: client.holds(user))
    say(
        holds_table(found) if found else f"{user} has no open hold.",
        {"user": user, "holds": [hold.as_dict() for hold in found]},
        as_json=to.as_json,
    )


@command()
@connected
def lots(to: Connection, user: User) -> None:
    """An account's credits by priority and expiry, as spent."""
    found = to.read(lambda client: client.lots(user))
    say(lots_table(found), {"user": user, "lots": [lot.as_dict() for lot in found]}, as_json=to.as_json)


@command()
@connected
def statement(
    to: Connection,
    user: User,
    since: Annotated[
        str,
        typer.Option(help="From then on: a date, a date and time (UTC), or a time ago, 30d.", metavar="TIME"),
    ],
    until: Until = None,
    format: Annotated[Format, typer.Option(help="--json is --format json.")] = Format.TABLE,  # noqa: A002
) -> None:
    """An account's entries of a period, which add up.

    With what it had before and after. Without --until, today is included.
    """
    to = replace(to, as_json=to.as_json or format is Format.JSON)
    found = to.read(
        lambda client: client.statement(
            user, moment("since", since), moment("until", until) if until else end_of_today()
        )
    )
    if format is Format.CSV and not to.as_json:
        write_csv([_CSV, *(_csv_row(entry) for entry in found.entries)])
    else:
        say(statement_table(found), found.as_dict(), as_json=to.as_json)


@command()
@connected
def report(
    to: Connection,
    by: Annotated[
        str,
        typer.Option(
            help="One line for each of these: app, action, day, or several.", metavar="app,action,day"
        ),
    ] = "day",
    since: Since = None,
    until: Until = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
) -> None:
    """Sums over all users by app, action, day: for bookkeeping.

    Lines close: opening + granted - charged + refunded - expired + adjusted = closing. Without --until it is a
    report of this moment, although charges go on.
    """

    async def work(store: Store, keys: Keys, identity: Identity) -> "Report":
        from sparked_credits.report import report

        return await report(
            store,
            keys,
            identity.shards,
            by=by.split(","),
            since=optional_moment("since", since),
            until=optional_moment("until", until),
        )

    found = to.with_store(work)
    if as_csv and not to.as_json:
        write_csv(found.rows())
    else:
        say(report_table(found), found.as_dict(), as_json=to.as_json)


_CSV = ("seq", "time", "kind", "action", "app", "key", "amount", "posted", "hold", "held", "of")


def _csv_row(entry: Entry) -> Sequence[object]:
    at = datetime.fromtimestamp(entry.at / 1000, UTC).isoformat(timespec="milliseconds")
    numbers = (entry.amount, entry.posted, entry.hold, entry.held)
    return (entry.seq, at, entry.kind, entry.action, entry.origin, entry.key, *numbers, entry.of or "")
