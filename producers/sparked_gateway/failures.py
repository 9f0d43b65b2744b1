"""How errors are answered, whichever route they come from: as problem details."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from sparked_credits.errors import CreditsError, QueueFull, Unavailable
from sparked_gateway.bodies import json_bytes
from sparked_gateway.problems import Kind, Problem, problem
from sparked_gateway.refusals import Refusals

_refusals = Refusals()

_OF_STATUS = {404: Kind.NOT_FOUND, 405: Kind.METHOD_NOT_ALLOWED, 413: Kind.TOO_LARGE}


def answered(error: Problem) -> Response:
    """A problem, as it is sent."""
    headers = {"cache-control": "no-store", **error.headers}
    return Response(
        json_bytes(error.as_dict()), error.kind.status, headers, media_type="application/problem+json"
    )


# Asynchronously: for what isn't, Starlette starts threads, which need files and memory, and these may be what is short.


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return answered(error)


async def _answer_credits_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CreditsError)
    if isinstance(error, Unavailable) and not isinstance(error, QueueFull):
        # The caller is not told what may name servers.
        _refusals.tell(Kind.UNAVAILABLE.status, str(error))
    return answered(problem(error))


async def _answer_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = _OF_STATUS.get(error.status_code, Kind.INVALID_REQUEST)
    detail = "there is nothing at this path; /openapi.json lists what there is"
    return answered(
        Problem(kind, detail if kind is Kind.NOT_FOUND else error.detail, headers=error.headers or {})
    )


async def _answer_nobody(request: Request, error: Exception) -> Response:
    """The client has gone before its request was whole, and reads no answer."""
    return Response(status_code=Kind.INVALID_REQUEST.status)


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    """A mistake of ours. Starlette raises it again, for the server's log."""
    return answered(
        Problem(
            Kind.INTERNAL,
            "an unexpected error, which the gateway's log tells of. What becomes of a write, its key tells: send it "
            "again with the same Idempotency-Key",
        )
    )


ANSWERS: Mapping[Any, ExceptionHandler] = {
    Problem: _answer_problem,
    CreditsError: _answer_credits_error,
    HTTPException: _answer_status,
    ClientDisconnect: _answer_nobody,
    Exception: _answer_unexpected,
}
