"""What every app answers about credits: the balance, the history, and grants by admins."""

from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sparked_credits import AMOUNT_MAX, Admin, Credits, Entry
from sparked_world.answers import Forbidden
from sparked_world.asked import BadRequest, Body, key_of, read_body
from sparked_world.connections import connections
from sparked_world.signed_in import signed_in

LIMIT, LIMIT_MAX = 50, 1000
"""Transactions in an answer, unless asked otherwise, and at most."""

_PAGES_MAX = 10


class Grant(Body):
    """What an admin gives."""

    targetUserId: str  # noqa: N815 - the guide's name for it
    amount: Annotated[int, Field(ge=1, le=AMOUNT_MAX)]
    reason: Annotated[str, Field(min_length=1, max_length=500)]


async def balance(request: Request) -> Response:
    """What the user may spend."""
    session = await signed_in(request)
    found = await connections(request).credits.balance(session.user)
    return JSONResponse({"balance": found.available})


async def history(request: Request) -> Response:
    """The user's newest transactions."""
    session = await signed_in(request)
    limit = request.query_params.get("limit", str(LIMIT))
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 5 and 1 <= int(limit) <= LIMIT_MAX):
        raise BadRequest(f"limit: must be a whole number from 1 to {LIMIT_MAX}")
    entries = await _newest(connections(request).credits, session.user, int(limit))
    return JSONResponse({"transactions": [_transaction(entry) for entry in entries]})


async def grant(request: Request) -> Response:
    """Give a user credits, once per idempotency key; recorded with who gave them, and why."""
    session = await signed_in(request)
    if not session.is_admin:
        raise Forbidden
    key, asked, world = key_of(request), await read_body(request, Grant), connections(request).world
    async with Admin.connect(world.admin_url, actor=session.user, namespace=world.namespace) as admin:
        receipt = await admin.grant(
            asked.targetUserId,
            asked.amount,
            reason=asked.reason,
            key=key,
            metadata={"granted_by": session.user},  # As the guide has it; it is also the entry's `actor`.
        )
    return JSONResponse({"balance": receipt.available, "granted": receipt.amount, "granted_by": session.user})


ROUTES = [
    Route("/api/credits/balance", balance),
    Route("/api/credits/history", history),
    Route("/api/admin/credits/grant", grant, methods=["POST"]),
]


async def _newest(credits_: Credits, user: str, limit: int) -> list[Entry]:
    """Entries that moved credits. Others, such as of a hold, are passed over, up to a few pages of them."""
    found: list[Entry] = []
    before = None
    for _ in range(_PAGES_MAX):
        page = await credits_.history(user, limit=limit, before=before)
        found += [entry for entry in page.entries if entry.amount]
        before = page.next
        if len(found) >= limit or before is None:
            break
    return found[:limit]


def _transaction(entry: Entry) -> dict[str, Any]:
    return {"id": entry.id, "action": entry.action, "timestamp": entry.at, "amount": entry.amount}
