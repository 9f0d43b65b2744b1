"""What an examination found, each with the one thing to do about it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

_NAMED_MAX = 8


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It works, and something should be done before it does not; or it could not be looked at."""
    FAIL = "fail"
    """Something does not work, or what is acknowledged may be lost."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    """What was looked at, in a word."""
    verdict: Verdict
    text: str
    todo: str = ""
    """What to do; empty where there is nothing."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return asdict(self)


def ok(subject: str, text: str) -> Finding:
    return Finding(subject, Verdict.OK, text)


def warn(subject: str, text: str, todo: str) -> Finding:
    return Finding(subject, Verdict.WARN, text, todo)


def fail(subject: str, text: str, todo: str) -> Finding:
    return Finding(subject, Verdict.FAIL, text, todo)


def unseen(subject: str, command: str) -> Finding:
    """It could not be looked at, for the store's user may not."""
    return warn(
        subject, f"not looked at: this user of the store may not {command}", "run it as the user `worker`"
    )


def shards_text(shards: Sequence[int]) -> str:
    """`shard 3`, or `shards 1, 2, 3` as far as they can be read."""
    named = ", ".join(str(shard) for shard in shards[:_NAMED_MAX])
    more = f" and {len(shards) - _NAMED_MAX} more" if len(shards) > _NAMED_MAX else ""
    return f"shard{'s' if len(shards) > 1 else ''} {named}{more}"
