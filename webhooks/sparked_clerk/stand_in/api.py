"""The stand-in's HTTP API: as much of Clerk's as credits need."""

import hmac
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sparked_clerk.stand_in.frontend import Frontend
from sparked_clerk.stand_in.pages import Pages
from sparked_clerk.stand_in.users import Refused

if TYPE_CHECKING:
    from sparked_clerk.stand_in.clerk import ClerkStandIn

_BODY_BYTES_MAX = 64 * 1024


def api(clerk: "ClerkStandIn") -> Starlette:
    """The application that answers for `clerk`."""

    async def create(request: Request) -> object:
        try:
            (email, *_) = json.loads(await request.body())["email_address"]
        except (ValueError, KeyError, TypeError):
            raise Refused(
                422, "form_data_missing", "email_address: must be a list with one address"
            ) from None
        return clerk.users.show(clerk.sign_up(email=str(email)))

    async def list_users(request: Request) -> object:
        return clerk.users.page(request.query_params)

    async def count(_: Request) -> object:
        return {"object": "total_count", "total_count": len(clerk.users)}

    async def show(request: Request) -> object:
        return clerk.users.show(request.path_params["user"])

    async def delete(request: Request) -> object:
        clerk.delete_user(request.path_params["user"])
        return {"id": request.path_params["user"], "object": "user", "deleted": True}

    async def jwks(_: Request) -> object:
        return clerk.signer.jwks()

    async def open_jwks(_: Request) -> JSONResponse:
        return JSONResponse(clerk.signer.jwks())

    def route(path: str, answer: Callable[[Request], Any], method: str = "GET") -> Route:
        async def respond(request: Request) -> JSONResponse:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {clerk.secret_key}".encode()):
                raise Refused(401, "clerk_key_invalid", "The provided Clerk Secret Key is invalid.")
            return JSONResponse(await answer(request))

        return Route(path, respond, methods=[method])

    async def refuse(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refused)
        return JSONResponse(error.body, error.status)

    return Starlette(
        routes=[
            route("/v1/users", list_users),
            route("/v1/users", create, "POST"),
            route("/v1/users/count", count),
            route("/v1/users/{user}", show),
            route("/v1/users/{user}", delete, "DELETE"),
            route("/v1/jwks", jwks),
            Route("/.well-known/jwks.json", open_jwks),
            *Frontend(clerk).routes,
            *Pages(clerk).routes,
        ],
        exception_handlers={Refused: refuse},
        # A name of somebody else's that leads to this machine must not make its page one of ours.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1"])],
        max_body_size=_BODY_BYTES_MAX,
    )
