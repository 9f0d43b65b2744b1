"""What is sent with a request: read within bounds of size and time, and checked; and the JSON of answers."""

import asyncio
import json
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError, to_json
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from sparked_gateway.problems import Kind, Problem

BODY_BYTES_MAX = 64 * 1024
BODY_S = 10.0
"""How long a body may take to arrive."""

_QUERY_FIELDS_MAX = 50

Model = TypeVar("Model", bound=BaseModel)


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body.

    Raises:
        Problem: It is larger than `BODY_BYTES_MAX`, or did not arrive within `BODY_S`.
        ClientDisconnect: Its sender is gone.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and not _is_small(value):
            raise _too_large()
    try:
        async with asyncio.timeout(BODY_S):
            message = await receive()
            if not message.get("more_body"):
                body: bytes = message.get("body", b"")
            else:
                body = await _read_on(message, receive)
    except TimeoutError:
        raise Problem(Kind.TOO_SLOW, f"the body must arrive within {BODY_S:g} s") from None
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    if len(body) > BODY_BYTES_MAX:
        raise _too_large()
    return body


def _is_small(declared: bytes) -> bool:
    return len(declared) < 10 and declared.isdigit() and int(declared) <= BODY_BYTES_MAX


async def _read_on(message: Any, receive: Receive) -> bytes:
    body = bytearray(message.get("body", b""))
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            raise _too_large()
    return bytes(body)


def _too_large() -> Problem:
    return Problem(Kind.TOO_LARGE, f"the body must be at most {BODY_BYTES_MAX} bytes")


def parse_body(model: type[Model], body: bytes) -> Model:
    """The body as `model`; an empty one stands for an object without fields.

    Raises:
        Problem: It is not JSON, or not such an object; all fields that are wrong are named.
    """
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise Problem(Kind.INVALID_REQUEST, _complaints(error, model, "body")) from None


def parse_query(model: type[Model], query: bytes) -> Model:
    """The query string as `model`.

    Raises:
        Problem: It has what `model` hasn't, something twice, or a value that makes no sense.
    """
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_QUERY_FIELDS_MAX,
        )
    except ValueError:
        raise Problem(
            Kind.INVALID_REQUEST, "the query must be percent-encoded UTF-8, as name=value&name=value"
        ) from None
    given = dict(pairs)
    if len(given) < len(pairs):
        raise Problem(Kind.INVALID_REQUEST, "the query must name each parameter once")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise Problem(Kind.INVALID_REQUEST, _complaints(error, model, "query")) from None


def json_bytes(value: Any) -> bytes:
    """`value` as JSON, in UTF-8."""
    try:
        return to_json(value, inf_nan_mode="null")
    except PydanticSerializationError:
        # Nested too deeply for it: others may have written metadata, and it must not keep the rest from being read.
        return json.dumps(value).encode()


def _complaints(error: ValidationError, model: type[BaseModel], what: str) -> str:
    return "; ".join(_complaint(each, model, what) for each in error.errors(include_url=False)[:20])


def _complaint(error: ErrorDetails, model: type[BaseModel], what: str) -> str:
    kind, message = error["type"], error["msg"]
    where = ".".join(str(part) for part in error["loc"])[:200]
    if kind == "json_invalid":
        return f"the body must be JSON: {message.removeprefix('Invalid JSON: ')}"
    if not error["loc"]:
        return f"the {what} must be a JSON object"
    if kind == "missing":
        return f"{where}: is missing"
    if kind == "extra_forbidden":
        fields = ", ".join(sorted(model.model_fields)) or "none"
        return f"{where}: is unknown; the {what} may have: {fields}"
    # What follows "Input should be", which is how most messages begin.
    rule = message.removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("must be ")
    return f"{where}: must be {_RULES.get(where, rule)}, not {str(error['input'])[:80]!r}"


_PRINTABLE = "printable characters without white space"
_RULES = {
    "user": f"1 to 128 {_PRINTABLE}, ':', '{{' and '}}'",
    "origin": f"1 to 128 {_PRINTABLE}, ':', '{{' and '}}'",
    "of": f"1 to 255 {_PRINTABLE}",
    "action": "1 to 64 of A-Z a-z 0-9 _ . : / -",
}
