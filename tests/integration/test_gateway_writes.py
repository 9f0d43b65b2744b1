"""What apps and admins write over HTTP is what the SDK would have written."""

from typing import Any

import pytest

from sparked_credits import Balance
from tests.conftest import System
from tests.integration.gateway_callers import USER, Client, problem, refused
from tests.integration.listening import Stage

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


async def test_a_charge_is_answered_with_its_receipt(system: System, chat: Client) -> None:
    answer = await chat.charge("k1", 30, metadata={"model": "large"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    async with system.credits("chat") as credits_:
        receipt = await credits_.receipt(USER, "k1")
        assert receipt is not None
        assert answer.json() == {**receipt.as_dict(), "replayed": False}
        (entry, _) = (await credits_.history(USER)).entries
    assert (receipt.amount, receipt.available, receipt.origin) == (30, 70, "chat")
    assert entry.metadata == {"model": "large"}


async def test_what_is_not_there_is_not_charged(chat: Client) -> None:
    answer = await chat.charge("k1", 101)
    assert refused(answer) == (402, "insufficient-credits")
    body = answer.json()
    assert (body["required"], body["available"], body["receipt"]["status"]) == (
        101,
        100,
        "insufficient_credits",
    )
    assert await chat.available() == 100


async def test_a_price_of_the_book_says_how_much(chat: Client) -> None:
    by_price = {"user": USER, "action": "video", "price": "video_generation"}
    answer = await chat.write("/v1/charges", "k1", **by_price, quantity="1.5")
    assert answer.json()["amount"] == 15
    answer = await chat.write("/v1/charges", "k2", **by_price, quantity=2.25)
    assert answer.json()["amount"] == 23
    answer = await chat.write("/v1/charges", "k3", user=USER, action="chat_message")
    assert answer.json()["amount"] == 10
    answer = await chat.write("/v1/charges", "k4", **by_price, quantity=1, amount=1)
    assert refused(answer) == (400, "invalid-request")
    assert answer.json()["detail"].startswith("amount: must be left out")
    answer = await chat.write("/v1/charges", "k5", user=USER, action="chat_mesage")
    assert "nearest: chat_message" in answer.json()["detail"]


async def test_a_charge_is_given_back_whole_or_in_part(chat: Client, backoffice: Client) -> None:
    await chat.charge("k1", 50)
    part = await chat.write("/v1/refunds", "r1", user=USER, of="k1", amount=20)
    assert (part.json()["amount"], part.json()["available"]) == (20, 70)
    rest = await chat.write("/v1/refunds", "r2", user=USER, of="k1")
    assert (rest.json()["amount"], rest.json()["available"]) == (30, 100)
    assert refused(await chat.write("/v1/refunds", "r3", user=USER, of="k1", amount=1)) == (
        409,
        "refund-exceeds-charge",
    )
    assert refused(await chat.write("/v1/refunds", "r4", user=USER, of="other")) == (404, "charge-not-found")

    await chat.charge("k2", 40)
    body = {"user": USER, "of": "k2", "origin": "chat", "reason": "as asked"}
    assert (await backoffice.write("/v1/admin/refunds", "r5", **body)).json()["amount"] == 40


async def test_a_hold_is_captured_or_voided_even_if_its_key_has_a_slash(chat: Client) -> None:
    held = await chat.write("/v1/holds", "job/1", user=USER, amount=60, action="training", expires_in=60)
    assert (held.json()["held"], held.json()["available"]) == (60, 40)
    path = f"/v1/users/{USER}/holds/job/1/capture"
    assert refused(await chat.write(path, "c1", amount=61)) == (409, "capture-exceeds-hold")
    captured = await chat.write(path.replace("job/1", "job%2F1"), "c2", amount=45)
    assert (captured.json()["amount"], captured.json()["available"]) == (45, 55)
    assert refused(await chat.write(path, "c3", amount=45)) == (409, "hold-settled")

    await chat.write("/v1/holds", "job/2/capture", user=USER, amount=5, action="training")
    voided = await chat.post(f"/v1/users/{USER}/holds/job/2/capture/void", headers={"idempotency-key": "v1"})
    assert (voided.json()["kind"], voided.json()["available"]) == ("void", 55)
    assert refused(await chat.write(f"/v1/users/{USER}/holds/other/void", "v2")) == (404, "hold-not-found")


async def test_a_user_may_have_a_slash_or_markup_in_the_name(
    system: System, chat: Client, backoffice: Client
) -> None:
    for user, in_path in (("org/ada", "org%2Fada"), ("<b>é%</b>", "%3Cb%3E%C3%A9%25%3C%2Fb%3E")):
        await backoffice.write("/v1/admin/accounts", "open", user=user, initial=10)
        held = await chat.write("/v1/holds", "<i>k</i>", user=user, amount=4, action="a/b")
        assert held.json()["user"] == user
        path = f"/v1/users/{in_path}/holds/%3Ci%3Ek%3C%2Fi%3E/capture"
        assert (await chat.write(path, "c")).json()["key"] == "c"
        balance = await chat.get(f"/v1/users/{in_path}/balance")
        assert balance.json() == {"user": user, "posted": 6, "held": 0, "available": 6}
        assert balance.headers["content-type"] == "application/json"
        assert balance.headers["x-content-type-options"] == "nosniff"


async def test_a_spend_limit_and_a_frozen_account_refuse(chat: Client, backoffice: Client) -> None:
    await backoffice.write("/v1/admin/limits", "l1", user=USER, amount=10, window="day", reason="young")
    refusal = await chat.charge("k1", 11)
    assert refused(refusal) == (403, "limit-exceeded")
    assert refusal.json()["receipt"]["details"]["limit"] == 10
    await backoffice.write("/v1/admin/limits", "l2", user=USER, amount=None)
    await backoffice.write("/v1/admin/freeze", "f1", user=USER, reason="looked at")
    assert refused(await chat.charge("k2", 11)) == (403, "account-frozen")
    await backoffice.write("/v1/admin/unfreeze", "u1", user=USER)
    assert (await chat.charge("k3", 11)).status_code == 200
    assert refused(await chat.charge("k4", 1, user="nobody")) == (404, "account-not-found")


WRITES: list[tuple[str, dict[str, Any], str, int]] = [
    ("grants", {"amount": 50, "reason": "gift", "priority": "promotional"}, "grant", 150),
    ("grants", {"amount": 50, "reason": "gift", "expires_at": "2099-01-01T00:00:00+01:00"}, "grant", 150),
    ("adjustments", {"amount": -30, "reason": "mistake"}, "adjust", 70),
    ("adjustments", {"amount": -130, "reason": "mistake", "force": True}, "adjust", -30),
    ("post-charges", {"amount": 30, "action": "training", "metadata": {"job": 1}}, "post_charge", 70),
    ("post-charges", {"price": "chat_message", "action": "chat"}, "post_charge", 90),
    ("freeze", {"reason": "looked at"}, "freeze", 100),
    ("unfreeze", {}, "unfreeze", 100),
    ("close", {"reason": "left"}, "close", 100),
    ("limits", {"amount": 5, "window": "rolling_day", "action": "chat_message"}, "limit", 100),
    ("thresholds", {"thresholds": [10, 50]}, "thresholds", 100),
    ("debts", {"amount": 20}, "debt", 100),
]


async def test_what_an_admin_writes_is_recorded_with_who_and_why(
    system: System, gateway: Stage, backoffice: Client
) -> None:
    async with system.credits() as credits_:
        for number, (what, body, kind, available) in enumerate(WRITES):
            user = f"user_{number}"
            await backoffice.write("/v1/admin/accounts", "open", user=user, initial=100)
            answer = await backoffice.write(f"/v1/admin/{what}", "k1", user=user, **body)
            assert answer.status_code == 200, answer.text
            assert (answer.json()["kind"], answer.json()["available"]) == (kind, available)
            entry = (await credits_.history(user)).entries[0]
            assert (entry.kind, entry.key, entry.origin) == (kind, "k1", "system")
            app, _, key_id = entry.metadata["actor"].partition("/")
            assert (app, len(key_id)) == ("backoffice", 12)
            assert entry.metadata.get("reason") == body.get("reason")


async def test_what_a_person_writes_is_recorded_with_their_id(system: System, gateway: Stage) -> None:
    async with Client(gateway.url, gateway.admin_token()) as person, system.credits() as credits_:
        granted = await person.write("/v1/admin/grants", "g1", user=USER, amount=5, reason="gift")
        assert granted.json()["available"] == 105
        assert (await credits_.history(USER)).entries[0].metadata == {"actor": "user_admin", "reason": "gift"}
        assert refused(await person.charge("k1", 1)) == (403, "forbidden")


async def test_an_account_is_opened_once(system: System, backoffice: Client) -> None:
    opened = await backoffice.write("/v1/admin/accounts", "open", user="bob", initial=7)
    assert opened.json()["available"] == 7
    async with system.admin() as admin:
        # As a sign-up does.
        assert (await admin.open_account("bob", initial=7)).replayed
        assert await admin.balance("bob") == Balance(7, 0)
    assert problem(await backoffice.write("/v1/admin/accounts", "again", user="bob", initial=7)) == (
        "account-exists"
    )
