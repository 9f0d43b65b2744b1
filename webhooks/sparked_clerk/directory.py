"""Clerk's users: all of them, a page at a time, whatever is created or deleted meanwhile.

How the cursor works, by Clerk's API description of August 2026: `starting_after` is the id of the last user seen, and
goes with an order by `created_at` only; `limit` is 500 at most, and 501 silently means 10. What becomes of a cursor
whose user is deleted is not said. So a page is only taken for the next one if it follows, an empty one only for the
end if the cursor's user is still there, and else one goes on by time of creation.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

from sparked_clerk.asking import Answer, Patience, PatientApi, api_client
from sparked_clerk.errors import DirectoryError, DirectoryRefused, DirectoryUnavailable
from sparked_clerk.users import DirectoryUser

__all__ = [
    "ClerkDirectory",
    "DirectoryError",
    "DirectoryPage",
    "DirectoryRefused",
    "DirectoryUnavailable",
    "DirectoryUser",
    "Patience",
]

PAGE_USERS = 500
"""Clerk's own limit."""

PAGES_MAX = 100_000
"""50 million users. A server that makes up users for ever has to end somewhere."""


@dataclass(frozen=True, slots=True)
class DirectoryPage:
    """Users, the oldest first; the last page has none."""

    users: tuple[DirectoryUser, ...]
    odd: int
    """Users of this page whose id cannot be read, so that nothing can be done about them here."""
    cursor: str | None
    """What to pass as `after` to go on behind this page; None: it was the last."""


class ClerkDirectory:
    """Clerk's users. Open it with `async with ClerkDirectory.connect(...)`."""

    def __init__(self, api: PatientApi) -> None:
        self._api = api

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, api_url: str, secret_key: str, *, patience: Patience | None = None
    ) -> "AsyncIterator[ClerkDirectory]":
        """A connection for the length of the block. Nothing is asked yet.

        Args:
            api_url: Clerk's API, `https://api.clerk.com`; plain http only on this machine.
            secret_key: The instance's, `sk_…`.
            patience: How long Clerk is waited for; by default 60 s for each page.

        Raises:
            DirectoryRefused: The URL or the key cannot be right.
        """
        async with api_client(api_url, secret_key) as http:
            yield cls(PatientApi(http, patience or Patience()))

    async def pages(self, after: str | None = None) -> AsyncIterator[DirectoryPage]:
        """Every user, the oldest first; a page at a time is kept in memory.

        Whoever exists from the beginning to the end is met, and once: unless the user at the end of a page is deleted
        before the next is read, when some who were created at that time may be met again. Who is created meanwhile is
        met too, unless its creation is dated back.

        Args:
            after: Go on behind the page that had this cursor, of today or another day; None starts with the first.

        Raises:
            DirectoryRefused: The key or the URL is wrong.
            DirectoryUnavailable: No good answer for a page in time. Its `cursor` says where to go on.
            ValueError: `after` is not a cursor that a page came with.
        """
        place = _Place.parse(after)
        for _ in range(PAGES_MAX):
            try:
                page, place = _page(await self._rows_behind(place), place)
            except DirectoryUnavailable as error:
                raise DirectoryUnavailable(
                    f"{error}. What came before is done; go on from the cursor", place.cursor
                ) from error
            yield page
            if page.cursor is None:
                return
        raise DirectoryUnavailable(f"more than {PAGES_MAX} pages of users: that cannot be", place.cursor)

    async def user(self, user: str) -> DirectoryUser | None:
        """One user; None if Clerk has none of that id.

        Raises:
            As `pages`.
        """
        if user == "count":
            return None  # `/users/count` says how many there are.
        answer = await self._api.get(_path(user))
        if answer.status != 200:
            return None
        found = DirectoryUser.from_clerk(answer.value)
        if found is None or found.id != user:
            raise DirectoryUnavailable("Clerk answered with something else than the user that was asked for")
        return found

    async def count(self) -> int:
        """How many users there are about now; an estimate, for a progress bar.

        Raises:
            As `pages`.
        """
        answer = await self._api.get("/users/count")
        count = answer.value.get("total_count") if isinstance(answer.value, Mapping) else None
        if type(count) is not int or count < 0:
            raise DirectoryUnavailable("Clerk's answer to GET /users/count has no `total_count`")
        return count

    async def _rows_behind(self, place: "_Place") -> "list[_Row]":
        """The users that follow; none at the end."""
        if place.user is None:
            return _rows(await self._list())
        answer = await self._list(starting_after=place.user)
        if answer.status == 200:
            rows = _rows(answer)
            if rows and place.is_followed_by(rows):
                return rows
            if not rows and (await self._api.get(_path(place.user))).status == 200:
                return []
        # The cursor's user is gone, or the server knows no cursors.
        by_time = _rows(await self._list(created_at_after=max(0, place.created_at - 1)))
        fresh = [row for row in by_time if row.user is None or row.user.id not in place.page]
        leads_nowhere = len(by_time) >= PAGE_USERS and not any(row.user for row in fresh)
        if leads_nowhere or not place.is_followed_by(fresh):
            raise DirectoryUnavailable(
                "Clerk does not go on behind the last page, but gives earlier users again"
            )
        return fresh

    async def _list(self, **where: str | int) -> Answer:
        # Ascending, so that who signs up meanwhile comes last and moves nobody to another page.
        return await self._api.get("/users", {"limit": PAGE_USERS, "order_by": "created_at", **where})


