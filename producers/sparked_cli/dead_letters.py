"""`credits dead`: what workers gave up on, and what a person does about it."""

import json
from functools import partial
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
    from sparked_workers.dead import DeadLetter

commands = typer.Typer(
    no_args_is_help=True,
    help="Intents that could not be read or applied.",
)
command = partial(commands.command, cls=Command)

Letter = Annotated[
    str, typer.Argument(help="As `dead list` shows it, such as 7:1700000000000-0.", metavar="LETTER")
]


@command("list")
@connected
def list_letters(
    to: Connection,
    limit: Annotated[str, typer.Option(help="Letters to show.", metavar="NUMBER")] = "100",
) -> None:
    """All dead letters, each with its reason."""

    async def work(store: Store, keys: Keys, identity: Identity) -> "tuple[list[DeadLetter], int]":
        from sparked_workers.dead import count, dead_letters

        most = whole_number("limit", limit)
        if most < 1:
            raise InvalidIntent(f"limit: must be at least 1, not {most}")
        found = await dead_letters(store, keys, identity.shards, most=most)
        return found, await count(store, keys, identity.shards)

    found, total = to.with_store(work)
    machine = {"letters": [letter.as_dict() for letter in found], "total": total}
    say(_letters_table(found) if found else "No dead letters.", machine, as_json=to.as_json)
    if total > len(found) and not to.as_json:
        out.print(f"{total - len(found)} more: --limit {total}")


def _letters_table(letters: "list[DeadLetter]") -> Table:
    table = grid("Dead letters", "letter", "time", "stream", "kind", "user", "key", "reason")
    for letter in letters:
        intent = letter.intent or {}
        told = (plain(str(intent.get(name, "?"))[:80]) for name in ("kind", "user", "key"))
        table.add_row(letter.name, clock(letter.at), letter.stream, *told, plain(letter.reason))
    return table


@command()
@connected
def show(to: Connection, letter: Letter) -> None:
    """One dead letter: its reason, and the intent as it was sent."""
    from sparked_workers.dead import find

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
    """Send a dead letter's intent again.

    Without its deadline, which has passed. `credits history` shows what came of it.
    """

    async def work(store: Store, keys: Keys, identity: Identity) -> str:
        from sparked_workers.dead import find, requeue

        return await requeue(store, keys, await find(store, keys, identity.shards, letter), key=key)

    sent = to.with_store(work)
    say(f"Requeued, key {sent}.", {"letter": letter, "requeued": True, "key": sent}, as_json=to.as_json)


@command("drop")
@connected
def drop_letter(to: Connection, letter: Letter) -> None:
    """Remove a dead letter; its intent will not be applied."""

    async def work(store: Store, keys: Keys, identity: Identity) -> "DeadLetter":
        from sparked_workers.dead import drop, find

        found = await find(store, keys, identity.shards, letter)
        await drop(store, keys, found)
        return found

    found = to.with_store(work)
    say(f"Dropped {found.name}.", {**found.as_dict(), "dropped": True}, as_json=to.as_json)
