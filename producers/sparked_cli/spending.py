"""Commands that apps have calls for: prices, charges, refunds, holds."""

from functools import partial
from typing import Annotated

import typer

from sparked_cli.arguments import duration, json_object, optional_number
from sparked_cli.connecting import AsApp, AsPricedApp, connected
from sparked_cli.options import (
    Command,
    Key,
    Metadata,
    OptionalAction,
    Origin,
    PartAmount,
    PricedAmount,
    PriceName,
    Quantity,
    User,
)
from sparked_credits import InvalidIntent

PANEL = "Spend, as an app does"

commands = typer.Typer()
command = partial(commands.command, cls=Command, rich_help_panel=PANEL)

HoldKey = Annotated[
    str, typer.Option("--hold", help="The key that the hold was placed under.", metavar="KEY")
]


@command()
@connected
def charge(
    to: AsPricedApp,
    user: User,
    key: Key,
    amount: PricedAmount = None,
    action: OptionalAction = None,
    price: PriceName = None,
    quantity: Quantity = None,
    metadata: Metadata = "{}",
) -> None:
    """Take credits from an account.

    An amount, `credits charge ada 10 --key message-1`, or what an action costs by the price book,
    `credits charge ada --action video_generation --quantity 12.5 --key video-1`.
    """
    to.tell(
        lambda client: client.charge(
            user,
            optional_number("amount", amount),
            action=action_for("charge", amount, action, price),
            key=key,
            price=price,
            quantity=quantity,
            metadata=json_object("metadata", metadata),
            timeout=to.timeout,
        )
    )


@command()
@connected
def refund(
    to: AsPricedApp,
    user: User,
    of: Annotated[str, typer.Option(help="The key that it was charged or captured under.", metavar="KEY")],
    key: Key,
    amount: PartAmount = None,
    origin: Origin = None,
    metadata: Metadata = "{}",
) -> None:
    """Give credits of a charge or capture back.

    All that is left of it, or a part; several parts until all of it is given back. They return to the lots that they
    came from.
    """
    to.tell(
        lambda client: client.refund(
            user,
            of=of,
            key=key,
            amount=optional_number("amount", amount),
            origin=origin,
            metadata=json_object("metadata", metadata),
            timeout=to.timeout,
        )
    )


@command()
@connected
def hold(
    to: AsPricedApp,
    user: User,
    key: Key,
    amount: PricedAmount = None,
    action: OptionalAction = None,
    expires_in: Annotated[
        str, typer.Option(help="Lapses by itself after this time: 90s, 30m, 6h, up to 30d.", metavar="TIME")
    ] = "1h",
    price: PriceName = None,
    quantity: Quantity = None,
    metadata: Metadata = "{}",
) -> None:
    """Set credits aside for work whose cost is not known yet.

    `capture` takes of it what the work cost, `void` releases it; else it lapses by itself.
    """
    to.tell(
        lambda client: client.hold(
            user,
            optional_number("amount", amount),
            action=action_for("hold", amount, action, price),
            key=key,
            expires_in=duration("expires-in", expires_in),
            price=price,
            quantity=quantity,
            metadata=json_object("metadata", metadata),
            timeout=to.timeout,
        )
    )


@command()
@connected
def capture(
    to: AsApp,
    user: User,
    hold: HoldKey,
    key: Key,
    amount: PartAmount = None,
    allow_excess: Annotated[
        bool, typer.Option("--allow-excess", help="Take what is above the hold from what is available.")
    ] = False,
    origin: Origin = None,
    metadata: Metadata = "{}",
) -> None:
    """Take credits that a hold set aside.

    All of them, or a part: then the rest is released. The hold is settled, and can't be captured or voided again.
    """
    to.tell(
        lambda client: client.capture(
            user,
            hold=hold,
            key=key,
            amount=optional_number("amount", amount),
            allow_excess=allow_excess,
            origin=origin,
            metadata=json_object("metadata", metadata),
            timeout=to.timeout,
        )
    )


@command()
@connected
def void(
    to: AsApp, user: User, hold: HoldKey, key: Key, origin: Origin = None, metadata: Metadata = "{}"
) -> None:
    """Release credits that a hold set aside."""
    to.tell(
        lambda client: client.void(
            user,
            hold=hold,
            key=key,
            origin=origin,
            metadata=json_object("metadata", metadata),
            timeout=to.timeout,
        )
    )


def action_for(kind: str, amount: str | None, action: str | None, price: str | None) -> str:
    """The action that is meant: the one given, else the price's name, else just the kind of intent."""
    if amount is None and action is None and price is None:
        raise InvalidIntent(
            "amount: give whole credits, or an action of the price book (see `credits price`)"
        )
    return action or price or kind
