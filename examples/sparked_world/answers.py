"""How errors are answered, by every app: `{"error": …}`, as the guide has it."""

import logging
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler

from sparked_clerk.sessions import KeysUnavailable, NotSignedIn
from sparked_credits import (
    AccountClosed,
    AccountFrozen,
    AccountNotFound,
    IdempotencyConflict,
    InsufficientCredits,
    InvalidIntent,
    LimitExceeded,
    Rejected,
    Unavailable,
)
from sparked_world.asked import BadRequest
from sparked_world.once import InProgress

AGAIN = {"retry-after": "1"}
"""With answers that are not final: the same request, with the same key, gets one."""

_log = logging.getLogger(__name__)


class Forbidden(Exception):
    """Who is signed in may not do that."""


class WorkFailed(Exception):
    """What was paid for could not be made. It was given back."""


def error(status: int, message: str, headers: Mapping[str, str] | None = None, /, **more: Any) -> Response:
    """An answer that says what went wrong."""
    return JSONResponse({"error": message, **more}, status, headers)


async def _not_signed_in(request: Request, cause: Exception) -> Response:
    assert isinstance(cause, NotSignedIn)
    _log.info("%s %s: not signed in: %s", request.method, request.url.path, cause.reason)
    return error(401, "Unauthorized")


async def _nobody_can_tell(request: Request, cause: Exception) -> Response:
    return error(503, "Nobody can be signed in right now; try again", AGAIN)


async def _forbidden(request: Request, cause: Exception) -> Response:
    _log.info("%s %s: forbidden", request.method, request.url.path)
    return error(403, "Forbidden")


async def _insufficient(request: Request, cause: Exception) -> Response:
    assert isinstance(cause, InsufficientCredits)
    return error(402, "Insufficient credits", required=cause.required, available=cause.available)


async def _malformed(request: Request, cause: Exception) -> Response:
    return error(400, str(cause))


async def _refused(request: Request, cause: Exception) -> Response:
    status = next((status for kind, status in _REFUSED.items() if isinstance(cause, kind)), 409)
    return error(status, str(cause))


async def _unavailable(request: Request, cause: Exception) -> Response:
    return error(503, "No answer came in time; send the same again", AGAIN)


async def _in_progress(request: Request, cause: Exception) -> Response:
    return error(409, "This is being worked on already", AGAIN)


async def _work_failed(request: Request, cause: Exception) -> Response:
    return error(500, f"{cause}. Your credits were given back.")


async def _other(request: Request, cause: Exception) -> Response:
    assert isinstance(cause, HTTPException)
    return error(cause.status_code, cause.detail, cause.headers)


_REFUSED: Mapping[type[Rejected], int] = {
    AccountNotFound: 404,
    AccountFrozen: 403,
    AccountClosed: 403,
    LimitExceeded: 403,
    IdempotencyConflict: 422,
}

ANSWERS: Mapping[Any, ExceptionHandler] = {
    NotSignedIn: _not_signed_in,
    KeysUnavailable: _nobody_can_tell,
    Forbidden: _forbidden,
    BadRequest: _malformed,
    ClientDisconnect: _malformed,  # Nobody is there to read it.
    InvalidIntent: _malformed,
    InsufficientCredits: _insufficient,
    Rejected: _refused,
    Unavailable: _unavailable,
    InProgress: _in_progress,
    WorkFailed: _work_failed,
    HTTPException: _other,
}
"""By the most special class that fits."""
