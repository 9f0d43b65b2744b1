"""All of Clerk's users, whatever Clerk does meanwhile: FAULTS 24, against the stand-in."""

from collections.abc import AsyncIterator, Sequence

import pytest

from sparked_clerk.asking import NoAnswer, PatientApi, api_client, ask
from sparked_clerk.directory import (
    ClerkDirectory,
    DirectoryPage,
    DirectoryRefused,
    DirectoryUnavailable,
    DirectoryUser,
    Patience,
)
from sparked_clerk.stand_in import ClerkStandIn, Fault, How, Quirk

HURRIED = Patience(deadline_s=3.0)
"""For what fails only if the code is wrong."""


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        yield clerk


def populate(clerk: ClerkStandIn, count: int, *, same_ms: int = 3) -> list[str]:
    """Users, so many of each ms of creation; oldest first, as they are listed."""
    for number in range(count):
        clerk.users.add(f"{number}@example.com", verified=True, created_at=1_000 + number // same_ms)
    return sorted_ids(clerk)


def sorted_ids(clerk: ClerkStandIn) -> list[str]:
    pages = [
        clerk.users.page({"limit": "500", "order_by": "created_at", "offset": str(n)})
        for n in range(0, len(clerk.users), 500)
    ]
    return [user["id"] for page in pages for user in page if isinstance(user, dict)]


def met(pages: Sequence[DirectoryPage]) -> list[str]:
    return [user.id for page in pages for user in page.users]


class Pauses(list[float]):
    """Pauses that are not waited for."""

    async def __call__(self, pause_s: float) -> None:
        self.append(pause_s)


async def test_all_of_10_001_users_are_met_once(clerk: ClerkStandIn) -> None:
    users = populate(clerk, 10_001)
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        assert await directory.count() == 10_001
        pages = [page async for page in directory.pages()]
    assert met(pages) == users
    assert [page.cursor is None for page in pages] == [False] * 21 + [True]
    assert clerk.requests["/v1/users"] == 22


async def test_nobody_at_all_is_one_empty_page(clerk: ClerkStandIn) -> None:
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        assert [page async for page in directory.pages()] == [DirectoryPage((), 0, None)]
        assert await directory.count() == 0


async def test_another_connection_goes_on_from_a_cursor(clerk: ClerkStandIn) -> None:
    users = populate(clerk, 1200)
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        first = await anext(directory.pages())
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        rest = [page async for page in directory.pages(first.cursor)]
    assert met([first, *rest]) == users


async def test_what_is_no_cursor_is_said_to_be_none(clerk: ClerkStandIn) -> None:
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        for cursor in ("", "user_1", "12:", "\u0661:user_1"):
            with pytest.raises(ValueError, match="not a cursor"):
                await anext(directory.pages(cursor))


@pytest.mark.parametrize("quirk", [None, Quirk.GONE_CURSOR_IS_THE_END, Quirk.GONE_CURSOR_IS_THE_START])
async def test_who_exists_throughout_is_met_once_while_others_come_and_go(
    clerk: ClerkStandIn, quirk: Quirk | None
) -> None:
    users = populate(clerk, 2000)
    clerk.users.quirks = {quirk} if quirk else set()
    created, deleted, pages = [], set(), []
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        async for page in directory.pages():
            pages.append(page)
            if page.users and len(pages) <= 3:
                # The last of the page, by whom one goes on; one that was met; and two that were not.
                gone = {
                    page.users[-1].id,
                    page.users[0].id,
                    *users[500 * len(pages) + 20 : 500 * len(pages) + 22],
                }
                for user in gone:
                    clerk.users.remove(user)
                deleted |= gone
                created.append(clerk.users.add("new@example.com", verified=True).id)
    throughout = set(users) - deleted
    assert sorted(user for user in met(pages) if user in throughout) == sorted(throughout)
    assert len(created) == 3
    assert set(created) <= set(met(pages))


async def test_when_the_last_users_go_the_end_is_found_all_the_same(clerk: ClerkStandIn) -> None:
    users = populate(clerk, 20)
    clerk.users.quirks = {Quirk.GONE_CURSOR_IS_THE_END}
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        pages = directory.pages()
        assert met([await anext(pages)]) == users
        for user in users[10:]:
            clerk.users.remove(user)
        assert [page async for page in pages] == [DirectoryPage((), 0, None)]


@pytest.mark.parametrize("gone", [False, True])
async def test_more_than_a_page_of_users_created_in_one_ms_are_met(clerk: ClerkStandIn, gone: bool) -> None:
    users = populate(clerk, 1700, same_ms=1300)
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        pages = []
        async for page in directory.pages():
            pages.append(page)
            if gone and len(pages) == 1:
                clerk.users.remove(page.users[-1].id)
    assert set(met(pages)) == set(users)
    if not gone:
        assert met(pages) == users


async def test_a_server_that_knows_no_cursors_is_walked_through_by_time(clerk: ClerkStandIn) -> None:
    users = populate(clerk, 1600)
    clerk.users.quirks = {Quirk.NO_CURSORS}
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        assert sorted(met([page async for page in directory.pages()])) == sorted(users)


@pytest.mark.parametrize("odd", [0, 1])
async def test_a_server_that_gives_the_same_page_for_ever_is_not_followed_for_ever(
    clerk: ClerkStandIn, odd: int
) -> None:
    users = populate(clerk, 600)
    clerk.users.shown = dict.fromkeys(users[:odd])
    clerk.users.quirks = {Quirk.SAME_PAGE}
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        pages = directory.pages()
        assert met([await anext(pages)]) == users[odd:500]
        with pytest.raises(DirectoryUnavailable, match="earlier users again"):
            await anext(pages)
    assert clerk.requests["/v1/users"] == 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault(How.STATUS, 500),
        Fault(How.STATUS, 429),
        Fault(How.HANG),
        Fault(How.DRIP),
        Fault(How.CUT),
    ],
    ids=lambda fault: f"{fault.how}-{fault.status}",
)
async def test_trouble_that_passes_is_waited_out(clerk: ClerkStandIn, fault: Fault) -> None:
    users = populate(clerk, 20)
    pauses = Pauses()
    patience = Patience(answer_s=0.4, deadline_s=60, sleep=pauses)
    clerk.fail("/v1/users", fault, times=3)
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key, patience=patience) as directory:
        assert met([page async for page in directory.pages()]) == users
    assert len(pauses) >= 3
    assert pauses == sorted(pauses)
    assert all(0.25 <= pause <= 8 for pause in pauses)


