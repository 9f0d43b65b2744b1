"""What a request asks for: its body, and the key that it may be sent again under."""

import asyncio
from hashlib import sha256
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

BODY_BYTES_MAX = 64 * 1024
BODY_S = 10.0
"""How long a body may take to arrive."""

_KEY_LENGTH_MAX = 200


class BadRequest(Exception):
    """It is malformed; the message says what is, and what would be right."""


class Body(BaseModel):
    """The body of a request. Nothing is converted, and what is unknown is refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


B = TypeVar("B", bound=Body)


async def read_body(request: Request, kind: type[B]) -> B:
    """The body, checked.

    Raises:
        BadRequest: It is not JSON, not announced as JSON, or not a `kind`.
        HTTPException: 408, it did not arrive within `BODY_S`.
    """
    # A page of somebody else's can make a browser send our cookie along, but not with this type: that needs CORS.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise BadRequest("Content-Type: must be application/json")
    try:
        async with asyncio.timeout(BODY_S):
            text = await request.body()
    except TimeoutError:
        raise HTTPException(408, "Too slow") from None
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise BadRequest(f"{where}: {first['msg']}") from None


def key_of(request: Request, body: Body | None = None) -> str:
    """The idempotency key of a request: its header, which the sender made before it first sent it.

    Args:
        body: What the key pays for. It becomes part of the key, so that another body under the same header is work
            of its own that is paid for, and not free.

    Raises:
        BadRequest: It has none, or one that cannot be a key.
    """
    key = request.headers.get("idempotency-key", "").strip('" ')
    if not (0 < len(key) <= _KEY_LENGTH_MAX and key.isascii() and key.isprintable() and " " not in key):
        raise BadRequest(
            f"Idempotency-Key: must be 1 to {_KEY_LENGTH_MAX} printable ASCII characters without spaces; "
            "make one, such as a UUID, for each thing that is asked for, and send it again with the same"
        )
    if body is None:
        return key
    return f"{key}:{sha256(body.model_dump_json().encode()).hexdigest()[:16]}"
