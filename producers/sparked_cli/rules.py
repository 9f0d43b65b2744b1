"""Commands of admins that change what an account may do: its state, limits, thresholds and debt."""

from functools import partial
from typing import Annotated

import typer

from sparked_cli.accounts import PANEL
from sparked_cli.arguments import number_or_none, whole_number
from sparked_cli.connecting import AsAdmin, connected
from sparked_cli.options import Command, OptionalKey, OptionalReason, User
from sparked_credits.intents import Window

commands = typer.Typer()
command = partial(commands.command, cls=Command, rich_help_panel=PANEL)


@command()
@connected
def freeze(to: AsAdmin, user: User, reason: OptionalReason = None, key: OptionalKey = None) -> None:
    """Refuse an account's charges and holds, until `unfreeze`.

    Post-charges are refused too. Grants, captures, voids and refunds go on.
    """
    to.tell(
        lambda admin: admin.freeze(user, reason=reason, key=key, timeout=to.timeout),
        lambda _: f"{user} is frozen: charges and holds are refused until `credits unfreeze {user}`",
    )


@command()
@connected
def unfreeze(to: AsAdmin, user: User, reason: OptionalReason = None, key: OptionalKey = None) -> None:
    """Accept an account's charges and holds again."""
    to.tell(
        lambda admin: admin.unfreeze(user, reason=reason, key=key, timeout=to.timeout),
        lambda _: f"{user} is open: charges and holds are accepted",
    )


@command()
@connected
def close(to: AsAdmin, user: User, reason: OptionalReason = None, key: OptionalKey = None) -> None:
    """Close an account for ever: everything is refused.

    It can be read as before. Its name can't be opened again.
    """
    to.tell(
        lambda admin: admin.close(user, reason=reason, key=key, timeout=to.timeout),
        lambda _: f"{user} is closed for ever",
    )


@command()
@connected
def limit(
    to: AsAdmin,
    user: User,
    amount: Annotated[
        str, typer.Argument(help="Whole credits, or `none` to remove the limit.", metavar="AMOUNT|none")
    ],
    per: Annotated[
        Window,
        typer.Option(help="A UTC day, a UTC month, this hour and the 23 before it, or all time."),
    ] = Window.DAY,
    action: Annotated[
        str | None, typer.Option(help="Count this action alone; none given: all together.", metavar="ACTION")
    ] = None,
    reason: OptionalReason = None,
    key: OptionalKey = None,
) -> None:
    """Cap what an account may spend in a day or a month.

    A charge or hold beyond it is refused. What was spent before it is set doesn't count.
    """
    what = f"on {action} " if action else ""
    most = number_or_none("amount", amount)
    may = f"may spend {'any number of' if most is None else most} credits {what}a {per.value}"
    to.tell(
        lambda admin: admin.limit(
            user,
            most,
            window=per,
            action=action,
            reason=reason,
            key=key,
            timeout=to.timeout,
        ),
        lambda _: f"{user} {may}" + ("" if most is None else " at most"),
    )


@command()
@connected
def thresholds(
    to: AsAdmin,
    user: User,
    amounts: Annotated[
        list[str],
        typer.Argument(
            help="Whole credits, such as 10 50; or `none` to remove them.", metavar="AMOUNT…|none"
        ),
    ],
    reason: OptionalReason = None,
    key: OptionalKey = None,
) -> None:
    """Report when an account's credits fall below some amounts.

    Each time what is available crosses one downwards, an event is written. Replaces the thresholds set before.
    """
    wanted = [] if amounts == ["none"] else [whole_number("threshold", each) for each in amounts]
    reported = f"below {', '.join(map(str, sorted(wanted)))}" if wanted else "below nothing"
    to.tell(
        lambda admin: admin.thresholds(user, wanted, reason=reason, key=key, timeout=to.timeout),
        lambda _: f"{user}: it is reported when what is available falls {reported}",
    )


@command()
@connected
def debt(
    to: AsAdmin,
    user: User,
    amount: Annotated[str, typer.Argument(help="Whole credits; 0 allows none.", metavar="AMOUNT")],
    reason: OptionalReason = None,
    key: OptionalKey = None,
) -> None:
    """Let `post-charge` take an account below zero.

    Down to minus AMOUNT, and no further. The next grant pays it first.
    """
    to.tell(
        lambda admin: admin.debt(
            user, whole_number("amount", amount), key=key, reason=reason, timeout=to.timeout
        ),
        lambda _: f"{user} may owe {amount} credits at most",
    )
