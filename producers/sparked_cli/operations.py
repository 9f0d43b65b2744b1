"""Commands for whoever runs the system: setting a store up, verifying it, repairing it."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sparked_cli.arguments import whole_number
from sparked_cli.connecting import AsAdmin, Connection, connected
from sparked_cli.options import Command, OptionalKey, OptionalReason, User
from sparked_cli.output import REFUSED, say
from sparked_cli.verifying import verification_text, verify_everyone
from sparked_credits.identity import Identity
from sparked_credits.keys import Keys
from sparked_credits.store import Store

PANEL = "Operate"

commands = typer.Typer()
command = partial(commands.command, cls=Command, rich_help_panel=PANEL)


@command()
@connected
def init(
    to: Connection,
    shards: Annotated[
        str | None, typer.Option(help="Slices of the users; permanent. None given: 16.", metavar="NUMBER")
    ] = None,
) -> None:
    """Set up a new store, once.

    Safe to repeat: on a store that is set up already, it says what it is. `credits up` does it by itself.
    """

    async def work() -> Identity:
        from sparked_workers.setup import SHARDS, initialise

        wanted = SHARDS if shards is None else whole_number("shards", shards)
        async with Store(to.store_url()) as store:
            return await initialise(store, Keys(to.namespace), shards=wanted)

    identity = asyncio.run(work())
    say(
        f"The store is ready: epoch {identity.epoch}, {identity.shards} shards.",
        {"epoch": identity.epoch, "shards": identity.shards},
        as_json=to.as_json,
    )


@command()
@connected
def verify(
    to: AsAdmin,
    user: Annotated[
        str | None, typer.Argument(help="Whose account; or --all instead.", metavar="USER")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every account, and each shard's totals.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Read all entries, not only those since the last time.")
    ] = False,
) -> None:
    """Compare cached numbers with the ledger.

    Exits with 1 if anything is wrong; `rebuild` repairs an account. Charges may go on meanwhile.
    """
    if (user is None) is not everyone:
        raise typer.BadParameter("name a USER, or give --all")
    if user is None:
        found = verify_everyone(to, full=full)
        say(found.text(), found.as_dict(), as_json=to.as_json)
        valid = found.valid
    else:
        one = to.ask(lambda admin: admin.verify(user, full=full, timeout=to.timeout))
        say(verification_text(user, one), {"user": user, **one.as_dict()}, as_json=to.as_json)
        valid = one.valid
    if not valid:
        raise typer.Exit(REFUSED)


@command()
@connected
def rebuild(to: AsAdmin, user: User, reason: OptionalReason = None, key: OptionalKey = None) -> None:
    """Repair an account's cached numbers from its ledger.

    Charges may go on meanwhile. What was wrong is recorded in the account's history before it is repaired.
    """
    to.tell(lambda admin: admin.rebuild(user, key=key, reason=reason, timeout=to.timeout))


@command("accept-loss")
@connected
def accept(
    to: Connection,
    witness: Annotated[
        Path | None,
        typer.Option(envvar="CREDITS_WITNESS", help="The worker's witness file.", metavar="FILE"),
    ] = None,
) -> None:
    """Let shards go on that halted because the store is behind.

    Says what is missing; it stays missing.
    """

    async def work(store: Store, keys: Keys, identity: Identity) -> dict[int, int]:
        from sparked_workers.setup import accept_loss
        from sparked_workers.witness import Witness, default_path

        file = Witness(witness or default_path(identity.epoch), identity.epoch)
        return await accept_loss(store, keys, identity, file)

    lost = to.with_store(work)
    text = "\n".join(f"shard {shard}: {count} decided intents are missing" for shard, count in lost.items())
    say(text or "Nothing is missing.", {"lost": lost}, as_json=to.as_json)
