"""`credits events`: what endpoints were told and what not, and telling them again."""

import json
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sparked_cli.arguments import whole_number
from sparked_cli.connecting import Connection, connected
from sparked_cli.options import Command
from sparked_cli.output import out, say
from sparked_cli.tables import clock, grid, plain
from sparked_credits import InvalidIntent
from sparked_credits.identity import Identity
from sparked_credits.keys import Keys
from sparked_credits.store import Store

if TYPE_CHECKING:
    from sparked_workers.outgoing.records import Counts, Delivery, Record

commands = typer.Typer(
    no_args_is_help=True,
    help="Outgoing events: deliveries, and repeating them.",
)
command = partial(commands.command, cls=Command)

OneEvent = Annotated[str, typer.Argument(help="As `events list` shows it: evt_…", metavar="EVENT")]
To = Annotated[
    str | None,
    typer.Option(
        "--to", help="Only this endpoint, by the name that `events show` shows.", metavar="ENDPOINT"
    ),
]


@command("list")
@connected
def list_events(
    to: Connection,
    dead: Annotated[bool, typer.Option("--dead", help="Only those that an endpoint did not take.")] = False,
    pending: Annotated[
        bool, typer.Option("--pending", help="Only those that wait to be sent, or sent again.")
    ] = False,
    limit: Annotated[str, typer.Option(help="Events to show.", metavar="NUMBER")] = "100",
) -> None:
    """The newest events, and what became of each."""
    if dead and pending:
        raise typer.BadParameter("give --dead or --pending, not both")

    async def work(store: Store, keys: Keys, _identity: Identity) -> "tuple[list[Record], Counts]":
        from sparked_workers.outgoing import records

        most = whole_number("limit", limit)
        if most < 1:
            raise InvalidIntent(f"limit: must be at least 1, not {most}")
        read = records.dead if dead else records.pending if pending else records.newest
        return await read(store, keys, most=most), await records.count(store, keys)

    found, counts = to.with_store(work)
    machine = {"events": [record.as_dict() for record in found], **counts.as_dict()}
    say(_events_table(found) if found else "No events.", machine, as_json=to.as_json)
    if not to.as_json:
        waiting = sum(counts.pending.values())
        out.print(f"{counts.events} events; deliveries: {waiting} pending, {counts.dead} dead")


def _events_table(records: "list[Record]") -> Table:
    table = grid("Events", "event", "time", "type", "user", "deliveries")
    for record in records:
        states = ", ".join(f"{delivery.endpoint} {delivery.state}" for delivery in record.deliveries)
        about = (plain(record.type), plain(record.user[:80]))
        table.add_row(record.id, clock(record.at), *about, states or "wanted by none")
    return table


@command()
@connected
def show(to: Connection, event: OneEvent) -> None:
    """One event: its body, and what became of each delivery."""

    async def work(store: Store, keys: Keys, _identity: Identity) -> "Record":
        from sparked_workers.outgoing.records import find

        return await find(store, keys, event)

    found = to.with_store(work)
    told = "\n".join(_delivery_line(delivery) for delivery in found.deliveries) or "wanted by no endpoint"
    body = json.dumps(json.loads(found.body), indent=2)
    say(f"{found.id}\n{told}\n{body}", found.as_dict(), as_json=to.as_json)


def _delivery_line(delivery: "Delivery") -> str:
    line = f"to {delivery.endpoint} ({delivery.origin}): {delivery.state}, attempts: {delivery.attempts}"
    if delivery.outcome:
        line += f", last outcome: {delivery.outcome}"
    return line if delivery.due is None else f"{line}; next {clock(delivery.due)}"


@command("redeliver")
@connected
def redeliver_event(
    to: Connection,
    event: Annotated[
        str | None, typer.Argument(help="Which event; or --dead instead.", metavar="EVENT")
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Every delivery that was given up.")] = False,
    endpoint: To = None,
) -> None:
    """Send an event again, or all that were given up.

    Under the same id, so that a receiver that had it already does nothing. `credits jobs` sends it.
    """
    if (event is None) is not dead:
        raise typer.BadParameter("name an EVENT, or give --dead")

    async def work(store: Store, keys: Keys, _identity: Identity) -> int:
        from sparked_workers.outgoing import records

        if event is not None:
            return len(await records.redeliver(store, keys, event, endpoint=endpoint))
        return await records.redeliver_dead(store, keys, endpoint=endpoint)

    count = to.with_store(work)
    deliveries = "1 delivery is" if count == 1 else f"{count} deliveries are"
    say(f"{deliveries} due again.", {"redelivered": count}, as_json=to.as_json)


@command("test")
@connected
def announce_test(to: Connection) -> None:
    """Announce an event of type events.test.

    Every endpoint that takes all types, or names this one, gets it; `credits events list` shows how it went.
    """

    async def work(store: Store, keys: Keys, identity: Identity) -> str:
        from sparked_workers.outgoing import announce
        from sparked_workers.outgoing.relaying import JOBS, message_id

        name = f"events.test-{token_hex(8)}"
        await announce(store, keys, "events.test", {}, id=name)
        return message_id(identity.epoch, JOBS, name)

    event = to.with_store(work)
    say(f"Announced as {event}.", {"event": event}, as_json=to.as_json)
