"""What apps write: charges, refunds, holds, captures and voids, each under the key of its request."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from sparked_credits.costs import charge_intent, cost_of, hold_intent
from sparked_credits.exchange import Exchange
from sparked_credits.intents import CaptureIntent, Intent, RefundIntent, VoidIntent, checked_part
from sparked_gateway.answered import AcceptedAnswer, ReceiptAnswer
from sparked_gateway.asked import Asked, CaptureBody, ChargeBody, HoldBody, RefundBody, VoidBody
from sparked_gateway.callers import Scope
from sparked_gateway.operations import Answer, Call, Operation
from sparked_gateway.problems import Kind, Problem

TIMEOUT_S = 5.0

_ENQUEUE_S = 5.0
"""How long the store may take to confirm what is not waited for."""


async def charge(call: Call, body: ChargeBody) -> Answer:
    cost = cost_of(call.system.prices, body.user, body.amount, body.action, body.price, body.quantity, None)
    return await _apply(call, charge_intent(body.user, call.key, cost, body.metadata), body.timeout)


async def hold(call: Call, body: HoldBody) -> Answer:
    cost = cost_of(call.system.prices, body.user, body.amount, body.action, body.price, body.quantity, None)
    expires_in = timedelta(seconds=body.expires_in)
    return await _apply(call, hold_intent(body.user, call.key, cost, expires_in, body.metadata), body.timeout)


async def refund(call: Call, body: RefundBody) -> Answer:
    intent = RefundIntent.checked(
        user=body.user,
        key=call.key,
        of=body.of,
        of_origin=body.origin or _app(call),
        amount=checked_part(body.amount),
        keep_expired=call.system.prices.keep_expired,
        metadata=body.metadata or {},
    )
    return await _apply(call, intent, body.timeout)


async def capture(call: Call, body: CaptureBody) -> Answer:
    intent = CaptureIntent.checked(
        user=call.path["user"],
        key=call.key,
        of=call.path["key"],
        of_origin=body.origin or _app(call),
        amount=checked_part(body.amount),
        allow_excess=body.allow_excess,
        metadata=body.metadata or {},
    )
    return await _apply(call, intent, body.timeout)


async def void(call: Call, body: VoidBody) -> Answer:
    intent = VoidIntent.checked(
        user=call.path["user"],
        key=call.key,
        of=call.path["key"],
        of_origin=body.origin or _app(call),
        metadata=body.metadata or {},
    )
    return await _apply(call, intent, body.timeout)


async def _apply(call: Call, intent: Intent, timeout_s: float | None) -> Answer:
    """Have `intent` applied, and answer with its receipt; or, where that is preferred, do not wait for it."""
    app = _app(call)
    exchange = await call.system.app(app)
    with call.system.under_way.working_on(app, intent.user, intent.key):
        if _prefers_async(call) and not await exchange.stored_receipt(intent.user, intent.key):
            return await _enqueue(exchange, intent, timeout_s)
        # A caller who has gone changes nothing: whatever becomes of the intent, its key tells.
        receipt = await exchange.ask(intent, timeout_s or TIMEOUT_S, expires=True)
    return Answer(receipt.as_dict())


async def _enqueue(exchange: Exchange, intent: Intent, expires_in_s: float | None) -> Answer:
    await exchange.enqueue(intent, _ENQUEUE_S, expires_in_s)
    receipt = f"/v1/receipts/{quote(intent.user, safe='')}/{quote(intent.key, safe='')}"
    return Answer(
        {"user": intent.user, "key": intent.key, "receipt": receipt},
        202,
        {"location": receipt, "preference-applied": "respond-async"},
    )


def _prefers_async(call: Call) -> bool:
    """`Prefer: respond-async`, among other preferences perhaps."""
    return any(
        name == b"prefer" and b"respond-async" in [each.strip().lower() for each in value.split(b",")]
        for name, value in call.request.scope["headers"]
    )


def _app(call: Call) -> str:
    if call.caller.app is None:
        raise Problem(Kind.FORBIDDEN, "this is for apps: send an API key")
    return call.caller.app


def _operation(
    path: str, summary: str, handler: Any, body: type[Asked], problems: Sequence[Kind]
) -> Operation:
    return Operation(
        "POST",
        path,
        Scope.CHARGE,
        summary,
        handler,
        ReceiptAnswer,
        body,
        problems,
        is_keyed=True,
        also={202: AcceptedAnswer},
    )


_SPENDING = (
    Kind.INSUFFICIENT_CREDITS,
    Kind.LIMIT_EXCEEDED,
    Kind.ACCOUNT_FROZEN,
    Kind.ACCOUNT_CLOSED,
    Kind.ACCOUNT_NOT_FOUND,
    Kind.INTENT_EXPIRED,
)
_SETTLING = (
    Kind.INSUFFICIENT_CREDITS,
    Kind.ACCOUNT_CLOSED,
    Kind.ACCOUNT_NOT_FOUND,
    Kind.HOLD_NOT_FOUND,
    Kind.HOLD_SETTLED,
    Kind.CAPTURE_EXCEEDS_HOLD,
    Kind.INTENT_EXPIRED,
)
_REFUNDING = (
    Kind.ACCOUNT_CLOSED,
    Kind.ACCOUNT_NOT_FOUND,
    Kind.BALANCE_TOO_LARGE,
    Kind.CHARGE_NOT_FOUND,
    Kind.REFUND_EXCEEDS_CHARGE,
    Kind.INTENT_EXPIRED,
)

_A_HOLD = "/v1/users/{user}/holds/{key}"

OPERATIONS = (
    _operation("/v1/charges", "Take credits from a user", charge, ChargeBody, _SPENDING),
    _operation(
        "/v1/refunds", "Give back a charge or capture, or a part of it", refund, RefundBody, _REFUNDING
    ),
    _operation(
        "/v1/holds",
        "Set credits aside for work whose cost is not known yet",
        hold,
        HoldBody,
        (*_SPENDING, Kind.TOO_MANY),
    ),
    _operation(
        f"{_A_HOLD}/capture", "Take credits of a hold, and release the rest", capture, CaptureBody, _SETTLING
    ),
    _operation(f"{_A_HOLD}/void", "Release a hold", void, VoidBody, _SETTLING),
)
