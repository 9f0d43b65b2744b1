"""The arguments and options that several commands share, each with its help, once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

CONNECTION = "Connection and output"
"""Panel of a command's help for what has nothing to do with the command itself."""


class Command(TyperCommand):
    """A command that takes `-5` for an argument, so that an amount of -5 is refused, or meant, as an amount."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = any(arg[:1] == "-" and arg[1:2].isdigit() for arg in args)
        return super().parse_args(ctx, args)


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


# Where, and how to answer

Url = Annotated[
    str,
    typer.Option(
        envvar="CREDITS_URL",
        help="The store; may hold a password.",
        metavar="URL",
        rich_help_panel=CONNECTION,
    ),
]
Namespace = Annotated[
    str,
    typer.Option(
        envvar="CREDITS_NAMESPACE",
        help="What all keys begin with.",
        metavar="NAME",
        rich_help_panel=CONNECTION,
    ),
]
Epoch = Annotated[
    str | None,
    typer.Option(
        envvar="CREDITS_EPOCH",
        help="The epoch the store must have; none given: any.",
        metavar="EPOCH",
        rich_help_panel=CONNECTION,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, errors too.", rich_help_panel=CONNECTION)
]
Timeout = Annotated[
    float,
    typer.Option(help="Wait this long for the outcome.", metavar="SECONDS", rich_help_panel=CONNECTION),
]
App = Annotated[
    str,
    typer.Option("--app", help="On behalf of which app; keys are unique per user and app.", metavar="NAME"),
]
Actor = Annotated[str, typer.Option(help="Who acts; kept with the entry.", metavar="NAME")]
Book = Annotated[
    Path | None,
    typer.Option(
        envvar="CREDITS_PRICES",
        help="Price book, TOML or JSON; none given: the built-in one.",
        metavar="FILE",
    ),
]

# Whom and how much

User = Annotated[str, typer.Argument(help="Whose account.", metavar="USER")]
Amount = Annotated[str, typer.Argument(help="Whole credits.", metavar="AMOUNT")]
PricedAmount = Annotated[
    str | None,
    typer.Argument(help="Whole credits; leave it out to go by the price book.", metavar="AMOUNT"),
]
PartAmount = Annotated[
    str | None, typer.Argument(help="Whole credits; leave it out for all of it.", metavar="AMOUNT")
]
Key = Annotated[
    str, typer.Option(help="Idempotency key: the same key never takes effect twice.", metavar="KEY")
]
OptionalKey = Annotated[
    str | None,
    typer.Option(
        help="Idempotency key; none given: one is made up, as repeating this does no harm.", metavar="KEY"
    ),
]
OptionalAction = Annotated[
    str | None,
    typer.Option("--action", help="What for, such as chat_message; also finds the price.", metavar="ACTION"),
]
PriceName = Annotated[
    str | None,
    typer.Option(
        "--price", help="Price in the book; none given: the one named like the action.", metavar="NAME"
    ),
]
Quantity = Annotated[
    str | None,
    typer.Option(help="How much of it, in the price's unit, such as 12.5 seconds.", metavar="NUMBER"),
]
Metadata = Annotated[str, typer.Option(help="A JSON object, kept with the entry.", metavar="JSON")]
Reason = Annotated[str, typer.Option(help="Why; kept with the entry.", metavar="TEXT")]
OptionalReason = Annotated[str | None, typer.Option(help="Why; kept with the entry.", metavar="TEXT")]
Origin = Annotated[
    str | None,
    typer.Option(help="App whose key that is, where it is another; `system` for an admin's.", metavar="NAME"),
]

# What part of a history

_MOMENT = "a date, a date and time (UTC), or a time ago such as 7d"
Since = Annotated[str | None, typer.Option(help=f"From then on: {_MOMENT}.", metavar="TIME")]
Until = Annotated[str | None, typer.Option(help="Up to then, not including it; as --since.", metavar="TIME")]
