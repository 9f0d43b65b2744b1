"""Which pages of other origins may read our answers: those that the operator names, and no other."""

from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = b"GET, POST"
_ALLOWED = b"authorization, content-type, idempotency-key, prefer, last-event-id"
_EXPOSED = b"location, retry-after"
_REMEMBERED_S = b"600"
"""How long a browser need not ask again."""


class Cors:
    """ASGI middleware. It answers browsers that ask in advance (`OPTIONS`), whoever their user is.

    Credentials are never allowed: there are no cookies, and a page sends its token itself. An answer that allows its
    readers by itself, as `/components.js` does, is left as it is.

    Args:
        origins: Such as `https://chat.example.com`, exactly as browsers send them.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = dict(scope["headers"])
        origin = asked.get(b"origin")
        is_allowed = origin in self._origins
        if scope["method"] == "OPTIONS" and origin is not None and b"access-control-request-method" in asked:
            await _answer_in_advance(origin if is_allowed else None, send)
            return

        async def send_with_readers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if b"access-control-allow-origin" not in dict(headers):
                    headers.append((b"vary", b"Origin"))
                    if origin is not None and is_allowed:
                        headers.append((b"access-control-allow-origin", origin))
                        headers.append((b"access-control-expose-headers", _EXPOSED))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_readers)


async def _answer_in_advance(origin: bytes | None, send: Send) -> None:
    """Nothing but headers; for a page that may not call, none that would let it."""
    headers = [(b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")]
    if origin is not None:
        headers += [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _ALLOWED),
            (b"access-control-max-age", _REMEMBERED_S),
        ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body"})