async def test_retry_after_is_kept_to(clerk: ClerkStandIn) -> None:
    users = populate(clerk, 10)
    pauses = Pauses()
    clerk.fail("/v1/users", Fault(status=429, headers={"retry-after": "17"}), times=2)
    async with ClerkDirectory.connect(
        clerk.url, clerk.secret_key, patience=Patience(sleep=pauses)
    ) as directory:
        assert met([page async for page in directory.pages()]) == users
    assert pauses == [17, 17]


@pytest.mark.parametrize("retry_after", ["3600", "999999999"])
async def test_who_asks_to_be_left_alone_for_too_long_is(clerk: ClerkStandIn, retry_after: str) -> None:
    pauses = Pauses()
    clerk.fail("/v1/users", Fault(status=429, headers={"retry-after": retry_after}))
    async with ClerkDirectory.connect(
        clerk.url, clerk.secret_key, patience=Patience(sleep=pauses)
    ) as directory:
        with pytest.raises(DirectoryUnavailable, match=f"left alone for {retry_after} s"):
            await directory.count()
    assert pauses == []
    assert clerk.requests["/v1/users/count"] == 1


@pytest.mark.parametrize("retry_after", ["-5", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "1e9", ""])
async def test_a_retry_after_that_is_not_seconds_is_passed_over(
    clerk: ClerkStandIn, retry_after: str
) -> None:
    pauses = Pauses()
    clerk.fail("/v1/users", Fault(status=503, headers={"retry-after": retry_after}), times=1)
    async with ClerkDirectory.connect(
        clerk.url, clerk.secret_key, patience=Patience(sleep=pauses)
    ) as directory:
        assert await directory.count() == 0
    assert len(pauses) == 1
    assert pauses[0] <= 0.5


async def test_in_an_hour_of_errors_one_gives_up_and_goes_on_later(clerk: ClerkStandIn) -> None:
    users = populate(clerk, 1300)
    pauses = Pauses()
    async with ClerkDirectory.connect(
        clerk.url, clerk.secret_key, patience=Patience(sleep=pauses)
    ) as directory:
        pages = directory.pages()
        before = [await anext(pages), await anext(pages)]
        clerk.fail("/v1/users", Fault(status=500))
        with pytest.raises(
            DirectoryUnavailable, match=r"within 60 s; the last time: status 500.*go on"
        ) as caught:
            await anext(pages)
        assert sum(pauses) <= 60
        assert 7 <= len(pauses) <= 20
        clerk.recover()
        assert caught.value.cursor == before[-1].cursor
        rest = [page async for page in directory.pages(caught.value.cursor)]
    assert met([*before, *rest]) == users


