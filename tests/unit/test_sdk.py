"""Keys, models, errors and intents, without a store."""

import json
from typing import Any

import pytest
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

import sparked_credits
from sparked_credits import (
    CaptureExceedsHold,
    ChargeIntent,
    CreditsError,
    Entry,
    HoldSettled,
    InvalidIntent,
    LimitExceeded,
    Receipt,
    RefundExceedsCharge,
    Rejected,
    Status,
    StoreRefused,
    Unavailable,
)
from sparked_credits.errors import refusal, store_errors
from sparked_credits.intents import METADATA_BYTES_MAX, GrantIntent, OpenIntent, checked_name
from sparked_credits.keys import Keys, shard_of
from sparked_credits.store import Store
from sparked_workers.witness import Witness


def test_the_root_exposes_its_public_face_and_nothing_else() -> None:
    exposed = {
        name
        for name, value in vars(sparked_credits).items()
        if not name.startswith("_") and not hasattr(value, "__path__") and type(value).__name__ != "module"
    }
    assert sparked_credits.__all__ == sorted(sparked_credits.__all__)
    assert exposed == set(sparked_credits.__all__)


@pytest.mark.parametrize(("user", "shard"), [("user_2abc", 15), ("ada", 8), ("grace", 3), ("ø", 12)])
def test_a_user_never_moves_to_another_shard(user: str, shard: int) -> None:
    assert shard_of(user, 16) == shard


def test_all_keys_of_a_shard_carry_its_hash_tag() -> None:
    keys = Keys("ns")
    assert keys.receipt(7, "ada", "chat", "k:1") == "ns:{7}:receipt:ada:chat:k:1"
    # lua/shard.lua takes a shard's prefix from the name of its meta key.
    assert keys.meta(7) == keys.prefix(7) + "meta"
    for name in (
        keys.meta(7),
        keys.intents(7),
        keys.control(7),
        keys.account(7, "ada"),
        keys.accounts(7),
        keys.checkpoint(7, "ada"),
        keys.due(7),
        keys.entries(7, "ada"),
        keys.hold(7, "ada", "chat", "k"),
        keys.holds(7, "ada"),
        keys.outbox(7),
        keys.settings(7, "ada"),
    ):
        assert name.startswith("ns:{7}:")


CHARGE: dict[str, Any] = {"user": "ada", "key": "k1", "amount": 10, "action": "chat_message"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"amount": 0}, "amount: must be at least 1"),
        ({"amount": -5}, "amount: must be at least 1"),
        ({"amount": 1.5}, "amount: must be a whole number"),
        ({"amount": True}, "amount: must be a whole number"),
        ({"amount": "10"}, "amount: must be a whole number"),
        ({"amount": 2**53}, "amount: must be a whole number"),
        ({"amount": None}, "amount: must be a whole number"),
        ({"user": ""}, "user: must be 1 to 128"),
        ({"user": "a:b"}, "user: must be 1 to 128"),
        ({"user": "a{b}"}, "user: must be 1 to 128"),
        ({"user": "a b"}, "user: must be 1 to 128"),
        ({"user": "a\n"}, "user: must be 1 to 128"),
        ({"user": "a\u00a0b"}, "user: must be 1 to 128"),
        ({"user": "a\u200bb"}, "user: must be 1 to 128"),
        ({"user": "x" * 129}, "user: must be 1 to 128"),
        ({"user": 7}, "user: must be 1 to 128"),
        ({"key": ""}, "key: must be 1 to 255"),
        ({"key": "a b"}, "key: must be 1 to 255"),
        ({"key": "x" * 256}, "key: must be 1 to 255"),
        ({"action": ""}, "action: must be 1 to 64"),
        ({"action": 'x"y'}, "action: must be 1 to 64"),
        ({"metadata": {1: 2}}, "metadata"),
        ({"metadata": {"a": object()}}, "metadata"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_malformed_intent_says_what_is_wrong_and_what_would_be_right(
    change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidIntent, match=complaint):
        ChargeIntent.checked(**{**CHARGE, **change})


def test_the_largest_amount_is_two_to_the_53_less_one() -> None:
    assert ChargeIntent.checked(**{**CHARGE, "amount": 2**53 - 1}).amount == 2**53 - 1


def test_an_account_may_be_opened_with_nothing_but_nothing_cannot_be_granted() -> None:
    assert OpenIntent.checked(user="ada", key="open", amount=0).amount == 0
    with pytest.raises(InvalidIntent, match="at least 1"):
        GrantIntent.checked(user="ada", key="g1", amount=0)


def test_metadata_is_bounded_and_must_be_json() -> None:
    with pytest.raises(InvalidIntent, match="at most 4096"):
        ChargeIntent(**CHARGE, metadata={"a": "x" * METADATA_BYTES_MAX}).metadata_json()
    with pytest.raises(InvalidIntent, match="metadata"):
        ChargeIntent(**CHARGE, metadata={"a": float("nan")}).metadata_json()
    with pytest.raises(InvalidIntent, match="metadata"):
        ChargeIntent(**CHARGE, metadata={"a": "\ud800"}).metadata_json()
    assert ChargeIntent(**CHARGE, metadata={"a": "ø"}).metadata_json() == '{"a":"ø"}'


def test_a_name_that_is_not_text_is_refused() -> None:
    with pytest.raises(InvalidIntent, match="app: must be"):
        checked_name("app", None)


DETAILS: dict[Status, dict[str, Any]] = {
    Status.INSUFFICIENT_CREDITS: {},
    Status.LIMIT_EXCEEDED: {"limit": 100, "spent": 60, "window": "day", "resets_at": 1700006400000},
    Status.REFUND_EXCEEDS_CHARGE: {"refundable": 20},
    Status.HOLD_SETTLED: {"how": "voided", "settled_at": 1700000000000},
    Status.CAPTURE_EXCEEDS_HOLD: {"hold": 40},
    Status.TOO_MANY_HOLDS: {"most": 256},
    Status.TOO_MANY_LOTS: {"most": 64},
    Status.TOO_MANY_LIMITS: {"most": 16},
}
"""What a refusal holds beside what all of them do."""

NOT_FINAL = {Status.FOREIGN_EPOCH: StoreRefused, Status.STALE: Unavailable}


def receipt(status: Status) -> Receipt:
    stored = [
        1,
        status,
        "charge",
        50,
        "canvas",
        40,
        0,
        3,
        1700000000000,
        DETAILS.get(status, {}),
        "of a later version",
    ]
    return Receipt.from_stored("ada", "chat", "k1", stored, replayed=False)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.APPLIED])
