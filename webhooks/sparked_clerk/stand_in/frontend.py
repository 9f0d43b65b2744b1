"""The stand-in's Frontend API: what its script asks for from pages, with the browser's cookie."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from sparked_clerk.stand_in.browsers import COOKIE, SignedIn
from sparked_clerk.stand_in.users import Refused

if TYPE_CHECKING:
    from sparked_clerk.stand_in.clerk import ClerkStandIn

STATIC = Path(__file__).parent / "static"


class Frontend:
    """Answers pages of the origins that the stand-in is told, and no others."""

    def __init__(self, clerk: "ClerkStandIn") -> None:
        self._clerk = clerk

    @property
    def routes(self) -> list[Route]:
        session = "/v1/client/sessions/{session}"
        return [
            Route("/npm/@clerk/clerk-js@5/dist/clerk.browser.js", self.script),
            Route("/v1/client", self._for_pages(self.client)),
            Route(f"{session}/tokens", self._for_pages(self.token), methods=["POST"]),
            Route(f"{session}/remove", self._for_pages(self.remove), methods=["POST"]),
        ]

    async def script(self, request: Request) -> Response:
        """For anybody: it holds nothing of anybody."""
        headers = {"access-control-allow-origin": "*", "cache-control": "no-cache"}
        return FileResponse(STATIC / "clerk.browser.js", headers=headers)

    def client(self, request: Request, origin: str) -> object:
        """Who is signed in with this browser."""
        session = self._session(request)
        shown = {
            "object": "client",
            "sessions": [self._shown(session, origin)] if session else [],
            "last_active_session_id": session.id if session else None,
        }
        return {"response": shown, "client": None}

    def token(self, request: Request, origin: str) -> object:
        """A fresh token of the browser's session, for the page that asks."""
        return {"object": "token", "jwt": self._token(self._required(request), origin)}

    def remove(self, request: Request, origin: str) -> object:
        """Sign out."""
        session = self._required(request)
        self._clerk.browsers.sign_out(request.cookies.get(COOKIE))
        return {"response": {"object": "session", "id": session.id, "status": "removed"}, "client": None}

    def _for_pages(
        self, answer: Callable[[Request, str], object]
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint whose answers, refusals too, pages of the known origins can read, with the browser's cookie."""

        async def respond(request: Request) -> Response:
            origin = request.headers.get("origin", "")
            if origin not in self._clerk.browsers.origins:
                raise Refused(
                    403, "origin_invalid", "Origin: the stand-in was not told of it; see its allow_origin()"
                )
            headers = {
                "access-control-allow-origin": origin,
                "access-control-allow-credentials": "true",
                "vary": "Origin",
                "cache-control": "no-store",
            }
            try:
                return JSONResponse(answer(request, origin), headers=headers)
            except Refused as refused:
                return JSONResponse(refused.body, refused.status, headers)

        return respond

    def _session(self, request: Request) -> SignedIn | None:
        """The browser's; of a user that was deleted, none."""
        session = self._clerk.browsers.session(request.cookies.get(COOKIE))
        return session if session and session.user in self._clerk.users else None

    def _required(self, request: Request) -> SignedIn:
        session = self._session(request)
        if session is None or session.id != request.path_params["session"]:
            raise Refused(401, "authentication_invalid", "Unable to authenticate the request")
        return session

    def _shown(self, session: SignedIn, origin: str) -> dict[str, object]:
        return {
            "object": "session",
            "id": session.id,
            "status": "active",
            "user": self._clerk.users.get(session.user).as_clerk(),
            "last_active_token": {"object": "token", "jwt": self._token(session, origin)},
        }

    def _token(self, session: SignedIn, origin: str) -> str:
        return self._clerk.session_token(session.user, azp=origin, sid=session.id)
