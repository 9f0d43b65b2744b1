"""A run: what it has found and done, and how far it has come. Without I/O."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from sparked_credits.models import Balance, Verification

LISTED_MAX = 100
"""Of each kind of finding; the counts go on."""

_PROBLEMS_MAX = 5
_TEXT_MAX = 300


class RunState(StrEnum):
    """What became of a run."""

    RUNNING = "running"
    """Not finished: under way, or left where it was."""
    FINISHED = "finished"
    STOPPED = "stopped"
    """It found so much that it only looked and reported; `reason` says what."""
    FAILED = "failed"
    """It could not be finished; `reason` says why."""


class Phase(StrEnum):
    """What a run is at, in this order."""

    USERS = "users"
    OPENING = "opening"
    LEDGER = "ledger"
    REPAIRS = "repairs"
    TOTALS = "totals"
    LOOSE_ENDS = "loose_ends"
    REPORT = "report"


class Listing(StrEnum):
    """Whether Clerk's users were listed."""

    UNFINISHED = "unfinished"
    WHOLE = "whole"
    INCOMPLETE = "incomplete"
    """Clerk did not answer, so nobody can be said to be unknown to it."""
    NONE = "none"
    """There is no Clerk to ask."""


@dataclass(slots=True)
class Finding:
    """An account that was wrong, as it was before anything was done about it."""

    user: str
    cached: Balance
    """As the account said."""
    calculated: Balance
    """As its entries sum up."""
    problems: list[str]
    outcome: str = ""
    """Empty as long as nothing was done about it."""

    @classmethod
    def of(cls, user: str, found: Verification) -> Self:
        problems = [problem[:_TEXT_MAX] for problem in found.problems[:_PROBLEMS_MAX]]
        return cls(user, found.cached, found.calculated, problems)

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Self:
        balances = {name: Balance(**stored[name]) for name in ("cached", "calculated")}
        return cls(**{**stored, **balances})


@dataclass(slots=True)
class LooseEnd:
    """Something that should have been dealt with by now."""

    what: str
    count: int
    oldest_at: int
    """In ms since 1970."""


@dataclass(slots=True)
class Report:
    """What was found, one by one: the first `LISTED_MAX` of each kind."""

    findings: list[Finding] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Users without an account."""
    opened: list[str] = field(default_factory=list)
    """Those whose account was opened."""
    unknown: list[str] = field(default_factory=list)
    """Users with an account whom Clerk does not know."""
    errors: list[str] = field(default_factory=list)
    """In words, what could not be done."""
    totals: list[str] = field(default_factory=list)
    """In words, which shards' accounts do not add up."""
    loose_ends: list[LooseEnd] = field(default_factory=list)

    @classmethod
    def from_json(cls, text: str) -> Self:
        stored = json.loads(text)
        findings = [Finding.from_stored(each) for each in stored.pop("findings")]
        loose_ends = [LooseEnd(**each) for each in stored.pop("loose_ends")]
        return cls(findings=findings, loose_ends=loose_ends, **stored)


@dataclass(slots=True)
class Place:
    """How far a run has come."""

    phase: Phase = Phase.USERS
    listing: Listing = Listing.UNFINISHED
    cursor: str | None = None
    """Of Clerk's users."""
    listing_tries: int = 0
    opened_after: str = ""
    """The last user whose missing account was opened."""
    shard: int = 0
    after: str = ""
    """The last user of the shard that was looked at."""
    tally: dict[str, Any] | None = None
    """Of the shard, so far; see `sparked_credits.totals`."""
    doubtful: list[int] = field(default_factory=list)
    """Shards whose accounts did not add up, to be looked at once more after repairs."""
    repaired_after: str = ""
    """The last user whose wrong account was dealt with."""
    idle_slices: int = 0
    """Times that the run was gone on with since it last came any further."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        stored = json.loads(text)
        return cls(phase=Phase(stored.pop("phase")), listing=Listing(stored.pop("listing")), **stored)

    def __str__(self) -> str:
        where = f", shard {self.shard} behind user {self.after!r}" if self.phase is Phase.LEDGER else ""
        return f"{self.phase}{where}"


@dataclass(slots=True)
class Run:
    """One reconciliation. Times are of the store's clock, in ms since 1970; 0: not yet."""

    id: str
    trigger: str
    """What asked for it: `schedule`, `http` or `cli`."""
    dry_run: bool = False
    state: RunState = RunState.RUNNING
    reason: str = ""
    """Why nothing more was opened or repaired, or why it failed."""
    started_at: int = 0
    saved_at: int = 0
    finished_at: int = 0
    accounts: int = 0
    """Accounts that there were when it began."""
    users: int = 0
    """Users that Clerk listed."""
    odd: int = 0
    """Users of Clerk's whose ids cannot be read."""
    missing: int = 0
    """Users without an account."""
    opened: int = 0
    verified: int = 0
    """Accounts that are what their entries say."""
    wrong: int = 0
    """Accounts that were not."""
    fixed: int = 0
    entries: int = 0
    """Entries that were read for that."""
    unknown: int = 0
    """Open accounts of users whom Clerk does not know."""
    errors: int = 0
    report: Report = field(default_factory=Report)
    place: Place = field(default_factory=Place)

    @property
    def duration_ms(self) -> int:
        """From its start to its end, or to when it last came further."""
        return max(0, (self.finished_at or self.saved_at) - self.started_at)

    @property
    def is_right(self) -> bool:
        """Whether nothing is left wrong."""
        done = not self.reason and not self.errors and not self.report.totals and self.wrong == self.fixed
        return done and not (self.dry_run and self.missing)

    def complain(self, error: str) -> None:
        """Count what could not be done, and note it in words."""
        self.errors += 1
        note(self.report.errors, error[:_TEXT_MAX])

    def to_stored(self) -> dict[str, str]:
        """Its fields as a run's hash holds them; all but the last two are plain words and numbers."""
        stored = {"v": "1", "duration_ms": str(self.duration_ms)}
        for name in _PLAIN:
            stored[name] = str(getattr(self, name))
        return stored | {"report": _json(self.report), "place": _json(self.place)}

    @classmethod
    def from_stored(cls, run: str, stored: Mapping[bytes, bytes]) -> Self:
        """Read a run's hash."""
        text = {name.decode(): value.decode() for name, value in stored.items()}
        numbers: dict[str, Any] = {name: int(text[name]) for name in _NUMBERS}
        return cls(
            run,
            text["trigger"],
            state=RunState(text["state"]),
            reason=text["reason"],
            report=Report.from_json(text["report"]),
            place=Place.from_json(text["place"]),
            **numbers,
        )

    def as_dict(self) -> dict[str, Any]:
        """All but its place, as plain values, for JSON."""
        plain = {"id": self.id, **{name: getattr(self, name) for name in _PLAIN}}
        more = {"dry_run": self.dry_run, "duration_ms": self.duration_ms, "right": self.is_right}
        return {
            **plain,
            **more,
            "phase": self.place.phase,
            "users_listed": self.place.listing,
            "report": asdict(self.report),
        }


_NUMBERS = [each.name for each in fields(Run) if each.type == "int" or each.type is int]
_PLAIN = ["trigger", "state", "reason", *_NUMBERS]


def note(listed: list[Any], one: Any) -> None:
    """Add it, if there is room."""
    if len(listed) < LISTED_MAX:
        listed.append(one)


def _json(what: Report | Place) -> str:
    return json.dumps(asdict(what), ensure_ascii=False, separators=(",", ":"))
