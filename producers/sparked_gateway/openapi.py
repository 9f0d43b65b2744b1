"""The OpenAPI 3.1 document, made from the table of operations: it says what the routes do because it is them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import groupby
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sparked_gateway.answered import ProblemAnswer
from sparked_gateway.asked import KEY_SCHEMA, USER_SCHEMA
from sparked_gateway.bodies import json_bytes
from sparked_gateway.callers import Scope
from sparked_gateway.idempotency import HEADER_SCHEMA
from sparked_gateway.operations import Operation, Who
from sparked_gateway.problems import Kind

Schema = dict[str, Any]

_REF = "#/components/schemas/{model}"

_SECURITY = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, `sk_…`, which `credits keys create` makes. Its scopes say what it may do.",
    },
    "session": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A person's session token of Clerk's. The role `admin` gives the scopes read and admin.",
    },
}

_ALWAYS = (Kind.UNAUTHORIZED, Kind.FORBIDDEN, Kind.RATE_LIMITED, Kind.INTERNAL, Kind.UNAVAILABLE)
_WITH_KEY = (
    Kind.IDEMPOTENCY_KEY_MISSING,
    Kind.IN_PROGRESS,
    Kind.KEY_REUSED,
    Kind.REJECTED,
    Kind.INTENT_FAILED,
    Kind.BUSY,
)

_DESCRIPTION = """Prepaid credits that a family of apps share, one balance per user.

Times in answers are in ms since 1970, amounts are whole credits. Every write has an `Idempotency-Key`, and has one
effect however often it is sent. Errors are problem details (RFC 9457); their `type` never changes its meaning.
Fields may be added to answers; requests with unknown fields are refused.

Beside these operations there are two streams of server-sent events: `GET /me/events`, the balance of whoever is signed
in as it changes, and `GET /v1/admin/live`, how the system stands each second."""


def openapi_route(operations: Sequence[Operation]) -> Route:
    """`/openapi.json`."""
    text = json_bytes(document(operations))

    async def show(request: Request) -> Response:
        return Response(text, headers={"cache-control": "no-cache"}, media_type="application/json")

    return Route("/openapi.json", show)


def document(operations: Sequence[Operation]) -> Schema:
    """All operations, as OpenAPI 3.1 describes them."""
    paths: dict[str, Schema] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sparked Credits",
            "version": version("sparked-credits"),
            "description": _DESCRIPTION,
        },
        "paths": paths,
        "components": {"securitySchemes": _SECURITY, "schemas": _schemas(operations)},
    }


def kinds_of(operation: Operation) -> list[Kind]:
    """Every problem that it may be answered with, by status."""
    kinds = {*operation.problems, *_ALWAYS}
    if operation.takes or "{" in operation.path:
        kinds.add(Kind.INVALID_REQUEST)
    if operation.method != "GET":
        kinds |= {Kind.INVALID_REQUEST, Kind.TOO_LARGE, Kind.TOO_SLOW}
    if operation.is_keyed:
        kinds.update(_WITH_KEY)
    return sorted(kinds, key=lambda kind: (kind.status, kind.slug))


def _operation(operation: Operation) -> Schema:
    words = re.findall(r"\w+", operation.path.removeprefix("/v1/"))
    described: Schema = {
        "operationId": "_".join([operation.method.lower(), *words]).replace("-", "_"),
        "summary": operation.summary,
        "security": _security(operation.who),
        "parameters": list(_parameters(operation)),
        "responses": _responses(operation),
    }
    if operation.takes and operation.method != "GET":
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(operation.takes)}},
        }
    return described


def _security(who: Scope | Who) -> list[Mapping[str, list[str]]]:
    if isinstance(who, Who):
        return [{"session": []}]
    by_key = {"apiKey": [who.value]}
    return [by_key] if who is Scope.CHARGE else [by_key, {"session": ["admin"]}]


def _parameters(operation: Operation) -> Iterator[Schema]:
    for name in re.findall(r"\{(\w+)\}", operation.path):
        schema = {"user": USER_SCHEMA, "key": KEY_SCHEMA}.get(name, {"type": "string", "minLength": 1})
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    if operation.is_keyed:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": True,
            "schema": HEADER_SCHEMA,
            "description": "Made once for each thing to be done, and sent again with every retry.",
        }
    if 202 in operation.also:
        yield {
            "name": "Prefer",
            "in": "header",
            "schema": {"type": "string"},
            "description": "`respond-async`: do not wait; 202 once it is in the queue.",
        }
    if operation.takes and operation.method == "GET":
        yield from _query(operation.takes)


def _query(model: type[BaseModel]) -> Iterator[Schema]:
    whole = model.model_json_schema(ref_template=_REF)
    for name, schema in whole.get("properties", {}).items():
        # In a query, what is null is left out.
        stated, *_ = [each for each in schema.get("anyOf", [schema]) if each != {"type": "null"}]
        parameter = {
            "name": name,
            "in": "query",
            "required": name in whole.get("required", ()),
            "schema": {key: value for key, value in stated.items() if key not in ("title", "description")},
        }
        described = schema.get("description")
        yield {**parameter, "description": described} if described else parameter


def _responses(operation: Operation) -> Schema:
    answers = {200: operation.answers, **operation.also}
    responses = {
        str(status): {
            "description": (answer.__doc__ or "").strip(),
            "content": {"application/json": {"schema": _ref(answer)}},
        }
        for status, answer in answers.items()
    }
    for status, kinds in groupby(kinds_of(operation), lambda kind: kind.status):
        responses[str(status)] = _problem(status, list(kinds))
    return responses


def _problem(status: int, kinds: list[Kind]) -> Schema:
    stated = {"properties": {"type": {"enum": [kind.type for kind in kinds]}, "status": {"const": status}}}
    schema = {"allOf": [_ref(ProblemAnswer), stated]}
    return {
        "description": "; ".join(kind.title for kind in kinds),
        "content": {"application/problem+json": {"schema": schema}},
    }


def _ref(model: type[BaseModel]) -> Schema:
    return {"$ref": _REF.format(model=model.__name__)}


def _schemas(operations: Iterable[Operation]) -> Schema:
    answers: set[type[BaseModel]] = {ProblemAnswer}
    bodies: set[type[BaseModel]] = set()
    for operation in operations:
        answers |= {operation.answers, *operation.also.values()}
        if operation.takes and operation.method != "GET":
            bodies.add(operation.takes)
    _, schema = models_json_schema(
        [(each, "serialization") for each in sorted(answers, key=_name)]
        + [(each, "validation") for each in sorted(bodies, key=_name)],
        ref_template=_REF,
    )
    return dict(schema["$defs"])


def _name(model: type[BaseModel]) -> str:
    return model.__name__
