"""Commands of admins that change what an account has: opening, granting, correcting, charging afterwards."""

from functools import partial
from typing import Annotated

import typer

from sparked_cli.arguments import (
    expiry,
    json_object,
    optional_number,
    whole_number,
)
from sparked_cli.connecting import AsAdmin, AsPricedAdmin, connected
from sparked_cli.options import (
    Amount,
    Command,
    Key,
    Metadata,
    OptionalAction,
    OptionalReason,
    PricedAmount,
    PriceName,
    Quantity,
    Reason,
    User,
)
from sparked_cli.spending import action_for
from sparked_cli.tables import receipt_line
from sparked_credits.lots import Priority

PANEL = "Manage accounts, as an admin does"

commands = typer.Typer()
command = partial(commands.command, cls=Command, rich_help_panel=PANEL)


@command("open")
@connected
def open_account(
    to: AsAdmin,
    user: User,
    initial: Annotated[str, typer.Option(help="Credits granted at once.", metavar="AMOUNT")] = "100",
    key: Key = "open",
) -> None:
    """Open an account, once however often it is asked for."""
    to.tell(
        lambda admin: admin.open_account(
            user, initial=whole_number("initial", initial), key=key, timeout=to.timeout
        ),
    )


@command()
@connected
def grant(
    to: AsAdmin,
    user: User,
    amount: Amount,
    key: Key,
    reason: Reason,
    expires: Annotated[
        str | None,
        typer.Option(
            help="Can't be spent from then on: a date, a date and time (UTC), or a time from now such as 30d, "
            "counted to the end of that day.",
            metavar="TIME",
        ),
    ] = None,
    priority: Annotated[
        Priority, typer.Option(help="Promotional credits are spent before paid ones.")
    ] = Priority.PAID,
) -> None:
    """Give an account credits, for ever or until they expire."""
    expires_at = expiry("expires", expires) if expires else None
    until = f", expires {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else ""
    to.tell(
        lambda admin: admin.grant(
            user,
            whole_number("amount", amount),
            reason=reason,
            key=key,
            expires_at=expires_at,
            priority=priority,
            timeout=to.timeout,
        ),
        lambda receipt: receipt_line(receipt) + until,
    )


@command()
@connected
def adjust(
    to: AsAdmin,
    user: User,
    amount: Annotated[str, typer.Argument(help="Whole credits: 50 adds, -50 takes.", metavar="AMOUNT")],
    key: Key,
    reason: Reason,
    force: Annotated[
        bool, typer.Option("--force", help="Even if it takes what is available below zero.")
    ] = False,
) -> None:
    """Correct an account, up or down."""
    to.tell(
        lambda admin: admin.adjust(
            user,
            whole_number("amount", amount),
            reason=reason,
            key=key,
            force=force,
            timeout=to.timeout,
        ),
    )


@command("post-charge")
@connected
def post_charge(
    to: AsPricedAdmin,
    user: User,
    key: Key,
    amount: PricedAmount = None,
    action: OptionalAction = None,
    price: PriceName = None,
    quantity: Quantity = None,
    reason: OptionalReason = None,
    metadata: Metadata = "{}",
) -> None:
    """Take credits for what is done already.

    Down to the account's `debt`, if it has one; spend limits count it, and don't stop it.
    """
    to.tell(
        lambda admin: admin.post_charge(
            user,
            optional_number("amount", amount),
            action=action_for("post_charge", amount, action, price),
            key=key,
            price=price,
            quantity=quantity,
            reason=reason,
            metadata=json_object("metadata", metadata),
            timeout=to.timeout,
        ),
    )