async def test_trouble_at_the_first_page_means_to_start_again(clerk: ClerkStandIn) -> None:
    clerk.fail("/v1/users", Fault(How.HANG))
    patience = Patience(answer_s=0.1, deadline_s=0.2)
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key, patience=patience) as directory:
        with pytest.raises(DirectoryUnavailable, match=r"no answer within 0\.1 s") as caught:
            await anext(directory.pages())
    assert caught.value.cursor is None


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    patience = Patience(deadline_s=0.1)
    async with ClerkDirectory.connect("http://127.0.0.1:9", "sk_test_x", patience=patience) as directory:
        with pytest.raises(DirectoryUnavailable, match="ConnectError"):
            await directory.count()


ODD: list[object] = [
    None,
    {},
    {"id": None, "created_at": None},
    {"id": 5, "created_at": 1001},
    {"id": "", "created_at": "1001"},
    {"id": "white space", "created_at": -1},
    {"id": ["user_1"], "created_at": 2**60},
    "user_1",
    [],
]


@pytest.mark.parametrize(
    "places", [range(9), range(100, 109), range(491, 500), range(496, 505), range(591, 600)], ids=str
)
async def test_odd_users_are_counted_and_stop_nothing(clerk: ClerkStandIn, places: range) -> None:
    users = populate(clerk, 600)
    for place, odd in zip(places, ODD, strict=True):
        clerk.users.shown[users[place]] = odd
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        pages = [page async for page in directory.pages()]
    assert met(pages) == [user for place, user in enumerate(users) if place not in places]
    assert sum(page.odd for page in pages) == len(ODD)


async def test_a_page_of_odd_users_only_is_not_taken_for_the_end(clerk: ClerkStandIn) -> None:
    users = populate(clerk, 1100)
    clerk.users.shown = dict.fromkeys(users[500:1000])
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        pages = directory.pages()
        first = await anext(pages)
        with pytest.raises(DirectoryUnavailable, match="none has an id") as caught:
            await anext(pages)
    assert caught.value.cursor == first.cursor


@pytest.mark.parametrize("created_at", [0, 2**52, None, "soon", True, 1.5])
async def test_one_odd_time_of_creation_hides_nobody(clerk: ClerkStandIn, created_at: object) -> None:
    users = populate(clerk, 1300)
    for place in (0, 250, 499, 500, 999):
        clerk.users.shown[users[place]] = {"id": users[place], "created_at": created_at}
    clerk.users.quirks = {Quirk.GONE_CURSOR_IS_THE_END}
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        assert met([page async for page in directory.pages()]) == users


async def test_of_a_user_only_the_id_is_relied_upon(clerk: ClerkStandIn) -> None:
    users = populate(clerk, 8)
    verified = {"id": "idn_1", "verification": {"status": "verified"}}
    rests: list[dict[str, object]] = [
        {"primary_email_address_id": "idn_1", "email_addresses": [verified]},
        {"primary_email_address_id": "idn_2", "email_addresses": [verified]},
        {"primary_email_address_id": None, "email_addresses": [verified]},
        {"primary_email_address_id": "idn_1", "email_addresses": None},
        {"primary_email_address_id": "idn_1", "email_addresses": [None, 5, {"id": "idn_1"}]},
        {"primary_email_address_id": "idn_1", "email_addresses": [{"id": "idn_1", "verification": None}]},
        {"primary_email_address_id": ["idn_1"], "email_addresses": {"idn_1": verified}},
        {},
    ]
    for user, rest in zip(users, rests, strict=True):
        clerk.users.shown[user] = {"id": user, **rest}
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        page = await anext(directory.pages())
    assert page.users == tuple(DirectoryUser(user, number == 0) for number, user in enumerate(users))
    assert page.odd == 0


