"""`credits dead`: what workers gave up on, and what a person does about it."""

import json
from functools import partial
from typing import Annotated, Any

import typer
from rich.table import Table

from sparked_cli.arguments import whole_number
from sparked_cli.connecting import Connection, connected
from sparked_cli.options import Command
from sparked_cli.output import out, say
from sparked_cli.tables import clock, grid, plain
from sparked_credits import InvalidIntent, inbox
from sparked_credits.dead_letters import (
    INBOX,
    DeadLetter,
    count,
    dead_events,
    dead_letters,
    drop,
    event_name,
    find,
    find_event,
    requeue,
)
from sparked_credits.identity import Identity
from sparked_credits.inbox import Event
from sparked_credits.keys import Keys
from sparked_credits.store import Store

commands = typer.Typer(
    no_args_is_help=True,
    help="Intents that could not be read or applied, and events that nothing could be made of.",
)
command = partial(commands.command, cls=Command)

Letter = Annotated[
    str,
    typer.Argument(
        help="As `dead list` shows it, such as 7:1700000000000-0 or inbox:1700000000000-0.", metavar="LETTER"
    ),
]


@command("list")
@connected
def list_letters(
    to: Connection,
    limit: Annotated[str, typer.Option(help="Letters to show of each kind.", metavar="NUMBER")] = "100",
) -> None:
    """All dead letters, each with its reason: intents that failed, and events that nothing could be made of."""

    async def work(store: Store, keys: Keys, identity: Identity) -> tuple[list[DeadLetter], list[Event], int]:
        most = whole_number("limit", limit)
        if most < 1:
            raise InvalidIntent(f"limit: must be at least 1, not {most}")
        found = await dead_letters(store, keys, identity.shards, most=most)
        events = await dead_events(store, keys, most=most)
        total = await count(store, keys, identity.shards) + await inbox.count(store, keys, dead=True)
        return found, events, total

    found, events, total = to.with_store(work)
    machine = {
        "letters": [letter.as_dict() for letter in found],
        "events": [_event_dict(event) for event in events],
        "total": total,
    }
    shown = len(found) + len(events)
    say(_letters_table(found, events) if shown else "No dead letters.", machine, as_json=to.as_json)
    if total > shown and not to.as_json:
        out.print(f"{total - shown} more: --limit {total}")


def _letters_table(letters: list[DeadLetter], events: list[Event]) -> Table:
    table = grid("Dead letters", "letter", "time", "from", "kind", "user", "key", "reason")
    for letter in letters:
        intent = letter.intent or {}
        told = (plain(str(intent.get(name, "?"))[:80]) for name in ("kind", "user", "key"))
        table.add_row(letter.name, clock(letter.at), letter.stream, *told, plain(letter.reason))
    for event in events:
        told = (plain(str(text)[:80]) for text in (event.type, event.fields.get("user", "?"), event.id))
        table.add_row(event_name(event), clock(event.at), event.source, *told, plain(event.reason))
    return table


def _event_dict(event: Event) -> dict[str, Any]:
    return {"letter": event_name(event), **event.as_dict()}


@command()
@connected
def show(to: Connection, letter: Letter) -> None:
    """One dead letter: its reason, and the intent as it was sent, or what was kept of the event."""
    if letter.startswith(INBOX):
        event = to.with_store(lambda store, keys, _: find_event(store, keys, letter))
        say(
            f"{letter}, from {event.source}, {clock(event.at)}\nreason: {event.reason}\n"
            + json.dumps({"type": event.type, "id": event.id, **event.fields}, indent=2),
            _event_dict(event),
            as_json=to.as_json,
        )
        return
    found = to.with_store(lambda store, keys, identity: find(store, keys, identity.shards, letter))
    intent = found.intent
    text = found.raw.decode(errors="replace") if intent is None else json.dumps(intent, indent=2)
    about = f"{found.name}, from {found.stream}, {clock(found.at)}\nreason: {found.reason}"
    say(f"{about}\n{text}", found.as_dict(), as_json=to.as_json)


@command("requeue")
@connected
def requeue_letter(
    to: Connection,
    letter: Letter,
    key: Annotated[
        str | None,
        typer.Option(
            help="A new idempotency key; needed where the old one ended as intent_failed.", metavar="KEY"
        ),
    ] = None,
) -> None:
    """Send a dead letter's intent again, or put its event into the inbox again.

    An intent goes without its deadline, which has passed. `credits history` shows what came of it.
    """

    async def work(store: Store, keys: Keys, identity: Identity) -> str:
        if letter.startswith(INBOX):
            if key is not None:
                raise InvalidIntent("key: must be left out: an event has none")
            return await inbox.requeue(store, keys, await find_event(store, keys, letter))
        return await requeue(store, keys, await find(store, keys, identity.shards, letter), key=key)

    sent = to.with_store(work)
    if letter.startswith(INBOX):
        say(
            f"In the inbox again, as {sent}.",
            {"letter": letter, "requeued": True, "ref": sent},
            as_json=to.as_json,
        )
    else:
        say(f"Requeued, key {sent}.", {"letter": letter, "requeued": True, "key": sent}, as_json=to.as_json)


@command("drop")
@connected
def drop_letter(to: Connection, letter: Letter) -> None:
    """Remove a dead letter; nothing will be made of it."""

    async def work(store: Store, keys: Keys, identity: Identity) -> dict[str, Any]:
        if letter.startswith(INBOX):
            event = await find_event(store, keys, letter)
            await inbox.drop(store, keys, event)
            return _event_dict(event)
        found = await find(store, keys, identity.shards, letter)
        await drop(store, keys, found)
        return found.as_dict()

    found = to.with_store(work)
    say(f"Dropped {letter}.", {**found, "dropped": True}, as_json=to.as_json)
