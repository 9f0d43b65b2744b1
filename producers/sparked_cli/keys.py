"""`credits keys`: who may come by the gateway as an app."""

from datetime import timedelta
from functools import partial
from typing import Annotated

import typer
from rich.table import Table

from sparked_cli.arguments import duration, whole_number
from sparked_cli.connecting import Connection, connected
from sparked_cli.options import Command
from sparked_cli.output import say
from sparked_cli.tables import clock, grid, plain
from sparked_credits.identity import Identity
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_gateway import api_keys
from sparked_gateway.api_keys import ApiKey
from sparked_gateway.callers import Scope
from sparked_gateway.rates import RATE

commands = typer.Typer(
    no_args_is_help=True,
    help="API keys of apps that come by the gateway. Only `admin` may make, rotate and revoke them.",
)
command = partial(commands.command, cls=Command)

KeyId = Annotated[
    str, typer.Argument(help="Of a key, as `keys list` shows it, such as 0123456789ab.", metavar="ID")
]


@command()
@connected
def create(
    to: Connection,
    app: Annotated[
        str, typer.Option(help="Whose charges they are; keys are unique per user and app.", metavar="NAME")
    ],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; repeat it for more.")],
    rate: Annotated[
        str, typer.Option(help="Requests a second, for each gateway process.", metavar="NUMBER")
    ] = str(RATE),
    label: Annotated[str | None, typer.Option(help="What it is for, in the list.", metavar="TEXT")] = None,
) -> None:
    """Make an API key, and show it, once."""

    async def work(store: Store, keys: Keys, _: Identity) -> tuple[ApiKey, str]:
        return await api_keys.create(
            store, keys, app=app, scopes=scope, rate=whole_number("rate", rate), label=label
        )

    _say_secret(*to.with_store(work), as_json=to.as_json)


@command("list")
@connected
def list_keys(to: Connection) -> None:
    """All API keys, the oldest first, and what each may do; revoked ones too. Nobody can show their secrets."""
    found = to.with_store(lambda store, keys, _: api_keys.listed(store, keys))
    machine = {"keys": [key.as_dict() for key in found]}
    say(_table(found) if found else "No API keys.", machine, as_json=to.as_json)


def _table(found: list[ApiKey]) -> Table:
    table = grid("API keys", "id", "app", "scopes", "rate", "created", "state", "label", numbers=("rate",))
    for key in found:
        state = "good"
        if key.revoked_at is not None:
            state = f"revoked {clock(key.revoked_at)}"
        elif key.former is not None:
            state = f"good; the former secret until {clock(key.former.until)}"
        scopes = ", ".join(sorted(key.scopes))
        label = plain(key.label or "")
        table.add_row(key.id, plain(key.app), scopes, str(key.rate), clock(key.created_at), state, label)
    return table


@command()
@connected
def rotate(
    to: Connection,
    key: KeyId,
    grace: Annotated[
        str, typer.Option(help="How long the old secret stays good: 24h, 0s.", metavar="TIME")
    ] = f"{api_keys.GRACE // timedelta(hours=1)}h",
) -> None:
    """Give an API key another secret, and show it, once. The old one stays good for a while."""

    async def work(store: Store, keys: Keys, _: Identity) -> tuple[ApiKey, str]:
        return await api_keys.rotate(store, keys, key, grace=duration("grace", grace))

    _say_secret(*to.with_store(work), as_json=to.as_json)


@command()
@connected
def revoke(to: Connection, key: KeyId) -> None:
    """Refuse an API key from now on, for ever, its secrets in their grace too. Gateways notice within two seconds."""
    found = to.with_store(lambda store, keys, _: api_keys.revoke(store, keys, key))
    say(f"Revoked {found.id} of {found.app}.", found.as_dict(), as_json=to.as_json)


def _say_secret(key: ApiKey, token: str, *, as_json: bool) -> None:
    told = f"{token}\nKeep it: it is not shown again. It is for {key.app}: {', '.join(sorted(key.scopes))}."
    if key.former is not None:
        told += f"\nThe former one is good until {clock(key.former.until)} UTC."
    say(told, {**key.as_dict(), "key": token}, as_json=as_json)
