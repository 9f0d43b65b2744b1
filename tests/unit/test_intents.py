"""What each kind of intent puts into the queue beside what all have, and what makes a replay of it."""

from typing import Any

import pytest

from sparked_credits import InvalidIntent, Price, Priority, Window
from sparked_credits.intents import (
    EXPIRES_IN_MS_MAX,
    AdjustIntent,
    CaptureIntent,
    ChargeIntent,
    CheckpointIntent,
    DebtIntent,
    FreezeIntent,
    GrantIntent,
    HoldIntent,
    Intent,
    LimitIntent,
    OpenIntent,
    PostChargeIntent,
    RebuildIntent,
    RefundIntent,
    ThresholdsIntent,
    VoidIntent,
)

SUMS = {"id": "1700000000000-7", "posted": "90", "held": "0", "lots": "", "state": "open"}
VIDEO = Price("video_generation", "12.5", "10", "2026-11")
VIDEO_JSON = '{"name":"video_generation","quantity":"12.5","unit_price":"10","version":"2026-11"}'


def make(kind: type[Intent], **fields: Any) -> Intent:
    return kind.checked(user="ada", key="k1", **fields)


PLAIN = [
    make(ChargeIntent, amount=10, action="chat_message"),
    make(PostChargeIntent, amount=10, action="training_job"),
    make(OpenIntent, amount=100),
    make(GrantIntent, amount=100),
    make(AdjustIntent, amount=-5),
    make(FreezeIntent),
    make(DebtIntent, amount=50),
]


@pytest.mark.parametrize("intent", PLAIN, ids=lambda intent: intent.kind)
def test_what_is_told_by_kind_amount_and_action_needs_no_terms(intent: Intent) -> None:
    assert intent.terms() is None
    assert intent.more() == {}


OF = {"of": "k0", "of_origin": "chat"}

SPECIAL: list[tuple[Intent, str | None, dict[str, str]]] = [
    (
        make(ChargeIntent, amount=125, action="video", price=VIDEO),
        "video*video_generation*12.5",
        {"price": VIDEO_JSON},
    ),
    (
        make(PostChargeIntent, amount=125, action="video", price=VIDEO),
        "video*video_generation*12.5",
        {"price": VIDEO_JSON},
    ),
    (
        make(HoldIntent, amount=50, action="video", expires_in_ms=60_000),
        "video:50:60000",
        {"expires_in": "60000"},
    ),
    (
        make(HoldIntent, amount=125, action="video", expires_in_ms=60_000, price=VIDEO),
        "video*video_generation*12.5:60000",
        {"expires_in": "60000", "price": VIDEO_JSON},
    ),
    (make(RefundIntent, **OF), "0:chat:k0", OF),
    (make(RefundIntent, **OF, amount=5, keep_expired=True), "5:chat:k0", {**OF, "keep_expired": "1"}),
    (make(CaptureIntent, **OF, amount=5), "5:chat:k0", OF),
    (make(CaptureIntent, **OF, amount=5, allow_excess=True), "excess:5:chat:k0", {**OF, "excess": "1"}),
    (make(VoidIntent, **OF), "0:chat:k0", OF),
    (
        make(GrantIntent, amount=100, priority=Priority.PROMOTIONAL),
        "100:promotional:never",
        {"priority": "promotional", "expires_at": ""},
    ),
    (
        make(GrantIntent, amount=100, expires_at_ms=1_800_000_000_000),
        "100:paid:1800000000000",
        {"priority": "paid", "expires_at": "1800000000000"},
    ),
    (make(AdjustIntent, amount=-5, force=True), "-5:force", {"force": "1"}),
    (make(LimitIntent, amount=100, window=Window.DAY), "100:day:*", {"window": "day", "of_action": "*"}),
    (
        make(LimitIntent, window=Window.MONTH, of_action="video", remove=True),
        "none:month:video",
        {"window": "month", "of_action": "video", "remove": "1"},
    ),
    (make(ThresholdsIntent, thresholds=(50, 10, 50)), "thresholds:10,50", {"thresholds": "10 50"}),
    (make(ThresholdsIntent, thresholds=()), "thresholds:", {"thresholds": ""}),
    (make(RebuildIntent, sums=SUMS), None, SUMS),
    (make(CheckpointIntent, sums=SUMS), None, SUMS),
]


@pytest.mark.parametrize(("intent", "terms", "more"), SPECIAL, ids=lambda each: getattr(each, "kind", ""))
def test_what_needs_more_says_so(intent: Intent, terms: str | None, more: dict[str, str]) -> None:
    assert intent.terms() == terms
    assert intent.more() == more


ALL_HAVE = {
    *("v", "epoch", "kind", "user", "origin", "key", "amount", "action", "metadata"),
    *("client", "ticket", "deadline", "terms"),
}


@pytest.mark.parametrize("intent", [special[0] for special in SPECIAL], ids=lambda intent: intent.kind)
def test_no_kinds_own_field_takes_the_place_of_one_that_all_have(intent: Intent) -> None:
    assert not intent.more().keys() & ALL_HAVE


def test_a_retry_is_recognised_by_its_quantity_though_the_price_changed() -> None:
    dearer = Price("video_generation", "12.5", "20", "2027-01")
    longer = Price("video_generation", "13", "10", "2026-11")
    first, again, another = (
        make(ChargeIntent, amount=amount, action="video", price=price)
        for amount, price in ((125, VIDEO), (250, dearer), (130, longer))
    )
    assert first.terms() == again.terms() != another.terms()


@pytest.mark.parametrize(
    ("kind", "fields", "complaint"),
    [
        (HoldIntent, {"amount": 0, "action": "x", "expires_in_ms": 1000}, "amount: must be at least 1"),
        (HoldIntent, {"amount": 1, "action": "x", "expires_in_ms": 999}, "expires_in_ms"),
        (HoldIntent, {"amount": 1, "action": "x", "expires_in_ms": EXPIRES_IN_MS_MAX + 1}, "expires_in_ms"),
        (RefundIntent, {"of": "", "of_origin": "chat"}, "of: must be"),
        (RefundIntent, {"of": "k0", "of_origin": "a:b"}, "of_origin: must be"),
        (RefundIntent, {**OF, "amount": -1}, "amount: must be at least 0"),
        (CaptureIntent, {**OF, "amount": 1.5}, "amount: must be a whole number"),
        (GrantIntent, {"amount": 1, "priority": "free"}, "priority: must be"),
        (AdjustIntent, {"amount": -(2**53)}, "amount: must be"),
        (LimitIntent, {"amount": -1, "window": Window.DAY}, "amount: must be at least 0"),
        (LimitIntent, {"amount": 1, "window": "week"}, "window: must be"),
        (ThresholdsIntent, {"thresholds": (0,)}, r"thresholds\.0: must be"),
        (ThresholdsIntent, {"thresholds": tuple(range(1, 18))}, "thresholds: must be"),
        (DebtIntent, {"amount": True}, "amount: must be a whole number"),
    ],
)
def test_each_kind_checks_its_own_fields(kind: type[Intent], fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidIntent, match=complaint):
        make(kind, **fields)
