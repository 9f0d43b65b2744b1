"""What becomes of Clerk's users: an account with the signup grant, once for ever; closed when the user is deleted."""

import logging

from sparked_credits.errors import Unavailable, refusal
from sparked_credits.exchange import Exchange
from sparked_credits.inbox import Event
from sparked_credits.intents import CloseIntent, OpenIntent
from sparked_credits.models import Status

OPEN_KEY = "open"
"""The one that `Admin.open_account` uses too, so that whoever comes first opens it."""

_CLOSE_KEY = "close:clerk"
_ANSWER_S = 5.0

_OPENED_BEFORE = {Status.IDEMPOTENCY_CONFLICT, Status.ACCOUNT_EXISTS, Status.ACCOUNT_CLOSED}
"""With another amount, under another key, or closed since: all of them mean that there is nothing to do."""

_log = logging.getLogger(__name__)


async def user_created(exchange: Exchange, event: Event, *, grant: int, verified_only: bool) -> None:
    """Open the user's account with `grant` credits, if it never was.

    Args:
        verified_only: Leave it for the event that tells that the user's e-mail address is verified.

    Raises:
        Rejected: The ledger refuses it for a reason that time will not change.
        Unavailable: No answer came: again, later.
    """
    if verified_only and not event.fields.get("verified"):
        _log.info("event %s: no account before the e-mail address is verified", event.id)
        return
    await _open(exchange, event, grant)


async def user_deleted(exchange: Exchange, event: Event) -> None:
    """Close the user's account. One that never was is opened with nothing first, so that it stays closed for ever.

    Raises:
        Rejected: The ledger refuses it for a reason that time will not change.
        Unavailable: No answer came: again, later.
    """
    await _open(exchange, event, 0)
    intent = CloseIntent.checked(user=event.fields["user"], key=_CLOSE_KEY, metadata=_metadata(event))
    receipt = await exchange.answer(intent, _ANSWER_S)
    if not receipt.applied and receipt.status is not Status.ACCOUNT_CLOSED:
        raise refusal(receipt)


async def _open(exchange: Exchange, event: Event, amount: int) -> None:
    intent = OpenIntent.checked(
        user=event.fields["user"], amount=amount, key=OPEN_KEY, metadata=_metadata(event)
    )
    receipt = await exchange.answer(intent, _ANSWER_S)
    if receipt.status is Status.FOREIGN_EPOCH:
        raise Unavailable("the store is another one since")
    is_opening = receipt.status is not Status.IDEMPOTENCY_CONFLICT or receipt.kind == intent.kind
    if not receipt.applied and not (receipt.status in _OPENED_BEFORE and is_opening):
        raise refusal(receipt)


def _metadata(event: Event) -> dict[str, str]:
    return {"actor": "clerk", "event": event.id}