def _path(user: str) -> str:
    return f"/users/{quote(user, safe='')}"


@dataclass(frozen=True, slots=True)
class _Row:
    user: DirectoryUser | None
    created_at: int | None
    """In ms since 1970."""


@dataclass(frozen=True, slots=True)
class _Place:
    """How far one has come: behind the user that was last on a page."""

    created_at: int = 0
    """When some user of its page was created, in ms since 1970."""
    user: str | None = None
    page: frozenset[str] = frozenset()
    """Who was on its page; empty where a cursor was brought along."""

    @property
    def cursor(self) -> str | None:
        return f"{self.created_at}:{self.user}" if self.user else None

    @classmethod
    def parse(cls, cursor: str | None) -> "_Place":
        if cursor is None:
            return cls()
        created_at, _, user = cursor.partition(":")
        if not (created_at.isascii() and created_at.isdecimal() and user):
            raise ValueError("after: not a cursor that a page came with: pass one, or None to start")
        return cls(int(created_at), user)

    def is_followed_by(self, rows: Sequence[_Row]) -> bool:
        """Whether these can come next: none was on the last page, and not all are older."""
        named = [row for row in rows if row.user]
        latest = max((row.created_at for row in named if row.created_at is not None), default=self.created_at)
        return latest >= self.created_at - 1 and not any(
            row.user.id in self.page for row in named if row.user
        )


def _rows(answer: Answer) -> list[_Row]:
    if answer.status != 200:
        raise DirectoryRefused(
            f"Clerk refuses to list users (status {answer.status}): is CLERK_API_URL its API, https://api.clerk.com?"
        )
    if not isinstance(answer.value, list):
        raise DirectoryUnavailable("Clerk's answer to GET /users is not a list")
    return [_Row(DirectoryUser.from_clerk(user), _created_at(user)) for user in answer.value]


def _page(rows: Sequence[_Row], place: _Place) -> tuple[DirectoryPage, _Place]:
    """The page that these users make, and the place behind it."""
    named = [number for number, row in enumerate(rows) if row.user]
    if not named:
        if len(rows) >= PAGE_USERS:
            raise DirectoryUnavailable("Clerk gave a page of users of whom none has an id")
        return DirectoryPage((), len(rows), None), place
    # Odd ones behind the last user come again, behind its cursor, and are counted then.
    rows = rows[: named[-1] + 1]
    users = tuple(row.user for row in rows if row.user)
    times = [row.created_at for row in rows if row.user and row.created_at is not None]
    # The middle one's, so that no odd user decides; going on by time meets half a page again, which `page` sorts out.
    created_at = times[len(times) // 2] if times else place.created_at
    behind = _Place(created_at, users[-1].id, frozenset(user.id for user in users))
    return DirectoryPage(users, len(rows) - len(users), behind.cursor), behind


def _created_at(user: object) -> int | None:
    found = user.get("created_at") if isinstance(user, Mapping) else None
    return found if type(found) is int and 0 <= found < 2**53 else None
