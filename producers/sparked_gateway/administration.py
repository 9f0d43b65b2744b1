"""What admins write. Each is recorded with who asked, and why; nothing of it has a deadline."""

from collections.abc import Awaitable, Callable
from typing import Any

from sparked_credits.admin import Admin
from sparked_credits.intents import SYSTEM
from sparked_credits.models import Receipt
from sparked_gateway import asked
from sparked_gateway.answered import ReceiptAnswer
from sparked_gateway.callers import Scope
from sparked_gateway.operations import Answer, Call, Operation
from sparked_gateway.problems import Kind

Asking = Callable[[Admin, Any, str], Awaitable[Receipt]]
"""Has an admin do what a body says, under a key."""


def _open(admin: Admin, body: asked.OpenBody, key: str) -> Awaitable[Receipt]:
    return admin.open_account(body.user, initial=body.initial, key=key, timeout=body.timeout)


def _grant(admin: Admin, body: asked.GrantBody, key: str) -> Awaitable[Receipt]:
    return admin.grant(
        body.user,
        body.amount,
        reason=body.reason,
        key=key,
        expires_at=body.expires_at,
        priority=body.priority,
        metadata=body.metadata,
        timeout=body.timeout,
    )


def _adjust(admin: Admin, body: asked.AdjustBody, key: str) -> Awaitable[Receipt]:
    return admin.adjust(
        body.user, body.amount, reason=body.reason, key=key, force=body.force, timeout=body.timeout
    )


def _refund(admin: Admin, body: asked.AdminRefundBody, key: str) -> Awaitable[Receipt]:
    return admin.refund(
        body.user,
        of=body.of,
        origin=body.origin,
        reason=body.reason,
        key=key,
        amount=body.amount,
        timeout=body.timeout,
    )


def _post_charge(admin: Admin, body: asked.PostChargeBody, key: str) -> Awaitable[Receipt]:
    return admin.post_charge(
        body.user,
        body.amount,
        action=body.action,
        key=key,
        price=body.price,
        quantity=body.quantity,
        reason=body.reason,
        metadata=body.metadata,
        timeout=body.timeout,
    )


def _freeze(admin: Admin, body: asked.SettingBody, key: str) -> Awaitable[Receipt]:
    return admin.freeze(body.user, reason=body.reason, key=key, timeout=body.timeout)


def _unfreeze(admin: Admin, body: asked.SettingBody, key: str) -> Awaitable[Receipt]:
    return admin.unfreeze(body.user, reason=body.reason, key=key, timeout=body.timeout)


def _close(admin: Admin, body: asked.SettingBody, key: str) -> Awaitable[Receipt]:
    return admin.close(body.user, reason=body.reason, key=key, timeout=body.timeout)


def _limit(admin: Admin, body: asked.LimitBody, key: str) -> Awaitable[Receipt]:
    return admin.limit(
        body.user,
        body.amount,
        window=body.window,
        action=body.action,
        reason=body.reason,
        key=key,
        timeout=body.timeout,
    )


def _thresholds(admin: Admin, body: asked.ThresholdsBody, key: str) -> Awaitable[Receipt]:
    return admin.thresholds(body.user, body.thresholds, reason=body.reason, key=key, timeout=body.timeout)


def _debt(admin: Admin, body: asked.DebtBody, key: str) -> Awaitable[Receipt]:
    return admin.debt(body.user, body.amount, reason=body.reason, key=key, timeout=body.timeout)


def _operation(
    what: str, summary: str, asking: Asking, body: type[asked.Asked], *problems: Kind
) -> Operation:
    async def write(call: Call, body: Any) -> Answer:
        admin = await call.system.admin(call.caller.actor)
        with call.system.under_way.working_on(SYSTEM, body.user, call.key):
            receipt = await asking(admin, body, call.key)
        return Answer(receipt.as_dict())

    return Operation(
        "POST",
        f"/v1/admin/{what}",
        Scope.ADMIN,
        summary,
        write,
        ReceiptAnswer,
        body,
        (Kind.ACCOUNT_NOT_FOUND, Kind.ACCOUNT_CLOSED, *problems),
        is_keyed=True,
    )


_LARGE, _FEW, _MANY = Kind.BALANCE_TOO_LARGE, Kind.INSUFFICIENT_CREDITS, Kind.TOO_MANY

OPERATIONS = (
    _operation("accounts", "Open an account", _open, asked.OpenBody, Kind.ACCOUNT_EXISTS),
    _operation("grants", "Give credits", _grant, asked.GrantBody, _LARGE, _MANY, Kind.GRANT_EXPIRED),
    _operation("adjustments", "Correct an account", _adjust, asked.AdjustBody, _LARGE, _FEW),
    _operation(
        "refunds",
        "Give back what an app charged",
        _refund,
        asked.AdminRefundBody,
        _LARGE,
        Kind.CHARGE_NOT_FOUND,
        Kind.REFUND_EXCEEDS_CHARGE,
    ),
    _operation(
        "post-charges",
        "Take credits for what is done already",
        _post_charge,
        asked.PostChargeBody,
        _FEW,
        Kind.ACCOUNT_FROZEN,
    ),
    _operation("freeze", "Have charges and holds refused", _freeze, asked.SettingBody),
    _operation("unfreeze", "Have charges and holds accepted again", _unfreeze, asked.SettingBody),
    _operation("close", "Refuse everything, for ever", _close, asked.SettingBody),
    _operation("limits", "Set or remove a spend limit", _limit, asked.LimitBody, _MANY),
    _operation("thresholds", "Say which low balances are told of", _thresholds, asked.ThresholdsBody),
    _operation("debts", "Let post-charges go below zero", _debt, asked.DebtBody),
)
