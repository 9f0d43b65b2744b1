"""Ranges, filters, sums and reports, without a store."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from sparked_credits import Entry, InvalidIntent, StoreRefused
from sparked_credits.errors import LedgerDamaged
from sparked_credits.keys import Keys
from sparked_credits.models import HoldState
from sparked_credits.reads import Reads, opened, summed
from sparked_credits.report import AMOUNTS, COLUMN_OF, Tally, movements, report
from sparked_credits.store import Store
from sparked_credits.walking import KINDS, Row, moment_ms, span, wanted_fields

DAY_MS = 86_400_000
MOMENT = datetime(2026, 11, 30, tzinfo=UTC)
MOMENT_MS = 1_795_996_800_000


def row(entry_id: str, kind: str, amount: int, posted: int, **more: str) -> Row:
    fields = {"v": "1", "kind": kind, "amount": str(amount), "posted": str(posted), "action": "x"}
    fields |= {"key": "k", "origin": "chat", "metadata": ""} | more
    return entry_id.encode(), {name.encode(): value.encode() for name, value in fields.items()}


def entry(entry_id: str, kind: str, amount: int, posted: int, **more: str) -> Entry:
    return Entry.from_stored(*row(entry_id, kind, amount, posted, **more))


def test_a_moment_counts_in_whole_milliseconds() -> None:
    assert moment_ms("since", MOMENT) == MOMENT_MS
    assert moment_ms("since", MOMENT.astimezone(timezone(timedelta(hours=9)))) == MOMENT_MS
    within = MOMENT + timedelta(microseconds=1)
    assert moment_ms("since", within) == MOMENT_MS + 1
    assert moment_ms("at", within, up=False) == MOMENT_MS
    assert moment_ms("since", datetime.min.replace(tzinfo=UTC)) == 1


@pytest.mark.parametrize("wrong", [datetime(2026, 11, 30), MOMENT_MS, "2026-11-30", None])  # noqa: DTZ001
def test_a_moment_without_a_time_zone_is_refused_with_what_would_be_right(wrong: Any) -> None:
    with pytest.raises(
        InvalidIntent, match=r"since: must be a datetime with a time zone, such as .*tzinfo=UTC"
    ):
        moment_ms("since", wrong)


LATER = MOMENT + timedelta(milliseconds=5)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ({}, ("-", "+")),
        ({"since": MOMENT}, (f"{MOMENT_MS}-0", "+")),
        ({"until": LATER}, ("-", f"({MOMENT_MS + 5}-0")),
        ({"after": "5-2"}, ("(5-2", "+")),
        ({"after": "5-2", "since": MOMENT}, (f"{MOMENT_MS}-0", "+")),
        ({"after": f"{MOMENT_MS}-7", "since": MOMENT}, (f"({MOMENT_MS}-7", "+")),
        ({"before": "5-2"}, ("-", "(5-2")),
        ({"before": "5-2", "until": LATER}, ("-", "(5-2")),
        ({"before": f"{MOMENT_MS + 5}-1", "until": LATER}, ("-", f"({MOMENT_MS + 5}-0")),
    ],
)
def test_a_range_is_the_narrower_of_its_times_and_its_cursor(
    ends: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert span(**{"since": None, "until": None} | ends) == expected


@pytest.mark.parametrize(
    "wrong", ["", "7", "7-", "-7", "a-b", "1-2-3", "²-1", "0-0", f"{2**64}-1", "5-2 ", 7]
)
def test_what_is_no_entry_id_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidIntent, match="before: must be a page's `next`"):
        span(since=None, until=None, before=wrong)


@pytest.mark.parametrize("until", [MOMENT, MOMENT - timedelta(days=1)])
def test_a_period_that_ends_before_it_begins_is_refused(until: datetime) -> None:
    with pytest.raises(InvalidIntent, match="since: must be earlier than until"):
        span(since=MOMENT, until=until)


def test_a_filter_asks_for_fields_as_they_are_stored() -> None:
    assert wanted_fields(None, None, None) == {}
    wanted = wanted_fields("charge", None, "chat")
    assert wanted == {b"kind": b"charge", b"origin": b"chat"}
    assert wanted.items() <= row("1-1", "charge", -1, 0)[1].items()
    assert not wanted.items() <= row("1-1", "charge", -1, 0, origin="canvas")[1].items()


@pytest.mark.parametrize(
    ("filters", "complaint"),
    [
        (("charges", None, None), "kind: must be one of open, grant, .*rebuild, not 'charges'"),
        ((None, 7, None), "action: must be text"),
        ((None, None, "a:b"), "app: must be 1 to 128"),
    ],
)
def test_a_malformed_filter_is_refused(filters: tuple[Any, Any, Any], complaint: str) -> None:
    with pytest.raises(InvalidIntent, match=complaint):
        wanted_fields(*filters)


async def test_malformed_arguments_are_refused_before_the_store_is_asked() -> None:
    reads = Reads(Store("redis://nowhere"), Keys(), 16)
    for limit in (0, 1001, 2.0, True, "5"):
        with pytest.raises(InvalidIntent, match="limit: must be a whole number from 1 to 1000"):
            await reads.history("ada", limit=limit)  # type: ignore[arg-type]
    with pytest.raises(InvalidIntent, match="before: belongs to newest first"):
        await reads.history("ada", before="5-2", oldest_first=True)
    with pytest.raises(InvalidIntent, match="after: belongs to oldest_first=True"):
        await reads.history("ada", after="5-2")
    with pytest.raises(InvalidIntent, match="user: must be"):
        await reads.balance("a:b")
    with pytest.raises(InvalidIntent, match="at: must be a datetime with a time zone"):
        await reads.balance("ada", at=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidIntent, match="origin: "):
        await reads.find_hold("ada", "k", origin="a:b")


def test_the_sums_of_a_statement_are_by_kind_and_leave_out_what_moves_nothing() -> None:
    entries = [
        entry("1-2", "charge", -30, 70),
        entry("2-3", "hold", 0, 70, held="20", hold="20"),
        entry("2-4", "capture", -15, 55, hold="-20"),
        entry("3-5", "charge", -5, 50),
        entry("3-6", "adjust", 5, 55),
        entry("3-7", "adjust", -5, 50),
    ]
    assert summed(100, entries) == {"charge": -35, "capture": -15, "adjust": 0}


def test_entries_that_do_not_add_up_make_no_statement() -> None:
    with pytest.raises(LedgerDamaged, match="entry 3 says 60 credits, but those up to it sum up to 65"):
        summed(100, [entry("1-2", "charge", -30, 70), entry("2-3", "charge", -5, 60)])
    with pytest.raises(LedgerDamaged, match="entry 2"):
        summed(90, [entry("1-2", "charge", -30, 70)])


def test_a_hold_that_settles_while_it_is_read_is_told_as_it_was_listed() -> None:
    fields = {"v": "1", "state": "captured", "amount": "50", "action": "x", "at": "5", "expires_at": "9"}
    fields |= {
        "seq": "2",
        "lots": "",
        "metadata": "",
        "settled_at": "8",
        "settled_by": "chat:c",
        "captured": "20",
    }
    hold = opened("ada", "chat:h:1", {name.encode(): value.encode() for name, value in fields.items()})
    assert (hold.state, hold.origin, hold.key, hold.amount) == (HoldState.OPEN, "chat", "h:1", 50)
    assert (hold.captured, hold.captured_lots, hold.settled_at, hold.settled_by) == (0, (), None, None)


@pytest.mark.parametrize(
    ("kind", "amount", "lots", "expected"),
    [
        ("open", 100, None, {"granted_paid": 100}),
        ("grant", 70, "promotional=50 paid=20", {"granted_paid": 20, "granted_promotional": 50}),
        ("grant", 50, "paid-9000-3=50", {"granted_paid": 50, "granted_promotional": 0}),
        ("grant", 50, "promotional-9000-3=50", {"granted_paid": 0, "granted_promotional": 50}),
        ("repayment", 50, None, {"granted_paid": 50}),
        ("charge", -50, "promotional=-50", {"charged": 50}),
        ("post_charge", -50, None, {"charged": 50}),
        ("capture", -20, "paid-9000-3=10/-30", {"charged": 20}),
        ("refund", 20, None, {"refunded": 20}),
        ("lot_expired", -20, "paid-9000-3=-20", {"expired": 20}),
        ("adjust", -20, None, {"adjusted": -20}),
    ],
)
def test_each_kind_counts_in_its_columns(
    kind: str, amount: int, lots: str | None, expected: Mapping[str, int]
) -> None:
    fields = row("1-1", kind, amount, 0, **({"lots": lots} if lots else {}))[1]
    assert dict(movements(fields, amount)) == expected


def test_a_kind_of_a_later_version_makes_no_report_rather_than_one_that_does_not_close() -> None:
    assert COLUMN_OF.keys() <= set(KINDS)
    with pytest.raises(StoreRefused, match="a kind unknown to this version, gift: upgrade"):
        Tally(["app"]).add("ada", [row("1-1", "gift", 5, 5)])


def tally_of_two_accounts(by: list[str]) -> Tally:
    """Ada opened before the period and has 40; Grace opens in it. Day 1 has +60 −25, day 3 −5 +2."""
    tally = Tally(by)
    middle = tally.add("ada", [row(f"{DAY_MS}-7", "charge", -10, 30, action="chat")])
    tally.add("ada", [row(f"{3 * DAY_MS}-8", "charge", -5, 25, origin="video", action="render")], middle)
    tally.add(
        "grace",
        [
            row(f"{DAY_MS}-1", "open", 60, 60, origin="system", action="open"),
            row(f"{DAY_MS + 5}-2", "freeze", 0, 60, origin="system", action="freeze"),
            row(f"{2 * DAY_MS - 1}-3", "charge", -15, 45, action="chat"),
            row(f"{3 * DAY_MS}-4", "refund", 2, 47, action="chat"),
        ],
    )
    return tally


def test_a_report_by_app_has_a_line_for_each_app_that_moved_credits_and_a_total_that_closes() -> None:
    found = tally_of_two_accounts(["app"]).report(DAY_MS, 4 * DAY_MS)
    assert [(line.group["app"], line.net, line.opening) for line in found.lines] == [
        ("chat", -23, None),
        ("system", 60, None),
        ("video", -5, None),
    ]
    assert found.days == ()
    total = found.total
    assert (total.opening, total.granted_paid, total.charged, total.refunded, total.net, total.closing) == (
        *(40, 60, 30, 2),
        *(32, 72),
    )
    assert found.rows() == [
        ["row", "app", "opening", *AMOUNTS, "net", "closing"],
        ["line", "chat", None, 0, 0, 25, 2, 0, 0, -23, None],
        ["line", "system", None, 60, 0, 0, 0, 0, 0, 60, None],
        ["line", "video", None, 0, 0, 5, 0, 0, 0, -5, None],
        ["total", None, 40, 60, 0, 30, 2, 0, 0, 32, 72],
    ]


def test_the_days_of_a_report_open_where_the_one_before_closed() -> None:
    found = tally_of_two_accounts(["day"]).report(DAY_MS, 4 * DAY_MS)
    assert [(line.group["day"], line.opening, line.net, line.closing) for line in found.lines] == [
        ("1970-01-02", 40, 35, 75),
        ("1970-01-04", 75, -3, 72),
    ]
    assert (found.days, found.total.closing) == ((), 72)


def test_a_report_by_day_and_more_has_its_days_beside_its_lines() -> None:
    found = tally_of_two_accounts(["action", "day"]).report(None, 4 * DAY_MS)
    assert [(*line.group.values(), line.net) for line in found.lines] == [
        ("chat", "1970-01-02", -25),
        ("chat", "1970-01-04", 2),
        ("open", "1970-01-02", 60),
        ("render", "1970-01-04", -5),
    ]
    assert [(line.opening, line.closing) for line in found.days] == [(40, 75), (75, 72)]
    assert [row[0] for row in found.rows()] == ["row", *["line"] * 4, *["day"] * 2, "total"]
    assert found.rows()[5][:4] == ["day", None, "1970-01-02", 40]
    assert found.as_dict()["days"][1] == {
        "day": "1970-01-04",
        "opening": 75,
        "granted_paid": 0,
        "granted_promotional": 0,
        "charged": 5,
        "refunded": 2,
        "expired": 0,
        "adjusted": 0,
        "net": -3,
        "closing": 72,
    }


def test_a_report_of_nothing_closes_too() -> None:
    found = Tally(["day"]).report(None, DAY_MS)
    assert (found.lines, found.days, found.total.opening, found.total.closing) == ((), (), 0, 0)


def test_a_report_names_the_account_whose_entries_contradict_each_other() -> None:
    tally = Tally(["app"])
    with pytest.raises(LedgerDamaged, match=r"account ada, entry 2-2: it says 60 credits, .* make 65"):
        tally.add("ada", [row("1-1", "open", 70, 70), row("2-2", "charge", -5, 60)])


@pytest.mark.parametrize("by", [[], "app", ["app", "app"], ["user"], ["app", "hour"]])
async def test_a_report_by_anything_else_is_refused(by: Any) -> None:
    with pytest.raises(InvalidIntent, match="by: must be a list of app, action, day"):
        await report(Store("redis://nowhere"), Keys(), 16, by=by)
