"""What a step of the model's test may be, and how often."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from sparked_credits.intents import (
    UNSTATED,
    CaptureIntent,
    ChargeIntent,
    CloseIntent,
    DebtIntent,
    FreezeIntent,
    HoldIntent,
    Intent,
    LimitIntent,
    PostChargeIntent,
    RefundIntent,
    ThresholdsIntent,
    UnfreezeIntent,
    VoidIntent,
    Window,
)
from sparked_credits.lots import Priority
from tests.property.model import POSTED_MAX
from tests.property.real import APPS

STARTS = st.lists(st.sampled_from(["lots", "debt", "limits"]), unique=True)
"""What is there at first, besides the accounts. Often much of it, or few examples would get to where things meet."""
OPENED = st.sampled_from([True] * 9 + [False])

_USERS = st.sampled_from(["ada"] * 5 + ["grace"])
_KEYS = st.sampled_from([""] * 8 + ["k0", "k1", "k2"])
"""A fresh one where empty, else one of few, so that replays and conflicts are common."""
_SIZES = st.sampled_from([1, 7, 10, 40, 100])
_BESIDE = st.sampled_from([-1, 0, 1])
_EDGES = st.sampled_from(["available", "lot", "limit", "floor", "threshold"])
_AMOUNTS = _SIZES | st.tuples(_EDGES, _BESIDE)
_PARTS = st.just(0) | _SIZES | st.tuples(st.just("left"), _BESIDE)
"""Of an earlier charge or hold; 0 is all of it."""
_PICKS = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 5, 8])
_COPIES = st.sampled_from([1, 1, 1, 1, 2])
_RARELY = st.sampled_from([False] * 11 + [True])
_BOOLEANS = st.booleans()


def _setting(kinds: Sequence[type[Intent]], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.sampled_from(kinds), st.fixed_dictionaries(fields))


_STATES: list[type[Intent]] = [
    *(FreezeIntent, UnfreezeIntent, UnfreezeIntent),
    *(FreezeIntent, UnfreezeIntent, UnfreezeIntent),
    CloseIntent,
]
_SETTINGS = st.one_of(
    _setting(
        [LimitIntent],
        window=st.sampled_from(Window),
        of_action=st.sampled_from([None, None, "chat"]),
        amount=st.sampled_from([200, 0, 50, 100, 1000]),
        remove=_RARELY,
    ),
    _setting([ThresholdsIntent], thresholds=st.lists(st.sampled_from([10, 50, 51, 90, 1000]), max_size=4)),
    _setting([DebtIntent], amount=st.sampled_from([200, 20, 0])),
    _setting(_STATES),
)

_WEIGHTS = {
    "spend": 9,
    "open": 1,
    "adjust": 3,
    "configure": 5,
    "again": 2,
    "rebuild": 1,
    "checkpoint": 1,
    "crowd": 1,
    "move_clock": 4,
    "grant": 5,
    "settle": 8,
}
"""The first and the last come a little more often: hypothesis likes bounds."""
_FIELDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "open": {
        "user": _USERS,
        "key": st.sampled_from(["open", "open", "open-2"]),
        "amount": st.sampled_from([0, 100, 100]),
    },
    "grant": {
        "user": _USERS,
        "key": _KEYS,
        "amount": st.sampled_from([1, 7, 10, 20, 40, 100, 100, 1000, POSTED_MAX]),
        "priority": st.sampled_from(Priority),
        "ends": st.sampled_from([None, None, 0, 0, 1, 1, 3, 47, 7 * 48, -2]),
        "copies": _COPIES,
    },
    "adjust": {"user": _USERS, "key": _KEYS, "amount": _AMOUNTS, "more": _BOOLEANS, "force": _BOOLEANS},
    "spend": {
        "kind": st.sampled_from([ChargeIntent, ChargeIntent, HoldIntent, HoldIntent, PostChargeIntent]),
        "user": _USERS,
        "origin": st.sampled_from(APPS),
        "key": _KEYS,
        "amount": _AMOUNTS,
        "action": st.sampled_from(["chat", "canvas"]),
        "quantity": st.sampled_from([None, None, None, "2"]),
        "ends": st.sampled_from([0, 1, 2, 3, 24, 47, 48, 49, 7 * 48]),
        "late": _RARELY,
        "copies": _COPIES,
    },
    "settle": {
        "kind": st.sampled_from([CaptureIntent, CaptureIntent, VoidIntent, RefundIntent, RefundIntent]),
        "pick": _PICKS,
        "stray": _RARELY,
        "origin": st.sampled_from(APPS),
        "key": _KEYS,
        "amount": _PARTS,
        "action": st.sampled_from([UNSTATED, UNSTATED, "chat"]),
        "flag": _BOOLEANS,
        "late": _RARELY,
        "copies": _COPIES,
    },
    "configure": {"user": _USERS, "key": _KEYS, "setting": _SETTINGS},
    "move_clock": {
        "half_hours": st.sampled_from([1, 1, 1, 2, 3, 46, 47, 48, 48, 7 * 48, 31 * 48]),
        "lapse": _BOOLEANS,
    },
    "again": {"pick": st.integers(0, 19), "late": _RARELY, "copies": _COPIES},
    "rebuild": {"pick": _PICKS, "key": _KEYS, "damaged": _BOOLEANS},
    "checkpoint": {"pick": _PICKS},
    "crowd": {"what": st.sampled_from(["holds", "limits", "lots"]), "really": _RARELY},
}


def _named(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.just(name), st.fixed_dictionaries(_FIELDS[name]))


STEPS = st.sampled_from([name for name, weight in _WEIGHTS.items() for _ in range(weight)]).flatmap(_named)
"""A method of the machine and its arguments. Not one rule each, for of many rules hypothesis leaves out half in every
example, and little happens to credits that did not come, or were not spent, or never come back."""
