"""A request's body: read within bounds of size and time, and understood as JSON in the strictest sense."""

import asyncio
import json
from decimal import Decimal
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

BODY_BYTES_MAX = 256 * 1024
BODY_S = 10.0
"""How long a body may take to arrive. Senders of webhooks give up after about 15 s."""

ARRIVING_BYTES_MAX = 32 * 1024 * 1024
"""Of all bodies of one source that are not whole yet."""

RETRY_S = 5
"""When a sender is asked to try again."""


class NotJson(ValueError):
    """The body is not JSON, or two readers could understand it differently."""


class Bodies:
    """Reads bodies. However slow their senders are, they hold up nobody: what is bounded is the memory of all."""

    def __init__(self) -> None:
        self._arriving = 0

    async def read(self, request: Request) -> bytes:
        """The whole body.

        Raises:
            HTTPException: 413, it is larger than `BODY_BYTES_MAX`; 408, it did not arrive within `BODY_S`; 503, too
                much is arriving at once.
            ClientDisconnect: Its sender is gone.
        """
        declared = request.headers.get("content-length", "0")
        if len(declared) > len(str(BODY_BYTES_MAX)) or (
            declared.isdecimal() and int(declared) > BODY_BYTES_MAX
        ):
            raise HTTPException(413, "too large")
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                async for chunk in request.stream():
                    body += chunk
                    self._arriving += len(chunk)
                    if len(body) > BODY_BYTES_MAX:
                        raise HTTPException(413, "too large")
                    if self._arriving > ARRIVING_BYTES_MAX:
                        raise HTTPException(503, "busy", {"retry-after": str(RETRY_S)})
        except TimeoutError:
            raise HTTPException(408, "too slow") from None
        finally:
            self._arriving -= len(body)
        return bytes(body)


def parse(body: bytes) -> Any:
    """What the JSON in `body` says; fractions are `Decimal`, for they become hours that are charged.

    Raises:
        NotJson: It says nothing, or says it ambiguously: a name twice in one object, NaN, a byte order mark.
    """
    try:
        return json.loads(
            body.decode(),
            parse_float=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except (ValueError, ArithmeticError, RecursionError):
        raise NotJson("the body is not JSON") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
