"""The browsers that the stand-in knows, by a cookie, and who is signed in with each."""

import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass

from sparked_clerk.stand_in.users import random_name

COOKIE = "__client"
"""Of the stand-in's own pages. Cookies go by host and not by port, so what else runs at 127.0.0.1 gets it too."""

_BROWSERS_MAX = 10_000
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session: one user, one browser, until it signs out."""

    id: str
    user: str


class Browsers:
    """Sessions by browser, at most one each; the last 10 000. And which pages may ask for them."""

    def __init__(self) -> None:
        self.origins: list[str] = []
        """Of the pages that may ask."""
        self._sessions: OrderedDict[str, SignedIn] = OrderedDict()

    def allow(self, origin: str) -> None:
        """Let pages of `origin` ask.

        Raises:
            ValueError: It is no origin.
        """
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"origin: must be as in http://127.0.0.1:3000, without a path, not {origin!r}")
        if origin not in self.origins:
            self.origins.append(origin)

    def sign_in(self, user: str, before: str | None) -> str:
        """Begin a session, and return the browser's new cookie: one that was there `before` is good no more."""
        self.sign_out(before)
        cookie = secrets.token_urlsafe(32)
        self._sessions[cookie] = SignedIn(f"sess_{random_name()}", user)
        if len(self._sessions) > _BROWSERS_MAX:
            self._sessions.popitem(last=False)
        return cookie

    def session(self, cookie: str | None) -> SignedIn | None:
        """Of the browser with that cookie; None if it has none."""
        return self._sessions.get(cookie or "")

    def sign_out(self, cookie: str | None) -> None:
        self._sessions.pop(cookie or "", None)

    def is_address(self, url: str) -> bool:
        """Whether `url` leads to a page that may ask, and so may be gone back to."""
        # What follows an origin's exact text can't change the host any more, whoever parses it.
        return any(url == origin or url.startswith((f"{origin}/", f"{origin}?")) for origin in self.origins)