async def test_one_user_is_found_by_its_id(clerk: ClerkStandIn) -> None:
    verified = clerk.sign_up(email="a@example.com")
    unverified = clerk.sign_up(email="b@example.com", verified=False)
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        assert await directory.user(verified) == DirectoryUser(verified, True)
        assert await directory.user(unverified) == DirectoryUser(unverified, False)
        clerk.update_user(verified, role="admin")
        assert await directory.user(verified) == DirectoryUser(verified, True, role="admin")
        for metadata in ({"role": 5}, {"role": ["admin"]}, ["role"], "admin", None):
            clerk.users.shown[verified] = {"id": verified, "public_metadata": metadata}
            assert await directory.user(verified) == DirectoryUser(verified, False, role=None)
        clerk.users.shown.clear()
        for stranger in ("user_x", "count", "a/b", "..", "%2e", "é", "?limit=1"):
            assert await directory.user(stranger) is None, stranger
        clerk.delete_user(verified)
        assert await directory.user(verified) is None
        clerk.users.shown[unverified] = {"id": "user_other"}
        with pytest.raises(DirectoryUnavailable, match="something else"):
            await directory.user(unverified)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_not_taken_is_said_so_at_once(clerk: ClerkStandIn, status: int) -> None:
    clerk.fail("/v1/users", Fault(status=status))
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        with pytest.raises(DirectoryRefused, match="does not take the secret key") as caught:
            await anext(directory.pages())
    assert clerk.secret_key not in str(caught.value)
    assert clerk.requests["/v1/users"] == 1


async def test_another_instance_s_key_is_not_taken(clerk: ClerkStandIn) -> None:
    async with ClerkDirectory.connect(clerk.url, "sk_test_of_another") as directory:
        with pytest.raises(DirectoryRefused, match="CLERK_SECRET_KEY"):
            await directory.count()


async def test_the_key_follows_no_redirect(clerk: ClerkStandIn) -> None:
    async with ClerkStandIn() as elsewhere:
        clerk.fail("/v1/users", Fault(status=307, headers={"location": f"{elsewhere.url}/v1/users"}))
        async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
            with pytest.raises(DirectoryRefused, match="not Clerk's API"):
                await anext(directory.pages())
        assert not elsewhere.requests


async def test_what_is_not_clerk_s_api_is_said_so(clerk: ClerkStandIn) -> None:
    async with ClerkDirectory.connect(f"{clerk.url}/elsewhere", clerk.secret_key) as directory:
        with pytest.raises(DirectoryRefused, match="CLERK_API_URL"):
            await anext(directory.pages())


@pytest.mark.parametrize("body", [b"{}", b"null", b'"users"', b'{"data": [], "total_count": 0}'])
async def test_an_answer_that_is_no_list_is_not_taken_for_the_end(clerk: ClerkStandIn, body: bytes) -> None:
    clerk.fail("/v1/users", Fault(status=200, body=body))
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        with pytest.raises(DirectoryUnavailable, match="not a list"):
            await anext(directory.pages())


async def test_a_count_that_is_none_is_not_taken_for_zero(clerk: ClerkStandIn) -> None:
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        for body in (
            b"[]",
            b"{}",
            b'{"total_count": null}',
            b'{"total_count": true}',
            b'{"total_count": -1}',
        ):
            clerk.fail("/v1/users/count", Fault(status=200, body=body), times=1)
            with pytest.raises(DirectoryUnavailable, match="total_count"):
                await directory.count()


async def test_v1_may_be_part_of_the_url(clerk: ClerkStandIn) -> None:
    async with ClerkDirectory.connect(f"{clerk.url}/v1/", clerk.secret_key) as directory:
        assert await directory.count() == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.clerk.com",
        "http://api.clerk.com",
        "https://",
        "ftp://127.0.0.1",
        "https://me:pw@api.clerk.com",
        "http://[::1",
    ],
)
async def test_the_key_goes_nowhere_in_the_clear(url: str) -> None:
    with pytest.raises(DirectoryRefused, match="must be https"):
        async with ClerkDirectory.connect(url, "sk_test_x"):
            pass


@pytest.mark.parametrize("key", ["", "pk_test_x", "sk_test\n_x", "sk_té"])
async def test_what_cannot_be_a_secret_key_is_not_sent(key: str) -> None:
    with pytest.raises(DirectoryRefused, match="must begin with sk_") as caught:
        async with ClerkDirectory.connect("https://api.clerk.com", key):
            pass
    assert not key or key not in str(caught.value)


async def test_the_environment_s_proxies_are_not_used(
    clerk: ClerkStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key, patience=HURRIED) as directory:
        assert await directory.count() == 0


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(clerk: ClerkStandIn) -> None:
    populate(clerk, 10)
    async with api_client(clerk.url, clerk.secret_key) as http:
        with pytest.raises(NoAnswer, match="larger than 1000 bytes"):
            await ask(http, "/users", within_s=5, bytes_max=1000)
        assert (await ask(http, "/users", within_s=5)).status == 200
        assert (await PatientApi(http, HURRIED).get("/users")).status == 200
