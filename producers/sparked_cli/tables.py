"""Results as a person reads them. Times are UTC; what apps wrote is shown as it is, never as markup."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sparked_credits.accounts import Account
from sparked_credits.lots import Lot
from sparked_credits.models import Entry, Hold, Page, Receipt, Statement
from sparked_credits.report import AMOUNTS, Report


def clock(at_ms: int) -> str:
    """A moment of the store's clock."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _clock_in_table(at_ms: int) -> str:
    """The same, without the year if it is this one: a terminal has 80 columns."""
    text = clock(at_ms)
    return text.removeprefix(f"{datetime.now(UTC).year}-")


def plain(text: str) -> Text:
    """Text of unknown origin, fit for a terminal: what would control it is shown escaped."""
    return Text("".join(char if char.isprintable() else ascii(char)[1:-1] for char in text))


def signed(amount: int) -> Text:
    """Credits that came or went."""
    return Text(
        f"{amount:+d}" if amount else "0", style="green" if amount > 0 else "red" if amount < 0 else ""
    )


def grid(title: str, *headings: str, numbers: Collection[str] = ()) -> Table:
    """An empty table; its columns of `numbers` stand at the right, the others fold where they must."""
    table = Table(
        title=plain(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for heading in headings:
        if heading in numbers:
            table.add_column(heading, justify="right", no_wrap=True)
        else:
            table.add_column(heading, overflow="fold", no_wrap=heading == "time")
    return table


def history_table(page: Page, title: str = "History, newest first") -> Table:
    """A page of entries."""
    table = _entries_table(title, page.entries)
    for entry in page.entries:
        _add_entry(table, entry)
    return table


def statement_table(statement: Statement) -> Table:
    """A statement's entries, between what was there before and after."""
    period = f"from {clock(statement.since)} until before {clock(statement.until)}"
    table = _entries_table(f"Statement of {statement.user}, {period}", statement.entries)
    table.add_row(
        "", _clock_in_table(statement.since), "opening", "", "", str(statement.opening), style="bold"
    )
    for entry in statement.entries:
        _add_entry(table, entry)
    table.add_row(
        "", _clock_in_table(statement.until), "closing", "", "", str(statement.closing), style="bold"
    )
    return table


def account_table(account: Account) -> Table:
    """An account, a line for each thing that is known of it."""
    table = Table(
        box=None, show_header=False, title=plain(account.user), title_justify="left", title_style="bold"
    )
    balance = account.balance
    table.add_row("state", account.state.value)
    table.add_row("balance", f"{balance.available} available (posted {balance.posted}, held {balance.held})")
    table.add_row("debt", f"may owe {account.debt} for post-charges" if account.debt else "none allowed")
    table.add_row("thresholds", ", ".join(str(each) for each in account.thresholds) or "none")
    for limit in account.limits:
        of = "" if limit.action is None else f" for {limit.action}"
        within = "for ever" if limit.window == "ever" else f"a {limit.window}"
        table.add_row("limit", plain(f"{limit.amount} {within}{of}, {limit.spent} spent"))
    return table


def _entries_table(title: str, entries: Sequence[Entry]) -> Table:
    held = ["held"] if any(entry.held or entry.hold for entry in entries) else []
    headings = ("seq", "time", "what", "app", "amount", "posted", *held, "key")
    return grid(title, *headings, numbers=("seq", "amount", "posted", "held"))


def _add_entry(table: Table, entry: Entry) -> None:
    what = entry.kind if entry.action == entry.kind else f"{entry.kind} {entry.action}"
    has_held = len(table.columns) == 8
    table.add_row(
        str(entry.seq),
        _clock_in_table(entry.at),
        plain(what),
        plain(entry.origin),
        signed(entry.amount),
        str(entry.posted),
        *([str(entry.held)] if has_held else []),
        plain(entry.key),
    )


def holds_table(holds: Iterable[Hold]) -> Table:
    """Open holds."""
    table = grid(
        "Open holds, soonest end first",
        "amount",
        "action",
        "app",
        "key",
        "placed",
        "lapses",
        numbers=("amount",),
    )
    for hold in holds:
        table.add_row(
            str(hold.amount),
            plain(hold.action),
            plain(hold.origin),
            plain(hold.key),
            clock(hold.at),
            clock(hold.expires_at),
        )
    return table


def lots_table(lots: Iterable[Lot]) -> Table:
    """An account's credits by their terms."""
    headings = ("priority", "available", "held", "expires", "granted by entry")
    table = grid("Lots, in the order they are spent", *headings, numbers=("available", "held"))
    for lot in lots:
        granted_by = "" if lot.granted_by is None else str(lot.granted_by)
        table.add_row(lot.priority.value, str(lot.available), str(lot.held), expiry(lot), granted_by)
    return table


def expiry(lot: Lot) -> str:
    """When a lot ends."""
    return "never" if lot.expires_at is None else clock(lot.expires_at)


def report_table(report: Report) -> Group:
    """A report's lines, its days if it is by day and more, and how the total closes."""
    lines = [*report.lines, *report.days]
    amounts = [name for name in AMOUNTS if any(getattr(line, name) for line in lines)]
    if any(line.opening is not None for line in lines):
        columns = ["opening", *amounts, "net", "closing"]
    else:
        columns = [*amounts, "net"]
    since = "the beginning" if report.since is None else clock(report.since)
    title = f"All users, from {since} until before {clock(report.until)}"
    table = grid(title, *report.by, *(_SHORT.get(name, name) for name in columns), numbers=_REPORT_NUMBERS)
    for line in lines:
        values = line.as_dict()
        groups = (plain(line.group.get(name, "all")) for name in report.by)
        numbers = ("" if values[name] is None else str(values[name]) for name in columns)
        table.add_row(*groups, *numbers, style="bold" if line in report.days else None)
    total = report.total
    granted = f"granted {total.granted_paid} paid + {total.granted_promotional} promotional"
    spent = f"charged {total.charged} + refunded {total.refunded} - expired {total.expired}"
    closes = (
        f"opening {total.opening} + {granted} - {spent} + adjusted {total.adjusted} = closing {total.closing}"
    )
    return Group(table, closes)


_SHORT = {"granted_paid": "paid", "granted_promotional": "promotional"}
_REPORT_NUMBERS = (
    "opening",
    "paid",
    "promotional",
    "charged",
    "refunded",
    "expired",
    "adjusted",
    "net",
    "closing",
)


def receipt_line(receipt: Receipt) -> str:
    """What a key did, in one sentence."""
    done = f"{receipt.kind.replace('_', '-')} of {receipt.amount}" if receipt.amount else receipt.kind
    if receipt.expires_at:
        done += f", lapses {clock(receipt.expires_at)} UTC"
    return f"{done}: {receipt.available} available after it, entry {receipt.seq}"
