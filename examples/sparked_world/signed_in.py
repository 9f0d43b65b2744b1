"""Who is signed in, by the session token that Clerk's script keeps in the browser."""

from starlette.requests import Request

from sparked_clerk.sessions import NotSignedIn, Session
from sparked_world.connections import connections

COOKIE = "__session"
"""Where Clerk's script keeps a fresh token for the page's host."""


async def signed_in(request: Request) -> Session:
    """The session of whoever sends the request; what it says of a user is never taken from anywhere else.

    Raises:
        NotSignedIn: There is none, or its token is not good here.
        KeysUnavailable: Nobody can tell yet, for Clerk's keys cannot be had.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = request.cookies.get(COOKIE, "")
    if not token:
        raise NotSignedIn("no session token")
    return await connections(request).sessions.verify(token)
