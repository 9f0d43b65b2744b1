"""What the gateway can be asked: one table, from which both the routes and the OpenAPI document are made.

Paths are matched before they are decoded, so that a user or a key may have a `/` in it, sent as `%2F`.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol
from urllib.parse import quote, unquote_to_bytes

from pydantic import BaseModel
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from sparked_gateway.bodies import json_bytes, parse_body, parse_query, read_body
from sparked_gateway.callers import Caller, Scope
from sparked_gateway.idempotency import read_key
from sparked_gateway.problems import RETRY_AFTER_S, Kind, Problem
from sparked_gateway.system import System


class Who(Enum):
    """Who may ask, where that is not a matter of scopes."""

    PERSON = "person"
    """Somebody with a session, about themselves."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered, as JSON."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, from a caller who may ask it."""

    system: System
    caller: Caller
    path: Mapping[str, str]
    """The parts of the path that the operation names, decoded."""
    key: str
    """Its idempotency key; empty for what needs none."""
    request: Request


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Args:
        path: With `{user}` and the like for its parts; `{key}` may have a `/` in it, encoded or not.
        who: The scope that it takes.
        takes: What the body of a POST, or the query of a GET, must be; the handler gets it checked.
        answers: What the handler answers with, for the OpenAPI document.
        also: What else it may answer with that is no problem, by status.
        problems: What it may be refused for, beside what any may.
        is_keyed: Whether it needs an `Idempotency-Key`.
    """

    method: str
    path: str
    who: Scope | Who
    summary: str
    handler: Callable[[Call, Any], Awaitable[Answer]]
    answers: type[BaseModel]
    takes: type[BaseModel] | None = None
    problems: Sequence[Kind] = ()
    is_keyed: bool = False
    also: Mapping[int, type[BaseModel]] = field(default_factory=dict)


class Authority(Protocol):
    """Knows who is calling: `access.Access`."""

    async def caller(self, request: Request, scope: Scope) -> Caller:
        """Who it is, if they may do what `scope` names; else a `Problem`."""

    async def person(self, request: Request) -> Caller:
        """The person whose session it is; else a `Problem`."""


class Operations(BaseRoute):
    """All operations, as one route of Starlette's: one look-up finds a request's, or a few where the path has parts."""

    def __init__(self, system: System, authority: Authority, operations: Sequence[Operation]) -> None:
        self._system = system
        self._authority = authority
        self._exact: dict[str, dict[str, Operation]] = {}
        self._patterns: dict[re.Pattern[str], dict[str, Operation]] = {}
        for operation in operations:
            if "{" in operation.path:
                methods = self._patterns.setdefault(_pattern(operation.path), {})
            else:
                methods = self._exact.setdefault(operation.path, {})
            assert operation.method not in methods, f"{operation.method} {operation.path} is there twice"
            methods[operation.method] = operation

    def matches(self, scope: AsgiScope) -> tuple[Match, AsgiScope]:
        if scope["type"] == "http":
            raw = scope.get("raw_path")
            path = quote(scope["path"]) if raw is None else raw.decode("latin-1")
            methods = self._exact.get(path)
            if methods is not None:
                return Match.FULL, {"methods": methods, "parts": {}}
            for pattern, methods in self._patterns.items():
                if found := pattern.fullmatch(path):
                    return Match.FULL, {"methods": methods, "parts": found.groupdict()}
        return Match.NONE, {}

    async def handle(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        methods: dict[str, Operation] = scope["methods"]
        # What GET answers, HEAD does; its body is left out by the server.
        operation = methods.get("GET" if scope["method"] == "HEAD" else scope["method"])
        if operation is None:
            allowed = ", ".join(sorted(methods))
            raise Problem(
                Kind.METHOD_NOT_ALLOWED,
                f"{scope['method']} is not possible here, but {allowed}",
                headers={"allow": allowed},
            )
        try:
            answer = await self._answer(operation, Request(scope, receive))
        except asyncio.CancelledError:
            # Nobody cancels a request but a server that stops, and has waited for it as long as it may.
            raise Problem(
                Kind.UNAVAILABLE,
                "the gateway is stopping: send it again; what writes, with the same Idempotency-Key",
                headers={"retry-after": str(RETRY_AFTER_S)},
            ) from None
        body = json_bytes(answer.body)
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"content-length", b"%d" % len(body)),
        ]
        for name, value in answer.headers.items():
            headers.append((name.encode(), value.encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, operation: Operation, request: Request) -> Answer:
        caller = await self._caller(operation.who, request)
        scope = request.scope
        key = read_key(scope["headers"]) if operation.is_keyed else ""
        taken = None
        if operation.takes is not None:
            if operation.method == "GET":
                taken = parse_query(operation.takes, scope["query_string"])
            else:
                taken = parse_body(operation.takes, await read_body(scope, request.receive))
        parts = {name: _decoded(name, part) for name, part in scope["parts"].items()}
        await self._system.connected()
        return await operation.handler(Call(self._system, caller, parts, key, request), taken)

    async def _caller(self, who: Scope | Who, request: Request) -> Caller:
        if who is Who.PERSON:
            return await self._authority.person(request)
        return await self._authority.caller(request, who)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", _part, path))


def _part(found: re.Match[str]) -> str:
    return f"(?P<{found[1]}>{'.+' if found[1] == 'key' else '[^/]+'})"


def _decoded(name: str, part: str) -> str:
    if "%" not in part and part.isascii():
        return part
    try:
        return unquote_to_bytes(part.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise Problem(Kind.INVALID_REQUEST, f"{name}: must be percent-encoded UTF-8 in the path") from None
