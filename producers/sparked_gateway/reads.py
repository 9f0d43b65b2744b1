"""What apps and admins read: accounts, receipts, prices."""

import json
from typing import Any

from sparked_credits.errors import StoreRefused, store_errors
from sparked_credits.intents import SYSTEM, checked_key, checked_name
from sparked_credits.keys import shard_of
from sparked_credits.models import Receipt
from sparked_credits.rates import Rate, plain
from sparked_gateway import answered, asked
from sparked_gateway.callers import Scope
from sparked_gateway.operations import Answer, Call, Operation
from sparked_gateway.problems import RETRY_AFTER_S, Kind, Problem


async def account(call: Call, query: asked.NoQuery) -> Answer:
    return Answer((await call.system.reads.account(call.path["user"])).as_dict())


async def balance(call: Call, query: asked.BalanceQuery) -> Answer:
    user = call.path["user"]
    found = await call.system.reads.balance(user, at=query.at)
    return Answer({"user": user, **found.as_dict()})


async def history(call: Call, query: asked.HistoryQuery) -> Answer:
    return await history_of(call, call.path["user"], query)


async def history_of(call: Call, user: str, query: asked.HistoryQuery) -> Answer:
    """A page of `user`'s history, whoever asks."""
    page = await call.system.reads.history(
        user,
        limit=query.limit,
        before=query.before,
        after=query.after,
        oldest_first=query.oldest_first,
        kind=query.kind,
        action=query.action,
        app=query.app,
        since=query.since,
        until=query.until,
    )
    return Answer({"entries": [entry.as_dict() for entry in page.entries], "next": page.next})


async def holds(call: Call, query: asked.NoQuery) -> Answer:
    found = await call.system.reads.holds(call.path["user"])
    return Answer({"holds": [each.as_dict() for each in found]})


async def lots(call: Call, query: asked.NoQuery) -> Answer:
    found = await call.system.reads.lots(call.path["user"])
    return Answer({"lots": [each.as_dict() for each in found]})


async def statement(call: Call, query: asked.StatementQuery) -> Answer:
    found = await call.system.reads.statement(call.path["user"], query.since, query.until)
    return Answer(found.as_dict())


async def receipt(call: Call, query: asked.ReceiptQuery) -> Answer:
    user, key = call.path["user"], call.path["key"]
    found = await stored_receipt(call, user, query.origin or call.caller.app or SYSTEM, key)
    if found is None:
        raise Problem(
            Kind.NOT_FOUND,
            "nothing is stored under that key, yet; what was answered with 202 will have its receipt here",
            headers={"retry-after": str(RETRY_AFTER_S)},
        )
    return Answer(found.as_dict())


async def stored_receipt(call: Call, user: str, origin: str, key: str) -> Receipt | None:
    """What the store holds under the key of any app, for whom no exchange need be open."""
    system = call.system
    shard = shard_of(checked_name("user", user), system.identity.shards)
    name = system.keys.receipt(shard, user, checked_name("origin", origin), checked_key(key))
    with store_errors("reading a receipt"):
        stored = await system.store.command("GET", name)
    if stored is None:
        return None
    try:
        return Receipt.from_stored(user, origin, key, json.loads(stored), replayed=True)
    except (ValueError, TypeError, IndexError):
        raise StoreRefused(
            f"the receipt stored under key {key!r} cannot be read: restore it from a backup"
        ) from None


async def prices(call: Call, query: asked.NoQuery) -> Answer:
    book = call.system.prices
    return Answer(
        {"version": book.version, "prices": {name: _rate(rate) for name, rate in book.prices.items()}}
    )


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        "fixed": rate.fixed,
        "unit": rate.unit,
        "tiers": [
            {"up_to": None if tier.up_to is None else plain(tier.up_to), "per_unit": plain(tier.per_unit)}
            for tier in rate.tiers
        ],
        "minimum": rate.minimum,
        "maximum": rate.maximum,
        "rounding": rate.rounding,
    }


def _of_user(
    what: str, summary: str, handler: Any, answers: type[answered.Answered], query: type[asked.Asked]
) -> Operation:
    path = f"/v1/users/{{user}}{what}"
    return Operation("GET", path, Scope.READ, summary, handler, answers, query, (Kind.ACCOUNT_NOT_FOUND,))


OPERATIONS = (
    _of_user("/balance", "What a user has", balance, answered.BalanceAnswer, asked.BalanceQuery),
    _of_user("", "A user's account, and what is set for it", account, answered.AccountAnswer, asked.NoQuery),
    _of_user("/history", "What happened, newest first", history, answered.HistoryAnswer, asked.HistoryQuery),
    _of_user("/holds", "The holds that are open", holds, answered.HoldsAnswer, asked.NoQuery),
    _of_user("/lots", "Credits by their terms", lots, answered.LotsAnswer, asked.NoQuery),
    _of_user("/statement", "A period", statement, answered.StatementAnswer, asked.StatementQuery),
    Operation(
        "GET",
        "/v1/receipts/{user}/{key}",
        Scope.READ,
        "What a key did",
        receipt,
        answered.ReceiptAnswer,
        asked.ReceiptQuery,
        (Kind.NOT_FOUND,),
    ),
    Operation(
        "GET", "/v1/prices", Scope.READ, "The price book", prices, answered.PricesAnswer, asked.NoQuery
    ),
)
