"""The stand-in's own pages, to sign up and sign in without any proof: this is for development only, and they say so."""

import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from sparked_clerk.stand_in.browsers import COOKIE
from sparked_clerk.stand_in.frontend import STATIC
from sparked_clerk.stand_in.users import Refused, User

if TYPE_CHECKING:
    from sparked_clerk.stand_in.clerk import ClerkStandIn

_LISTED_MAX = 50
_EMAIL_LENGTH_MAX = 254
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


class Pages:
    """Sign-up and sign-in. Both lead back to a page of an origin that the stand-in is told, or to none at all."""

    def __init__(self, clerk: "ClerkStandIn") -> None:
        self._clerk = clerk

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/sign-up", self.show_sign_up),
            Route("/sign-up", self.sign_up, methods=["POST"]),
            Route("/sign-in", self.show_sign_in),
            Route("/sign-in", self.sign_in, methods=["POST"]),
            Route("/pages.css", self.style),
        ]

    async def show_sign_up(self, request: Request) -> Response:
        return self._sign_up_page(self._checked(request.query_params.get("redirect_url", "")))

    async def show_sign_in(self, request: Request) -> Response:
        return self._sign_in_page(self._checked(request.query_params.get("redirect_url", "")))

    async def sign_up(self, request: Request) -> Response:
        """Create a user, which sends `user.created`, and sign it in."""
        fields = await self._fields(request)
        back, email = self._checked(fields.get("redirect_url", "")), fields.get("email", "").strip()
        if len(email) > _EMAIL_LENGTH_MAX or not _EMAIL.fullmatch(email):
            return self._sign_up_page(back, email, "That is no e-mail address.")
        if self._clerk.users.of(email):
            return self._sign_up_page(
                back, email, "Somebody has signed up with that address. Sign in instead."
            )
        return self._signed_in(request, self._clerk.sign_up(email=email), back)

    async def sign_in(self, request: Request) -> Response:
        """Sign a user in, by its address."""
        fields = await self._fields(request)
        back, email = self._checked(fields.get("redirect_url", "")), fields.get("email", "").strip()
        user = self._clerk.users.of(email)
        if user is None:
            return self._sign_in_page(back, email, "Nobody has signed up with that address.")
        return self._signed_in(request, user.id, back)

    async def style(self, request: Request) -> Response:
        return FileResponse(STATIC / "pages.css", headers={"cache-control": "no-cache"})

    async def _fields(self, request: Request) -> Mapping[str, str]:
        """A form's, sent by a page of ours: another's must not sign anybody in as somebody else.

        Raises:
            Refused: It was not.
        """
        if request.headers.get("origin") != self._clerk.url:
            raise Refused(403, "origin_invalid", f"Origin: must be {self._clerk.url}")
        text = (await request.body()).decode(errors="replace")
        return {name: values[0] for name, values in parse_qs(text).items()}

    def _checked(self, back: str) -> str:
        """Where to go back to.

        Raises:
            Refused: It is none of the pages that the stand-in is told of.
        """
        if not self._clerk.browsers.is_address(back):
            raise Refused(
                400,
                "invalid_url",
                "redirect_url: must be a page that the stand-in was told of; see its allow_origin()",
            )
        return back

    def _signed_in(self, request: Request, user: str, back: str) -> Response:
        answer = RedirectResponse(back, 303)
        cookie = self._clerk.browsers.sign_in(user, before=request.cookies.get(COOKIE))
        answer.set_cookie(COOKIE, cookie, httponly=True, samesite="lax")
        answer.headers["cache-control"] = "no-store"
        return answer

    def _sign_up_page(self, back: str, email: str = "", complaint: str = "") -> Response:
        form = _form("Create an account", back, email, complaint)
        other = _other("/sign-in", back, "Have an account?", "Sign in")
        return self._page("Sign up", form + other, complaint)

    def _sign_in_page(self, back: str, email: str = "", complaint: str = "") -> Response:
        form = _form("Sign in", back, email, complaint)
        other = _other("/sign-up", back, "New here?", "Sign up")
        return self._page("Sign in", self._list(back) + form + other, complaint)

    def _list(self, back: str) -> str:
        """The newest users, one button each."""
        users = self._clerk.users.newest(_LISTED_MAX)
        buttons = "".join(f"<li>{_button(user)}</li>" for user in users)
        if not users:
            return ""
        return (
            '<form method="post" class="people"><h2>Who are you today?</h2>'
            f'<input type="hidden" name="redirect_url" value="{escape(back)}"><ul>{buttons}</ul></form>'
        )

    def _page(self, title: str, main: str, complaint: str) -> Response:
        # A form's answer leads back to the page that wanted somebody to sign in; browsers hold that against it too.
        forms = " ".join(["'self'", *self._clerk.browsers.origins])
        headers = {
            "content-security-policy": f"default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; "
            f"form-action {forms}; frame-ancestors 'none'",
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
            # The form's Origin is null with less.
            "referrer-policy": "same-origin",
        }
        return HTMLResponse(_PAGE.format(title=title, main=main), 422 if complaint else 200, headers)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · stand-in of Clerk</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/pages.css">
</head>
<body>
<main>
<p class="notice"><strong>Stand-in of Clerk, for development.</strong>
It asks for no password and sends no mail: anybody on this machine can be anybody here.</p>
<h1>{title}</h1>
{main}
</main>
</body>
</html>
"""


def _form(action: str, back: str, email: str, complaint: str) -> str:
    said = f'<p id="complaint" class="complaint" role="alert">{complaint}</p>' if complaint else ""
    described = ' aria-invalid="true" aria-describedby="complaint"' if complaint else ""
    return (
        f'<form method="post"><input type="hidden" name="redirect_url" value="{escape(back)}">'
        '<label for="email">E-mail address</label><input id="email" name="email" type="email" required autofocus '
        f'autocomplete="email" maxlength="{_EMAIL_LENGTH_MAX}" value="{escape(email)}"{described}>{said}'
        f'<button type="submit">{action}</button></form>'
    )


def _button(user: User) -> str:
    role = f' <span class="role">{escape(user.role)}</span>' if user.role else ""
    email = escape(user.email)
    return f'<button type="submit" name="email" value="{email}"><span>{email}</span>{role}</button>'


def _other(path: str, back: str, question: str, link: str) -> str:
    query = urlencode({"redirect_url": back})
    return f'<p>{question} <a href="{path}?{escape(query)}">{link}</a></p>'
