"""Sends any intent as the app or the system, and returns its receipt, applied or refused."""

from typing import Any

from sparked_credits import Admin, Credits, Receipt
from sparked_credits.intents import (
    CaptureIntent,
    ChargeIntent,
    HoldIntent,
    Intent,
    RefundIntent,
    VoidIntent,
)

APPS_KINDS = (ChargeIntent, RefundIntent, HoldIntent, CaptureIntent, VoidIntent)


class Asking:
    """Both streams of one system; `of_origin` is the app where an intent names another one's key."""

    def __init__(self, app: Credits, admin: Admin) -> None:
        self._app = app._exchange
        self._admin = admin._exchange

    async def __call__(self, kind: type[Intent], user: str, key: str, **fields: Any) -> Receipt:
        """The outcome, whatever it is."""
        exchange = self._app if kind in APPS_KINDS else self._admin
        if "of" in fields:
            fields.setdefault("of_origin", "chat")
        intent = kind(user=user, key=key, **fields)
        return await exchange.answer(intent, 10, expires=exchange is self._app)
