"""What must be equal between the model and the system after every step."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from sparked_credits.lots import read_lots
from sparked_credits.models import Entry, Hold, Receipt
from tests.property import account as modelled
from tests.property.account import Account, Lots, Taken
from tests.property.model import Event, Model, Outcome
from tests.property.real import Real, Seen

NEAR_MS = 60_000
"""The system's clock goes on during a step; the model's stands still."""

_ELSEWHERE = {"terms", "lots", "refunded", "required", "expires_at", "counted_at", "counted_as", "excess"}
"""Details that are compared by the property that reads them, or by what they lead to."""


def about(at: int | None) -> Any:
    return at if at is None else pytest.approx(at, abs=NEAR_MS)


def compare_receipt(expected: Outcome, found: Receipt, *, took_long: bool) -> None:
    """The answer to one intent."""
    assert found.status.value == expected.status, f"{found}, expected {expected}"
    if expected.status == "idempotency_conflict":
        return
    fields = ("kind", "amount", "action", "posted", "held", "seq", "at", "replayed", "refunded")
    wanted = {name: getattr(expected, name) for name in fields} | {"at": about(expected.at)}
    if took_long:
        del wanted["replayed"]
    if not found.applied and expected.action == "unstated":
        # What a refused refund, capture or void is for is not known, nor the amount where that was "all of it".
        del wanted["action"]
        if not expected.amount:
            del wanted["amount"]
    assert {name: getattr(found, name) for name in wanted} == wanted
    if found.applied:
        compare_lots_taken(expected, found)
        assert found.expires_at == about(expected.details.get("expires_at"))
    if found.status == "insufficient_credits":
        assert found.required == expected.details["required"]
    details = {name: value for name, value in found.details.items() if name not in _ELSEWHERE}
    if expected.status == "limit_exceeded":
        # Of several limits that are exceeded, any may be the one that is named; from then on it is.
        assert details in expected.details["any_of"]
        expected.details["any_of"] = [details]
        return
    more = {name: value for name, value in expected.details.items() if name not in _ELSEWHERE}
    if "settled_at" in more:
        more["settled_at"] = about(more["settled_at"])
    assert details == more


def compare_lots_taken(expected: Outcome, found: Receipt) -> None:
    taken = [(lot.name, lot.available) for lot in found.lots]
    if expected.kind == "capture":
        assert sums(taken) == sums(expected.lots)
    else:
        assert taken == expected.lots


def sums(taken: Taken) -> dict[str, int]:
    """A lot that a hold took from, and then again what was above it, counts once."""
    added: dict[str, int] = {}
    for name, amount in taken:
        added[name] = added.get(name, 0) + amount
    return added


def compare_account(expected: Account | None, found: Seen, now: int) -> None:
    """Numbers, lots, open holds and settings."""
    if expected is None:
        assert (found.account, found.settings, found.open_holds, found.entries) == ({}, {}, {}, [])
        return
    stored = found.account
    wanted = (expected.state, expected.posted, expected.held, len(expected.entries))
    assert (stored["state"], *(int(stored[name]) for name in ("posted", "held", "seq"))) == wanted
    listed = [(lot.name, (lot.available, lot.held)) for lot in read_lots(stored.get("lots", ""))]
    assert listed == [(name, expected.lots[name]) for name in expected.listed()]
    holds = {":".join(hold.name): about(hold.expires_at) for hold in expected.open_holds()}
    assert found.open_holds == holds
    assert int(found.settings.get("debt", 0)) == expected.debt_allowed
    thresholds = tuple(int(word) for word in found.settings.get("thresholds", "").split())
    assert tuple(sorted(thresholds)) == expected.thresholds
    compare_limits(expected, found.settings, now)


def compare_limits(expected: Account, settings: Mapping[str, str], now: int) -> None:
    limits = {}
    for name, text in settings.items():
        if name.startswith("limit:"):
            window, action = name.removeprefix("limit:").split(":", 1)
            amount, _told, *buckets = text.split()
            limit = expected.limits.get((window, action))
            assert limit, f"there should be no limit {window} {action}"
            counted: dict[int, int] = {}
            for bucket, _, spent in (each.partition("=") for each in buckets):
                if int(spent) and limit.counts(int(bucket), now):
                    counted[int(bucket)] = int(spent)
            limits[window, action] = (int(amount), counted)
    assert limits == {name: (limit.amount, limit.counted(now)) for name, limit in expected.limits.items()}


def compare_entries(expected: Iterable[modelled.Entry], found: Iterable[Entry]) -> None:
    """The account's new entries."""
    assert [_stored(entry) for entry in found] == [_modelled(entry) for entry in expected]


def _stored(entry: Entry) -> dict[str, Any]:
    fields = ("kind", "amount", "posted", "held", "hold", "action", "key", "origin", "of")
    lots = {lot.name: (lot.available, lot.held) for lot in entry.lots if lot.available or lot.held}
    return {name: getattr(entry, name) for name in fields} | {"lots": lots}


def _modelled(entry: modelled.Entry) -> dict[str, Any]:
    fields = ("kind", "amount", "posted", "held", "hold", "action")
    return {name: getattr(entry, name) for name in fields} | {
        "lots": {name: change for name, change in entry.lots.items() if change != (0, 0)},
        "origin": entry.name[0],
        "key": entry.name[1],
        "of": entry.of and ":".join(entry.of),
    }


def compare_holds(account: Account, new: Iterable[modelled.Entry], real: Real) -> None:
    """The records of those holds that the new entries placed or settled."""
    names = {entry.name for entry in new if entry.kind in ("hold", "hold_expired")}
    names |= {entry.of for entry in new if entry.of and entry.kind in ("capture", "void")}
    for found in real.holds(account.user, sorted(names)):
        _compare_hold(account.holds[found.origin, found.key], found)


def _compare_hold(expected: modelled.Hold, found: Hold) -> None:
    wanted = {name: getattr(expected, name) for name in ("state", "amount", "action", "captured")} | {
        "at": about(expected.at),
        "expires_at": about(expected.expires_at),
        "settled_at": about(expected.settled_at),
        "settled_by": expected.settled_by and ":".join(expected.settled_by),
    }
    assert {name: getattr(found, name) for name in wanted} == wanted
    assert [(lot.name, lot.held) for lot in found.lots] == expected.lots
    assert sums([(lot.name, lot.available) for lot in found.captured_lots]) == sums(expected.captured_lots)


def compare_events(model: Model, found: Iterable[Mapping[str, str]]) -> None:
    """What the outboxes were told in this step, per user in any order; forgets the model's."""
    told = [
        Event(each["type"], each["user"], int(each["seq"]), json.loads(each["data"] or "{}"))
        for each in found
    ]
    reached = [event for event in told if event.type == "limit_reached"]
    if len(model.exceeded) == 1 and not model.exceeded[0][0].has_told(model.now):
        assert reached == [model.exceeded[0][1]]
    for event in reached:
        model.told(event)
    expected, model.events, model.exceeded = model.events, [], []
    assert sorted(map(_line, told)) == sorted(map(_line, [*expected, *reached]))
    for each in found:
        assert int(each["at"]) == about(model.now)


def _line(event: Event) -> str:
    # Who opened or froze an account, and why, is for its entry to say.
    data = {} if event.type.startswith("account_") else event.data
    return json.dumps([event.user, event.seq, event.type, data], sort_keys=True)


def storage_text(lots: Lots) -> str:
    """Lots as the account's hash lists them."""
    listed = sorted((name for name in lots if name != modelled.PAID), key=modelled.burn_order)
    return " ".join(f"{name}={lots[name][0]}/{lots[name][1]}" for name in listed)
