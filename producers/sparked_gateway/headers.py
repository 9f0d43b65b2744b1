"""What every answer tells a browser: whatever it holds, run nothing in it and keep nothing of it."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_EVERYWHERE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    # For all that doesn't say otherwise: of accounts nothing is kept.
    (b"cache-control", b"no-store"),
)
_NO_PAGE = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


class SecurityHeaders:
    """ASGI middleware, outside of all that may answer. A header that an answer has already is left as it is.

    Args:
        clerk: Where pages have Clerk's script from, and where that asks: the Frontend API's URL; None: nowhere.
    """

    def __init__(self, app: ASGIApp, clerk: str | None) -> None:
        self._app = app
        self._of_pages = _of_pages(clerk)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": self._with_ours(list(message.get("headers", ())))}
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _with_ours(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        given = dict(headers)
        is_page = given.get(b"content-type", b"").startswith(b"text/html")
        policy = (b"content-security-policy", self._of_pages if is_page else _NO_PAGE)
        return [*headers, *(each for each in (*_EVERYWHERE, policy) if each[0] not in given)]


def _of_pages(clerk: str | None) -> bytes:
    """Scripts and styles of our own files and Clerk's only, none within a page, and no page of ours in another."""
    sources = f"'self' {clerk}" if clerk else "'self'"
    return (
        f"default-src 'none'; script-src {sources}; style-src 'self'; connect-src {sources}; img-src 'self' data:; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ).encode()
