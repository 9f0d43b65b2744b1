"""The invariants that hold after every test that touches the store (FAULTS: I1 to I5, I8)."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from sparked_credits.keys import Keys
from sparked_credits.lots import UNEXPIRING, Lot, read_lots
from sparked_credits.models import Entry
from sparked_credits.store import Store
from tests.stored import Name, Stored, read, scan

KINDS = {
    *("meta", "totals", "lease", "intents", "control", "dead", "outbox", "accounts", "due"),
    *("account", "entries", "receipt", "hold", "holds", "settings", "checkpoint"),
}
COLUMNS = {
    "granted": (1, {"open", "grant", "repayment"}),
    "charged": (-1, {"charge", "post_charge", "capture"}),
    "refunded": (1, {"refund"}),
    "expired": (-1, {"lot_expired"}),
    "adjusted": (1, {"adjust"}),
}
"""Of the totals: the sign with which each counts the amounts of which kinds of entries."""
STATES = {"freeze": "frozen", "unfreeze": "open", "close": "closed"}
SIGNS = {"charge": -1, "post_charge": -1, "capture": -1, "grant": 1, "open": 1, "refund": 1, "adjust": 1}
SETTLES = {"capture": "captured", "void": "voided", "hold_expired": "expired"}


@dataclass(slots=True)
class Sums:
    """What the entries read so far sum up to."""

    posted: int = 0
    held: int = 0
    state: str = "open"
    lots: dict[str, tuple[int, int]] = field(default_factory=dict)

    def listed(self) -> dict[str, tuple[int, int]]:
        return {name: lot for name, lot in self.lots.items() if lot != (0, 0) and name != UNEXPIRING}


async def check_ledger(store: Store, keys: Keys, shards: int) -> None:
    """Assert that every account, entry, receipt, hold and total of every shard agree with each other."""
    for shard in range(shards):
        await _check_shard(store, keys, shard)


async def _check_shard(store: Store, keys: Keys, shard: int) -> None:
    owned: dict[str, dict[str, list[Name]]] = defaultdict(lambda: defaultdict(list))
    for key in await scan(store, keys, shard):
        kind, _, rest = key.removeprefix(keys.prefix(shard)).partition(":")
        assert kind in KINDS, f"undeclared key {key}"
        user, _, name = rest.partition(":")
        if user:
            owned[user][kind].append(name)
    totals, accounts, due = await store.commands(
        [
            ("HGETALL", keys.totals(shard)),
            ("ZRANGE", keys.accounts(shard), 0, -1),
            ("ZRANGE", keys.due(shard), 0, -1, "WITHSCORES"),
        ]
    )
    with_account = {user for user, kinds in owned.items() if "account" in kinds}
    assert {user.decode() for user in accounts} == with_account, f"shard {shard}: not all accounts are listed"
    due_at = {user.decode(): int(float(at)) for user, at in zip(due[::2], due[1::2], strict=True)}
    assert set(due_at) <= with_account, f"shard {shard}: something is due of who has no account"
    amounts: dict[str, int] = defaultdict(int)
    posted = 0
    for user, kinds in owned.items():
        stored = await read(store, keys, shard, user, kinds)
        sums = _check_entries(stored)
        _check_account(stored, sums, due_at.get(user))
        _check_holds(stored, sums)
        _check_receipts(stored)
        posted += sums.posted
        for entry, _ in stored.entries:
            amounts[entry.kind] += entry.amount
    for column, (sign, counted) in COLUMNS.items():
        total, expected = int(totals.get(column.encode(), 0)), sign * sum(amounts[kind] for kind in counted)
        assert total == expected, f"shard {shard}: {column} is {total}, entries sum up to {expected}"
    assert posted == sum(amounts.values()), f"shard {shard}: {posted} posted, by kind {dict(amounts)}"
    for queue in (keys.intents(shard), keys.control(shard)):
        assert await store.command("XLEN", queue) == 0, f"an intent was left in {queue}"
    assert await store.command("PTTL", keys.lease(shard)) != -1, "a lease without an end"


def _check_entries(stored: Stored) -> Sums:
    """Each entry follows from the one before; and the checkpoint is what they were at its own."""
    user, sums, at, may_owe, checked = stored.user, Sums(), 0, False, not stored.checkpoint
    for number, (entry, names) in enumerate(stored.entries, 1):
        where = f"{user}: entry {number} ({entry.kind})"
        available = sums.posted - sums.held
        assert entry.seq == number, f"{where} has seq {entry.seq}"
        assert entry.at >= at, f"{where}: time fell"
        at = entry.at
        _add_lots(sums, entry.lots, where)
        changed = sum(lot.available for lot in entry.lots), sum(lot.held for lot in entry.lots)
        assert changed == (entry.amount - entry.hold, entry.hold), f"{where}: its lots changed by {changed}"
        sums.posted, sums.held = sums.posted + entry.amount, sums.held + entry.hold
        assert (entry.posted, entry.held) == (sums.posted, sums.held), f"{where}: the sums are {sums}"
        is_listed = any(lot.name != UNEXPIRING for lot in entry.lots)
        present = {"held": bool(entry.held or entry.hold), "hold": bool(entry.hold), "lots": is_listed}
        assert names & set(present) == {name for name, is_there in present.items() if is_there}, where
        may_owe |= entry.kind == "debt"
        if sums.posted - sums.held < min(0, available):
            owes = entry.kind == "adjust" or (entry.kind == "post_charge" and may_owe)
            assert owes, f"{where}: took available from {available} to {sums.posted - sums.held}"
        sums.state = STATES.get(entry.kind, sums.state)
        if entry.id == stored.checkpoint.get("id"):
            checked = True
            _check_cached(stored.checkpoint, sums, f"{user}: checkpoint")
    assert checked, f"{user}: there is no entry {stored.checkpoint.get('id')} for the checkpoint"
    return sums


def _add_lots(sums: Sums, changes: Iterable[Lot], where: str) -> None:
    for change in changes:
        available, held = sums.lots.get(change.name, (0, 0))
        available, held = available + change.available, held + change.held
        sums.lots[change.name] = (available, held)
        assert held >= 0, f"{where}: {held} held of {change.name}"
        assert available >= 0 or change.name == UNEXPIRING, f"{where}: {available} available of {change.name}"
    if sums.lots.get(UNEXPIRING, (0, 0))[0] < 0:
        assert not any(lot[0] for lot in sums.listed().values()), f"{where}: in debt beside {sums.listed()}"


def _check_cached(cached: dict[str, str], sums: Sums, where: str) -> None:
    assert int(cached["posted"]) == sums.posted, f"{where}: {cached['posted']} posted, summed {sums.posted}"
    assert int(cached["held"]) == sums.held, f"{where}: {cached['held']} held, entries sum up to {sums.held}"
    lots = {lot.name: (lot.available, lot.held) for lot in read_lots(cached.get("lots", ""))}
    assert lots == sums.listed(), f"{where}: lots {lots}, entries sum up to {sums.listed()}"
    assert cached["state"] == sums.state, f"{where}: {cached['state']}, by its entries {sums.state}"


def _check_account(stored: Stored, sums: Sums, due_at: int | None) -> None:
    """The cached numbers are what the entries sum up to, and whatever ends is due in time."""
    user, account = stored.user, stored.account
    if not account:
        assert not stored.entries, f"{user}: entries without an account"
        return
    if any(receipt.status == "intent_failed" for receipt in stored.receipts.values()):
        sums.state = account["state"]  # What fails half way freezes its account, without an entry.
    _check_cached(account, sums, user)
    assert int(account["seq"]) == len(stored.entries), (
        f"{user}: seq {account['seq']}, {len(stored.entries)} entries"
    )
    due = int(account["due"]) if "due" in account else None
    assert due == due_at, f"{user}: due at {due}, its shard says {due_at}"
    ends = [*stored.open_holds.values()]
    ends += [lot.expires_at for lot in read_lots(account.get("lots", "")) if lot.expires_at and lot.available]
    assert not ends or (due is not None and due <= min(ends)), f"{user}: due at {due}, ends at {min(ends)}"


def _check_holds(stored: Stored, sums: Sums) -> None:
    """Each hold was placed by an entry; the open ones are all that is held, the others were settled by one entry."""
    placed = {f"{each.origin}:{each.key}": each for each, _ in stored.entries if each.kind == "hold"}
    settled: dict[Name, Entry] = {}
    for entry, _ in stored.entries:
        if entry.kind in SETTLES:
            name = entry.of or f"{entry.origin}:{entry.key}"
            assert name not in settled, f"{stored.user}: hold {name} was settled twice"
            settled[name] = entry
    assert set(stored.holds) == set(placed), f"{stored.user}: holds and entries differ"
    held: dict[str, int] = defaultdict(int)
    for name, hold in stored.holds.items():
        where = f"{stored.user}: hold {name}"
        lots = {lot.name: lot.held for lot in hold.lots}
        assert (hold.amount, lots) == (
            placed[name].hold,
            {lot.name: lot.held for lot in placed[name].lots},
        ), where
        if hold.state == "open":
            assert name not in settled, f"{where} is open, and settled by {settled[name].kind}"
            assert stored.open_holds.get(name) == hold.expires_at, f"{where} is not listed with its end"
            for lot, amount in lots.items():
                held[lot] += amount
        else:
            assert name in settled, f"{where} is {hold.state} without an entry"
            end = settled[name]
            assert (SETTLES[end.kind], -end.amount) == (hold.state, hold.captured), (
                f"{where}: settled as {end}"
            )
            by = None if end.kind == "hold_expired" else f"{end.origin}:{end.key}"
            assert hold.settled_by == by, f"{where}: settled by {hold.settled_by}, its entry says {by}"
    left = {name for name, hold in stored.holds.items() if hold.state == "open"}
    assert set(stored.open_holds) == left, f"{stored.user}: listed as open {set(stored.open_holds) ^ left}"
    by_lot = {name: lot[1] for name, lot in sums.lots.items() if lot[1]}
    assert dict(held) == by_lot, f"{stored.user}: open holds of {dict(held)}, held {by_lot}"


def _check_receipts(stored: Stored) -> None:
    """Each applied receipt stands for entries under its key, no other does, and what was refunded of it was."""
    asked = stored.asked()
    refunded: dict[Name, int] = defaultdict(int)
    for entry, _ in stored.entries:
        if entry.kind == "refund":
            refunded[entry.of or ""] += entry.amount
    for name, receipt in stored.receipts.items():
        where = f"{stored.user}: {receipt.kind} {name}"
        entries = asked.pop(name, [])
        if not receipt.applied:
            is_half_written = receipt.status == "intent_failed"
            assert not entries or is_half_written, f"{where} was refused, and made {entries}"
            continue
        kinds = [entry.kind for entry in entries]
        repays = receipt.kind == "grant" and kinds in (["repayment"], ["repayment", "grant"])
        assert repays or kinds == [receipt.kind], f"{where} made {kinds}"
        last = entries[-1]
        # What came back to a lot that is past has expired at once, and the receipt tells of the end.
        after = [entry for entry, _ in stored.entries[last.seq : receipt.seq]]
        assert all(entry.kind == "lot_expired" for entry in after), f"{where}: {receipt}, then {after}"
        end = (after or [last])[-1]
        said = (receipt.posted, receipt.held, receipt.seq, receipt.at, receipt.action)
        assert said == (end.posted, end.held, end.seq, end.at, last.action), f"{where}: {receipt}, {end}"
        amount = receipt.amount * SIGNS.get(receipt.kind, 0)
        assert sum(entry.amount for entry in entries) == amount, f"{where}: {receipt} made {entries}"
        hold = {"hold": receipt.amount, "void": -receipt.amount}.get(receipt.kind)
        assert hold is None or last.hold == hold, f"{where}: {receipt.amount}, its entry {last.hold}"
        assert receipt.refunded == refunded.pop(name, 0), f"{where}: {receipt.refunded} refunded"
        assert receipt.refunded <= max(0, receipt.amount), f"{where}: {receipt.refunded} refunded"
        if receipt.lots:
            assert sum(lot.available for lot in receipt.lots) == receipt.amount, f"{where}: {receipt.lots}"
    assert not asked, f"{stored.user}: entries without a receipt under {sorted(asked)}"
    assert not refunded, f"{stored.user}: refunds of what was not applied: {dict(refunded)}"
