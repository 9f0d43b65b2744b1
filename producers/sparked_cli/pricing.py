"""What things would cost: `credits quote` and `credits price`."""

from functools import partial
from typing import Annotated, Any

import typer
from rich.table import Table

from sparked_cli.connecting import Connection, connected
from sparked_cli.options import AsJson, Book, Command, PriceName, User
from sparked_cli.output import say
from sparked_cli.spending import PANEL
from sparked_cli.tables import clock, expiry, grid
from sparked_credits.pricing import PriceBook
from sparked_credits.rates import Rate

commands = typer.Typer()
command = partial(commands.command, cls=Command, rich_help_panel=PANEL)

ActionToPrice = Annotated[str, typer.Argument(help="What for, such as chat_message.", metavar="ACTION")]
QuantityToPrice = Annotated[
    str | None, typer.Argument(help="How much of it, in the price's unit.", metavar="QUANTITY")
]


@command()
@connected
def quote(
    to: Connection,
    user: User,
    action: ActionToPrice,
    quantity: QuantityToPrice = None,
    price: PriceName = None,
    book: Book = None,
) -> None:
    """What an action would cost a user now.

    Also whether they can pay, and with which credits. Writes nothing, and sets nothing aside.
    """
    prices = PriceBook.load(book) if book else None
    quote = to.read(lambda client: client.quote(user, action, quantity, price=price), prices)
    verdict = "affordable" if quote.affordable else "not affordable"
    lines = [f"{action} costs {quote.amount}: {verdict}, at this price until {clock(quote.valid_until)} UTC"]
    lines += [f"  {lot.available} {lot.priority} credits, expire: {expiry(lot)}" for lot in quote.lots]
    say("\n".join(lines), quote.as_dict(), as_json=to.as_json)


@command()
def price(
    action: Annotated[
        str | None, typer.Argument(help="What for; leave it out to see the whole book.", metavar="ACTION")
    ] = None,
    quantity: QuantityToPrice = None,
    book: Book = None,
    as_json: AsJson = False,
) -> None:
    """What an action costs by the price book.

    Without an action, all of the book. Needs no store.
    """

    prices = PriceBook.load(book) if book else PriceBook.default()
    if action is None:
        say(book_table(prices), book_dict(prices), as_json=as_json)
        return
    amount, by = prices.price(action, quantity)
    say(
        f"{amount} credits: {by.quantity} at {by.unit_price} each, by book version {by.version}",
        {"action": action, "amount": amount, **by.as_dict()},
        as_json=as_json,
    )


def book_table(book: PriceBook) -> Table:
    """All prices of a book."""
    headings = ("action", "credits", "per", "at least", "at most", "rounded")
    table = grid(f"Price book, version {book.version}", *headings)
    for name, rate in book.prices.items():
        if rate.fixed is not None:
            table.add_row(name, str(rate.fixed), "", "", "", "")
            continue
        bounds = ("" if bound is None else str(bound) for bound in (rate.minimum, rate.maximum))
        table.add_row(name, _tiers(rate), rate.unit, *bounds, rate.rounding)
    return table


def _tiers(rate: Rate) -> str:
    return ", then ".join(
        f"{tier.per_unit:f}" + ("" if tier.up_to is None else f" up to {tier.up_to:f}") for tier in rate.tiers
    )


def book_dict(book: PriceBook) -> dict[str, Any]:
    """The same as plain values, in the form that a book is written in."""
    return {
        "version": book.version,
        "refund_to_expired_lots": "keep" if book.keep_expired else "expire",
        "prices": {name: _rate_dict(rate) for name, rate in book.prices.items()},
    }


def _rate_dict(rate: Rate) -> dict[str, Any]:
    if rate.fixed is not None:
        return {"fixed": rate.fixed}
    tiers = [
        {"per_unit": f"{tier.per_unit:f}"} | ({} if tier.up_to is None else {"up_to": f"{tier.up_to:f}"})
        for tier in rate.tiers
    ]
    ways = tiers[0] if len(tiers) == 1 else {"tiers": tiers}
    bounds = {"minimum": rate.minimum, "maximum": rate.maximum}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return {**ways, "unit": rate.unit, **given, "rounding": rate.rounding}
