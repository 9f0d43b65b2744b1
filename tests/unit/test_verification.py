"""What entries sum up to, and that no damage to them or to an account goes unseen. Without a store."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparked_credits.account_check import ACCOUNT, CHECKPOINT, AccountCheck
from sparked_credits.keys import Keys
from sparked_credits.models import Balance
from sparked_credits.sums import Doubt, Sums
from sparked_credits.totals import moment_of
from sparked_credits.walking import Row
from tests.handmade import Handmade

LOT = "promotional-1800000000000-2"


def changed(row: Row, **fields: str | None) -> Row:
    """The entry with some fields, or its `id`, changed, or taken away (None)."""
    entry_id = fields.pop("id", None)
    stored = dict(row[1]) | {name.encode(): (value or "").encode() for name, value in fields.items()}
    kept = {name: value for name, value in stored.items() if fields.get(name.decode(), "") is not None}
    return entry_id.encode() if entry_id else row[0], kept


def account() -> Handmade:
    """Seven entries, with lots and held credits."""
    return (
        Handmade()
        .add("open", 100)
        .add("grant", 50, lots=f"{LOT}=50")
        .add("charge", -60, lots=f"{LOT}=-50 paid=-10")
        .add("refund", 20, lots=f"{LOT}=20")
        .add("hold", hold=30, lots=f"{LOT}=-20/20 paid=-10/10")
        .add("capture", -25, hold=-30, lots=f"{LOT}=0/-20 paid=5/-10")
        .add("freeze")
    )


def test_entries_sum_up_to_the_account() -> None:
    made = account().add("hold", hold=5)
    sums, problems = Sums().fold(made.rows)
    assert problems == []
    assert (sums.posted, sums.held, sums.lots, sums.state, sums.seq) == (85, 5, "", "frozen", 8)
    half, _ = Sums().fold(made.rows[:4])
    assert half.lots == f"{LOT}=20/0"
    assert half.fold(made.rows[4:]) == (sums, [])


def test_lots_are_listed_in_burn_order() -> None:
    names = ["paid-2000-3", "paid-1000-4", "promotional", "promotional-5000-2", "promotional-5000-1"]
    made = Handmade().add("open", 1)
    for name in names:
        made.add("grant", 1, lots=f"{name}=1")
    sums, _ = Sums().fold(made.rows)
    listed = [word.partition("=")[0] for word in sums.lots.split()]
    assert listed == ["promotional-5000-1", "promotional-5000-2", "promotional", "paid-1000-4", "paid-2000-3"]


def test_sums_are_what_a_checkpoint_holds() -> None:
    sums = account().sums()
    fields = sums.as_fields()
    assert fields == {"id": sums.id, "posted": "85", "held": "0", "lots": "", "state": "frozen"}
    assert Sums.from_stored([fields[name].encode() for name in CHECKPOINT]) == sums


@pytest.mark.parametrize("stored", [[b"5-1", b"1", b"0", b"", None], [b"5", b"1", b"0", b"", b"open"]])
def test_what_cannot_be_a_checkpoint_is_refused(stored: list[bytes | None]) -> None:
    with pytest.raises(ValueError, match=r"missing|invalid literal"):
        Sums.from_stored(stored)


@pytest.mark.parametrize(
    ("seq", "change", "problem"),
    [
        (3, {"amount": "-61"}, "its lots change by -60, its amount is -61"),
        (1, {"amount": "1000"}, "entry 1: posted is 100 after it, its entries sum up to 1000"),
        (1, {"amount": "-100"}, "posted is 100 after it, its entries sum up to -100"),
        (3, {"posted": "91"}, "entry 3: posted is 91 after it, its entries sum up to 90"),
        (5, {"held": "29"}, "entry 5: held is 29 after it, its entries sum up to 30"),
        (5, {"held": None}, "entry 5: held is 0 after it, its entries sum up to 30"),
        (5, {"hold": "20"}, "its lots' held credits change by 30, the account's by 20"),
        (5, {"lots": None}, f"lot {LOT}=20/-20 falls below zero"),
        (3, {"lots": f"{LOT}=-50 paid=-11"}, "its lots change by -61, its amount is -60"),
        (3, {"lots": f"{LOT}=-51 paid=-9"}, f"lot {LOT}=-1/0 falls below zero"),
        (2, {"lots": "promotional-1800000000001-2=50"}, f"entry 3: lot {LOT}=-50/0 falls below zero"),
        (2, {"lots": "other=50"}, "entry 2 cannot be read"),
        (2, {"lots": "paid-x-y=50"}, "entry 2 cannot be read"),
        (2, {"lots": "paid-17=50"}, "entry 2 cannot be read"),
        (2, {"amount": "5o"}, "entry 2 cannot be read"),
        (2, {"amount": None}, "entry 2 cannot be read: KeyError(b'amount')"),
        (6, {"id": "1700000000006-7"}, "entry 6 is missing: entry 7 is there instead"),
        (6, {"id": "1700000000004-6"}, "entry 6: time falls from 1700000000005 to 1700000000004"),
    ],
)
def test_a_damaged_entry_is_found(seq: int, change: dict[str, Any], problem: str) -> None:
    rows = account().rows
    rows[seq - 1] = changed(rows[seq - 1], **change)
    _, problems = Sums().fold(rows)
    assert any(problem in each for each in problems), problems


@pytest.mark.parametrize("missing", [1, 4])
def test_a_missing_entry_is_found(missing: int) -> None:
    rows = account().rows
    del rows[missing - 1]
    _, problems = Sums().fold(rows)
    assert f"entry {missing} is missing: entry {missing + 1} is there instead" in problems


def test_one_damage_is_told_once_and_garbage_not_endlessly() -> None:
    rows = account().rows
    rows[0] = changed(rows[0], amount="90")
    assert len(Sums().fold(rows)[1]) == 1
    garbage: list[Row] = [(b"5-%d" % (seq * 2), {b"kind": b"?"}) for seq in range(1000)]
    assert len(Sums().fold(garbage)[1]) == 100


def test_held_below_zero_is_found() -> None:
    _, problems = Sums().fold(Handmade().add("open", 100).add("void", hold=-5).rows)
    assert problems == ["entry 2: held falls to -5"]


def wrong_cache() -> Handmade:
    """The cached number was raised by 20 before entry 2, and repaired by entry 4."""
    made = Handmade().add("open", 100).add("charge", -10).add("charge", -10)
    made.rows[1], made.rows[2] = changed(made.rows[1], posted="110"), changed(made.rows[2], posted="100")
    return made


def rebuilt(made: Handmade, before: dict[str, int] | None) -> list[Row]:
    made.add("rebuild")
    return [*made.rows[:-1], changed(made.rows[-1], metadata=json.dumps({"before": before}))]


@pytest.mark.parametrize("before", [{"posted": 100, "held": 0}, None])
def test_what_a_rebuild_found_and_repaired_is_no_problem_any_longer(before: dict[str, int] | None) -> None:
    problem = "entry 2: posted is 110 after it, its entries sum up to 90"
    assert Sums().fold(wrong_cache().rows)[1] == [problem]
    sums, problems = Sums().fold(rebuilt(wrong_cache(), before))
    assert (sums.posted, problems) == (80, [])


def test_a_rebuild_that_found_the_number_right_explains_nothing() -> None:
    assert len(Sums().fold(rebuilt(wrong_cache(), {"posted": 80, "held": 0}))[1]) == 1


def test_an_amount_damaged_before_a_rebuild_is_found() -> None:
    rows = rebuilt(wrong_cache(), {"posted": 100, "held": 0})
    rows[0] = changed(rows[0], amount="101")
    assert Sums().fold(rows)[1][0] == "entry 1: posted is 100 after it, its entries sum up to 101"


@pytest.mark.parametrize(
    ("number", "kind", "change", "receipt_amount", "is_settled"),
    [
        ("posted", "charge", -10, 10, True),
        ("posted", "charge", -30, 10, False),
        ("posted", "grant", 10, 10, True),
        ("posted", "adjust", -10, -10, True),
        ("posted", "charge", -10, None, False),
        ("posted", "lot_expired", -10, 10, False),
        ("posted", "hold", 0, 10, True),
        ("posted", "freeze", 5, None, False),
        ("held", "hold", 10, 10, True),
        ("held", "void", -10, 10, True),
        ("held", "void", -10, 11, False),
        ("held", "hold_expired", -10, 10, False),
        ("held", "charge", 0, 10, True),
    ],
)
def test_the_receipt_settles_whether_an_amount_or_the_account_was_wrong(
    number: str, kind: str, change: int, receipt_amount: int | None, is_settled: bool
) -> None:
    field = b"amount" if number == "posted" else b"hold"
    doubt = Doubt(number, "", {b"kind": kind.encode(), field: b"%d" % change})
    receipt = receipt_amount and json.dumps([1, "applied", kind, receipt_amount, "act", 0, 0, 1, 1]).encode()
    assert doubt.is_settled_by(receipt or None) is is_settled
    assert not Doubt("posted", "", {b"kind": b"grant", b"amount": b"1"}).is_settled_by(b"[1")


# Any chain, any number


@st.composite
def chains(draw: st.DrawFn) -> Handmade:
    made = Handmade()
    for seq in range(1, draw(st.integers(1, 8)) + 1):
        names = [*made.lots, "paid", "promotional", f"promotional-18000{seq}-{seq}", f"paid-1700-{seq}"]
        changes, amount, hold = [], 0, 0
        for name in draw(st.lists(st.sampled_from(names), max_size=2, unique=True)):
            lot = made.lots.get(name)
            least = -100 if name == "paid" else -(lot.available if lot else 0)
            available = draw(st.integers(least, 100))
            held = draw(st.integers(-(min(made.held, lot.held) if lot else 0), 20))
            if available or held:
                changes.append((name, f"{name}={available}" + (f"/{held}" if held else "")))
                amount, hold = amount + available + held, hold + held
        kinds = ["freeze", "unfreeze", "rebuild", "limit"] if not changes else ["grant", "charge", "hold"]
        listed = any(name != "paid" for name, _ in changes)
        lots = " ".join(word for _, word in changes) if listed else ""
        made.add(draw(st.sampled_from(kinds)), amount, hold=hold, lots=lots, after_ms=draw(st.integers(0, 2)))
    return made


def numbers_of(row: Row) -> list[tuple[str, int, int]]:
    """Where each number of an entry stands: the field, from, to. Not the time, which entries on both sides allow."""
    found = [("id", row[0].index(b"-") + 1, len(row[0]))]
    for name in ("amount", "posted", "held", "hold", "lots"):
        text = row[1].get(name.encode(), b"").decode()
        found += [(name, *match.span()) for match in re.finditer(r"(?:(?<![a-z\d])-)?\d+", text)]
    return found


@given(chains())
def test_a_right_chain_folds_to_its_sums(made: Handmade) -> None:
    assert Sums().fold(made.rows) == (made.sums(), [])


@given(st.data(), chains())
def test_any_changed_number_is_found(data: st.DataObject, made: Handmade) -> None:
    seq = data.draw(st.integers(0, len(made.rows) - 1))
    row = made.rows[seq]
    name, start, end = data.draw(st.sampled_from(numbers_of(row)))
    text = (row[0] if name == "id" else row[1][name.encode()]).decode()
    number = int(text[start:end])
    other = data.draw(st.integers(0 if name in ("id", "lots") else -200, 200).filter(lambda n: n != number))
    made.rows[seq] = changed(row, **{name: f"{text[:start]}{other}{text[end:]}"})
    sums, problems = Sums().fold(made.rows)
    assert problems or sums != made.sums()


@given(chains(), st.integers(0, 8))
def test_pages_fold_to_the_same(made: Handmade, cut: int) -> None:
    first, _ = Sums().fold(made.rows[:cut])
    assert first.fold(made.rows[cut:]) == (made.sums(), [])


# Reads of one account that traffic gets between


class Reading:
    """What the store answers, by hand: each read of another moment."""

    def __init__(
        self, checkpoint: Handmade | None, last: Handmade, account: Handmade, *, holds: int = 0
    ) -> None:
        fields = account.account()
        stored = checkpoint.sums().as_fields() if checkpoint else {}
        self.check = AccountCheck(Keys(), 0, "ada", full=False)
        assert [read[0] for read in self.check.reads()] == [
            "HMGET",
            "XREVRANGE",
            "ZCARD",
            "HMGET",
            "ZSCORE",
        ]
        self.check.begin(
            [
                [stored[name].encode() if stored else None for name in CHECKPOINT],
                last.rows[-1:],
                holds,
                [fields[name].encode() if name in fields else None for name in ACCOUNT],
                b"0",
            ]
        )

    def entries(self, now: Handmade) -> AccountCheck:
        """The rest of the check, with the entries that there are by now."""
        while self.check.wanted:
            _, _, first, *_, count = self.check.next_read()
            assert isinstance(first, str)
            seq = int(first.partition("-")[2])
            self.check.take(now.rows[seq if first.startswith("(") else seq - 1 :][: int(count)])
        return self.check


def of(count: int, *, hold: int = 0) -> Handmade:
    made = Handmade().add("open", 100)
    for _ in range(count - 1):
        made.add("charge", -1)
    return made.add("hold", hold=hold) if hold else made


def test_what_is_written_between_the_reads_is_left_out() -> None:
    check = Reading(of(2), of(3), of(5)).entries(of(9))
    found = check.verification()
    assert (found.valid, found.problems, found.entries) == (True, (), 3)
    assert found.cached == found.calculated == Balance(96, 0)
    assert check.chain.sums() == of(5).sums()


def test_a_hold_placed_between_the_reads_is_no_problem() -> None:
    assert Reading(None, of(3), of(3, hold=5)).entries(of(3, hold=5).add("charge", -1)).verification().valid
    problems = Reading(None, of(3, hold=5), of(3, hold=5)).entries(of(3, hold=5)).verification().problems
    assert problems == ("5 credits are held in the account, 0 open holds are listed",)


def test_an_entry_beyond_what_the_account_knew_later_is_a_problem() -> None:
    found = Reading(None, of(4), of(3)).entries(of(4)).verification()
    assert found.problems[0] == "the account counts 3 entries, the last one there is has number 4"
    assert (found.cached.posted, found.calculated.posted) == (98, 97)


def test_entries_that_end_before_what_the_account_counts_are_a_problem() -> None:
    found = Reading(None, of(3), of(5)).entries(of(4)).verification()
    assert "the account counts 5 entries, the last one there is has number 4" in found.problems


def test_what_lies_beyond_is_left_out_though_entries_are_missing() -> None:
    now = of(9)
    del now.rows[2]
    found = Reading(None, of(5), of(5)).entries(now).verification()
    assert (found.problems[0], found.entries) == ("entry 3 is missing: entry 4 is there instead", 4)
    assert found.calculated == Balance(97, 0)


def test_a_checkpoint_ahead_of_all_else_is_distrusted() -> None:
    found = Reading(of(7), of(5), of(5)).entries(of(5)).verification()
    why = "the checkpoint is of entry 7, which is not there; all entries were read instead"
    assert (found.problems, found.entries) == ((why,), 5)


def test_a_checkpoint_that_is_not_what_its_entry_says_is_distrusted() -> None:
    wrong = of(3)
    wrong.posted += 1
    found = Reading(wrong, of(5), of(5)).entries(of(5)).verification()
    why = "the checkpoint and entry 3 do not agree; all entries were read instead"
    assert (found.problems, found.entries) == ((why,), 5)


# The moment of a shard's totals

TOTALS = [[b"granted", b"100", b"charged", b"30"], b"7"]


def test_totals_are_of_the_ms_that_began_after_all_that_they_count() -> None:
    moment = moment_of([*TOTALS, [b"5", b"1999"], [b"5", b"2000"], *TOTALS])
    assert moment is not None
    assert (moment.at, moment.totals["granted"], moment.totals["charged"]) == (5002, 100, 30)
    assert moment.totals["adjusted"] == 0


@pytest.mark.parametrize(
    ("last_us", "after"),
    [
        (b"1999", TOTALS),
        (b"2000", [[b"granted", b"100", b"charged", b"31"], b"7"]),
        (b"2000", [TOTALS[0], b"8"]),
        (b"2000", [[], None]),
    ],
)
def test_within_one_ms_or_beside_a_write_there_is_no_such_moment(last_us: bytes, after: list[Any]) -> None:
    assert moment_of([*TOTALS, [b"5", b"1000"], [b"5", last_us], *after]) is None
