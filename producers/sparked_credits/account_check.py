"""One account beside its entries: what to read, in which order, and what is wrong. Without I/O.

Every write to an account is one script call that adds an entry and sets the account's `seq` to it. So of two reads,
the later one knows all that the earlier one does: what the last entry, read first, says, the account, read after it,
must know; and the entries, read after the account, must reach its `seq`. What is written in between lies beyond it,
and is left out.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from redis.exceptions import ResponseError

from sparked_credits.keys import Keys
from sparked_credits.lots import read_lots
from sparked_credits.models import Balance, Verification
from sparked_credits.store import Command
from sparked_credits.sums import Chain, Sums, lots_text
from sparked_credits.walking import Row

ENTRIES_PAGE = 1000
"""Entries in one command: about 1 ms of the store's time."""

ACCOUNT = ("posted", "held", "seq", "state", "at", "lots", "more")
CHECKPOINT = ("id", "posted", "held", "lots", "state")

_READ = ("the checkpoint", "the ledger", "the list of open holds", "the account", "the list of accounts")
READS = len(_READ)


class AccountCheck:
    """One account's verification under way."""

    def __init__(self, keys: Keys, shard: int, user: str, *, full: bool) -> None:
        self._keys, self._shard, self._user, self._full = keys, shard, user, full
        self._problems: list[str] = []

    def reads(self) -> list[Command]:
        """What is read first. The order matters: a checkpoint written in between would be ahead of the account."""
        keys, shard, user = self._keys, self._shard, self._user
        return [
            ("HMGET", keys.checkpoint(shard, user), *CHECKPOINT),
            ("XREVRANGE", keys.entries(shard, user), "+", "-", "COUNT", 1),
            ("ZCARD", keys.holds(shard, user)),
            ("HMGET", keys.account(shard, user), *ACCOUNT),
            ("ZSCORE", keys.accounts(shard), user),
        ]

    def begin(self, replies: Sequence[Any]) -> None:
        """Take in the replies to `reads`. One that is an error is a problem of this account."""
        sound = [self._sound(what, reply) for what, reply in zip(_READ, replies, strict=True)]
        checkpoint, last, holds, account, listed = sound
        self._holds, self._is_listed = holds or 0, listed is not None
        self._entries_end = last is None
        self._last_seq = int(last[0][0].partition(b"-")[2]) if last else 0
        self._has_account = any(account or [])
        self._account = dict(zip(ACCOUNT, account or [None] * len(ACCOUNT), strict=True))
        self._cached = {number: self._whole(number) for number in ("posted", "held", "seq", "at")}
        self._until = max(self._cached["seq"], self._last_seq)
        self._checkpoint = None if self._full else self._read_checkpoint(checkpoint)
        self.chain = Chain(self._checkpoint or Sums())
        self.is_absent = not (self._has_account or last or any(checkpoint or []) or self._problems)

    @property
    def wanted(self) -> int:
        """Entries that `next_read` asks for; 0 when all are read."""
        if self._entries_end or (self.chain.seq >= self._until and not self._checkpoint):
            return 0
        # The checkpoint's own entry is read once more, to see that they agree.
        return min(ENTRIES_PAGE, self._until - self.chain.seq + (1 if self._checkpoint else 0))

    def next_read(self) -> Command:
        first = self.chain.id if self._checkpoint else f"({self.chain.id}"
        return ("XRANGE", self._keys.entries(self._shard, self._user), first, "+", "COUNT", self.wanted)

    def take(self, rows: Sequence[Row]) -> None:
        """Take in the entries that `next_read` returned."""
        self._entries_end = len(rows) < self.wanted
        if self._checkpoint:
            if not rows or not _agree(self._checkpoint, rows[0]):
                self._distrust(f"and entry {self._checkpoint.seq} do not agree")
                self._checkpoint, self.chain, self._entries_end = None, Chain(Sums()), False
                return
            self._checkpoint, rows = None, rows[1:]
        for entry_id, fields in rows:
            if int(entry_id.partition(b"-")[2]) > self._until:
                self._entries_end = True
                return
            self.chain.add(entry_id, fields)

    def verification(self) -> Verification:
        sums = self.chain.sums()
        problems = (*self._problems, *self.chain.all_problems(), *self._differences(sums))
        cached = Balance(self._cached["posted"], self._cached["held"])
        calculated = Balance(sums.posted, sums.held)
        return Verification(not problems, cached, calculated, self.chain.count, problems)

    def _differences(self, sums: Sums) -> Iterator[str]:
        if not self._has_account:
            yield f"there is no account, but entries up to {sums.seq}" if sums.seq else "there is no account"
            return
        cached, text = self._cached, {name: (value or b"").decode() for name, value in self._account.items()}
        if cached["seq"] != sums.seq:
            yield f"the account counts {cached['seq']} entries, the last one there is has number {sums.seq}"
        elif cached["at"] != sums.at:
            yield f"the account's last entry is of {cached['at']}, by its id it is of {sums.at}"
        for number, summed in (("posted", sums.posted), ("held", sums.held)):
            if cached[number] != summed:
                yield f"{number} is {cached[number]} in the account, its entries sum up to {summed}"
        if text["state"] != sums.state:
            yield f"the account is {text['state'] or 'in no state'}, by its entries it is {sums.state}"
        if _canonical(text["lots"]) != sums.lots:
            yield f"the account's lots are '{text['lots']}', by its entries '{sums.lots}'"
        if text["lots"] and not text["more"]:
            yield "the account has lots, but is not marked as having `more`"
        # Only if nothing was written between the reads before and after that of the holds: else they may well differ.
        if self._last_seq == cached["seq"] and (cached["held"] > 0) != (self._holds > 0):
            yield f"{cached['held']} credits are held in the account, {self._holds} open holds are listed"
        if not self._is_listed:
            yield "the account is not in its shard's list of accounts"

    def _sound(self, what: str, reply: Any) -> Any:
        if isinstance(reply, Exception):
            self._problems.append(f"{what} cannot be read: {reply}")
            return None
        return reply

    def _whole(self, field: str) -> int:
        text = self._account[field]
        try:
            return int(text or b"")
        except ValueError:
            if self._has_account:
                self._problems.append(f"the account's {field} is no number: {text!r}")
            return 0

    def _read_checkpoint(self, stored: Sequence[bytes | None] | None) -> Sums | None:
        if not any(stored or []):
            return None
        try:
            checkpoint = Sums.from_stored(stored or [])
        except (ValueError, IndexError) as error:
            self._distrust(f"cannot be read ({error})")
            return None
        if checkpoint.seq > self._until:
            self._distrust(f"is of entry {checkpoint.seq}, which is not there")
            return None
        return checkpoint

    def _distrust(self, why: str) -> None:
        self._problems.append(f"the checkpoint {why}; all entries were read instead")