def test_each_refusal_is_an_error_of_its_own(status: Status) -> None:
    error = refusal(receipt(status))
    assert isinstance(error, NOT_FINAL.get(status, Rejected))
    assert (type(error) is Rejected) is (status is Status.OTHER)
    assert json.dumps(error.as_dict())


def test_a_refusal_carries_what_was_required_and_available() -> None:
    error = refusal(receipt(Status.INSUFFICIENT_CREDITS))
    assert isinstance(error, Rejected)
    assert (error.required, error.available) == (50, 40)
    assert error.as_dict()["error"] == "InsufficientCredits"
    assert (error.as_dict()["required"], error.as_dict()["available"]) == (50, 40)


def test_a_refusal_carries_what_helps_to_go_on() -> None:
    limit = refusal(receipt(Status.LIMIT_EXCEEDED))
    assert isinstance(limit, LimitExceeded)
    assert (limit.limit, limit.spent, limit.window, limit.resets_at) == (100, 60, "day", 1700006400000)
    refund = refusal(receipt(Status.REFUND_EXCEEDS_CHARGE))
    assert isinstance(refund, RefundExceedsCharge)
    assert refund.refundable == 20
    settled = refusal(receipt(Status.HOLD_SETTLED))
    assert isinstance(settled, HoldSettled)
    assert (settled.how, settled.settled_at) == ("voided", 1700000000000)
    capture = refusal(receipt(Status.CAPTURE_EXCEEDS_HOLD))
    assert isinstance(capture, CaptureExceedsHold)
    assert capture.held_amount == 40


def test_a_limit_that_is_below_the_charge_never_resets() -> None:
    stored = [
        1,
        "limit_exceeded",
        "charge",
        50,
        "x",
        40,
        0,
        3,
        1,
        {**DETAILS[Status.LIMIT_EXCEEDED], "resets_at": 0},
    ]
    error = refusal(Receipt.from_stored("ada", "chat", "k1", stored, replayed=False))
    assert isinstance(error, LimitExceeded)
    assert error.resets_at is None


def test_an_entry_reads_what_later_versions_add() -> None:
    fields = {
        b"v": b"2",
        b"kind": b"charge",
        b"amount": b"-10",
        b"posted": b"90",
        b"action": b"x",
        b"key": b"k",
    }
    entry = Entry.from_stored(
        b"1700000000000-2", fields | {b"origin": b"chat", b"metadata": b"", b"mood": b"new"}
    )
    assert (entry.at, entry.seq, entry.amount, dict(entry.metadata)) == (1700000000000, 2, -10, {})
    assert json.dumps(entry.as_dict())


@pytest.mark.parametrize(
    "error",
    [RedisError(), StoreConnectionError("gone"), OutOfMemoryError("OOM"), ReadOnlyError(""), ResponseError("x"),
     OSError("broken"), TimeoutError()],
)  # fmt: skip
def test_the_stores_errors_stop_at_our_edge(error: Exception) -> None:
    with (
        pytest.raises(Unavailable, match="reading: the store did not answer") as raised,
        store_errors("reading"),
    ):
        raise error
    assert isinstance(raised.value, CreditsError)


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://h", "valkey://h", "valkeys://h", "unix:///s", "redis+cluster://h"]
)
def test_each_scheme_that_is_promised_is_taken(url: str) -> None:
    assert Store(url).is_cluster == ("cluster" in url)


def test_a_password_in_a_url_never_reaches_an_error_message() -> None:
    with pytest.raises(StoreRefused) as refused:
        Store("ftp://ada:hunter2@host")
    assert "hunter2" not in str(refused.value)


def test_a_witness_keeps_the_highest_of_what_several_workers_saw(tmp_path: Any) -> None:
    path = tmp_path / "deep" / "witness.json"
    first, second = Witness(path, "e"), Witness(path, "e")
    first.see(0, (0, 10))
    first.save()
    second.see(0, (0, 7))
    second.see(1, (1, 3))
    second.save()
    assert [Witness(path, "e").mark(shard) for shard in (0, 1, 2)] == [(0, 10), (1, 3), (0, 0)]
    with pytest.raises(StoreRefused, match="foreign"):
        Witness(path, "another")
    path.write_text("{")
    with pytest.raises(StoreRefused, match="cannot be read"):
        Witness(path, "e")


def test_a_refusal_of_a_newer_worker_is_a_rejection() -> None:
    """Workers are upgraded before apps."""
    receipt = Receipt.from_stored(
        "ada", "chat", "k", [1, "sanctioned", "charge", 1, "x", 0, 0, 1, 1], replayed=False
    )
    assert type(refusal(receipt)) is Rejected
