"""What is read over HTTP is what the SDK says."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import System
from tests.integration.gateway_callers import USER, Client, refused
from tests.integration.listening import Stage

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

ACCOUNT = f"/v1/users/{USER}"


@pytest.fixture
async def history(chat: Client, backoffice: Client) -> None:
    """A charge, a hold, a grant that expires, limits."""
    await chat.charge("k1", 10, metadata={"html": "<script>"})
    await chat.write("/v1/holds", "h1", user=USER, amount=20, action="training")
    await chat.write("/v1/charges", "k2", user=USER, action="video", price="video_generation", quantity=2)
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    await backoffice.write("/v1/admin/grants", "g1", user=USER, amount=5, reason="gift", expires_at=soon)
    await backoffice.write("/v1/admin/limits", "l1", user=USER, amount=500, window="month")


@pytest.mark.usefixtures("history")
async def test_each_read_says_what_the_sdk_says(system: System, chat: Client) -> None:
    year = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00+02:00"}
    async with system.credits("chat") as credits_:
        assert (await chat.get(ACCOUNT)).json() == (await credits_.account(USER)).as_dict()
        balance = (await credits_.balance(USER)).as_dict()
        assert (await chat.get(f"{ACCOUNT}/balance")).json() == {"user": USER, **balance}
        lots = [lot.as_dict() for lot in await credits_.lots(USER)]
        assert (await chat.get(f"{ACCOUNT}/lots")).json() == {"lots": lots}
        (hold,) = await credits_.holds(USER)
        told = (await chat.get(f"{ACCOUNT}/holds")).json()
        assert told == {"holds": [{**hold.as_dict(), "state": "open"}]}
        entries = [entry.as_dict() for entry in (await credits_.history(USER)).entries]
        assert len(entries) == 6
        assert (await chat.get(f"{ACCOUNT}/history")).json() == {"entries": entries, "next": None}
        period = [datetime.fromisoformat(moment) for moment in year.values()]
        statement = await credits_.statement(USER, period[0], period[1])
        assert (await chat.get(f"{ACCOUNT}/statement", params=year)).json() == statement.as_dict()
        receipt = await credits_.receipt(USER, "k1")
        assert receipt is not None
        assert (await chat.get(f"/v1/receipts/{USER}/k1")).json() == receipt.as_dict()


@pytest.mark.usefixtures("history")
async def test_history_is_read_in_pages_and_by_what_is_asked_for(chat: Client) -> None:
    async def keys(**query: str | int | bool) -> list[str]:
        answer = await chat.get(f"{ACCOUNT}/history", params=query)
        assert answer.status_code == 200, answer.text
        return [entry["key"] for entry in answer.json()["entries"]]

    first = (await chat.get(f"{ACCOUNT}/history", params={"limit": 4})).json()
    assert [entry["key"] for entry in first["entries"]] == ["l1", "g1", "k2", "h1"]
    assert await keys(before=first["next"]) == ["k1", "open"]
    assert await keys(oldest_first=True, limit=2) == ["open", "k1"]
    assert await keys(kind="charge") == ["k2", "k1"]
    assert await keys(action="training") == ["h1"]
    assert await keys(app="system", kind="grant") == ["g1"]
    assert await keys(since="2100-01-01T00:00:00Z") == []


async def test_what_cannot_be_asked_is_told(chat: Client) -> None:
    for path, detail in {
        "history?limit=0": "limit: must be greater than or equal to 1, not '0'",
        "history?limit=x": "limit: must be a valid integer, unable to parse string as an integer, not 'x'",
        "history?limit=1&limit=2": "the query must name each parameter once",
        "history?limti=1": "limti: is unknown; the query may have: action, after, app, before, kind, ",
        "history?before=x": "before: must be a page's `next`",
        "history?after=1-1": "after: belongs to oldest_first=True",
        "history?since=1700000000": "since: must be a time with its zone, such as 2026-11-30T12:00:00Z",
        "history?since=2026-11-30": "since: must be a time with its zone",
        "history?since=2026-11-30T00:00:00+01:00": "since: must be a time with its zone, such as 2026-11-30T12:00:00Z "
        "(a + is %2B in a query), not '2026-11-30T00:00:00 01:00'",
        "history?kind=%FF": "the query must be percent-encoded UTF-8",
        "balance?at=": "at: must be a time with its zone",
        "statement": "since: is missing; until: is missing",
        "statement?since=2026-11-30T00:00:00Z&until=2026-11-30T00:00:00Z": "since: must be earlier than until",
        "lots?all=1": "all: is unknown; the query may have: none",
    }.items():
        answer = await chat.get(f"{ACCOUNT}/{path}")
        assert refused(answer) == (400, "invalid-request"), path
        assert answer.json()["detail"].startswith(detail), answer.json()["detail"]


async def test_users_and_keys_that_cannot_be(chat: Client) -> None:
    for user in ("a%20b", "a%3Ab", "%7B", "%00", "x" * 129, "%FF", "%ED%A0%80"):
        for path in (f"/v1/users/{user}", f"/v1/users/{user}/balance", f"/v1/receipts/{user}/k"):
            assert refused(await chat.get(path)) == (400, "invalid-request"), path
    assert refused(await chat.get(f"/v1/receipts/{USER}/a%20b")) == (400, "invalid-request")
    assert refused(await chat.get(f"/v1/receipts/{USER}/k?origin=a:b")) == (400, "invalid-request")
    for what in ("", "/balance", "/history", "/holds", "/lots"):
        assert refused(await chat.get(f"/v1/users/nobody{what}")) == (404, "account-not-found")
    assert refused(await chat.get(f"/v1/receipts/{USER}/k1")) == (404, "not-found")


async def test_a_balance_of_the_past(chat: Client) -> None:
    first = (await chat.charge("k1", 10)).json()["at"]
    second = (await chat.charge("k2", 10)).json()["at"]
    at = datetime.fromtimestamp(second / 1000, UTC)
    assert (await chat.get(f"{ACCOUNT}/balance", params={"at": at.isoformat()})).json()["available"] == 80
    early = datetime.fromtimestamp(first / 1000 - 3600, UTC).isoformat()
    assert refused(await chat.get(f"{ACCOUNT}/balance", params={"at": early})) == (404, "account-not-found")


async def test_a_receipt_of_another_app_is_read_by_naming_it(chat: Client, backoffice: Client) -> None:
    await backoffice.write("/v1/admin/grants", "g1", user=USER, amount=5, reason="gift")
    assert refused(await chat.get(f"/v1/receipts/{USER}/g1")) == (404, "not-found")
    assert (await chat.get(f"/v1/receipts/{USER}/g1?origin=system")).json()["kind"] == "grant"
    await chat.charge("k/1", 10)
    assert (await backoffice.get(f"/v1/receipts/{USER}/k/1?origin=chat")).json()["amount"] == 10


async def test_prices_are_those_of_the_book(chat: Client) -> None:
    prices = (await chat.get("/v1/prices")).json()["prices"]
    assert prices["chat_message"]["fixed"] == 10
    video = prices["video_generation"]
    assert (video["unit"], video["tiers"]) == ("second", [{"up_to": None, "per_unit": "10"}])


async def test_people_see_their_own_account_only(gateway: Stage, chat: Client, backoffice: Client) -> None:
    await backoffice.write("/v1/admin/accounts", "open", user="user_1", initial=7)
    async with Client(gateway.url, gateway.token("user_1")) as person:
        assert (await person.get("/me/balance")).json() == {
            "user": "user_1",
            "posted": 7,
            "held": 0,
            "available": 7,
        }
        assert [entry["amount"] for entry in (await person.get("/me/history")).json()["entries"]] == [7]
        assert refused(await person.get(f"/me/balance?user={USER}")) == (400, "invalid-request")
        assert refused(await person.get(f"/me/history?user={USER}")) == (400, "invalid-request")
        assert refused(await person.get(f"{ACCOUNT}/balance")) == (403, "forbidden")
    async with Client(gateway.url, gateway.token("user_2")) as person:
        assert refused(await person.get("/me/balance")) == (404, "account-not-found")
    async with Client(gateway.url, gateway.admin_token()) as admin:
        assert (await admin.get(f"{ACCOUNT}/balance")).json()["available"] == 100