def is_of_wrong_type(reply: object) -> bool:
    """Whether a reply says that something else lies under a key: damage of one account, not of the store."""
    return isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")


def unchanged(checkpoint: Any, account: Any) -> Sums | None:
    """The sums of an account that is to the letter what its checkpoint says; None of any other."""
    if isinstance(checkpoint, Exception) or isinstance(account, Exception) or None in checkpoint:
        return None
    posted, held, seq, state, at, lots, more = account
    if None in (posted, held, seq, state, at) or (lots and not more):
        return None
    if [at + b"-" + seq, posted, held, lots or b"", state] != checkpoint:
        return None
    try:
        return Sums.from_stored(checkpoint)
    except (ValueError, IndexError):
        return None


def _agree(sums: Sums, row: Row) -> bool:
    entry_id, fields = row
    numbers = (fields.get(b"posted", b""), fields.get(b"held", b"0"))
    return entry_id == sums.id.encode() and numbers == (b"%d" % sums.posted, b"%d" % sums.held)


def _canonical(lots: str) -> str:
    """The account's lots as they should be written, but in their own order: it is the order they are spent in."""
    try:
        return " ".join(lots_text([lot]) or f"{lot.name}=0/0" for lot in read_lots(lots))
    except (ValueError, IndexError):
        return f"unreadable: {lots}"
