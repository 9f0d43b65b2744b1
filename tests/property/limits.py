"""The model's spend limits: what counts now, and when it stops counting."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(slots=True)
class Limit:
    """So many credits a window, of one action or of all."""

    window: str
    action: str
    amount: int
    spent: dict[int, int] = field(default_factory=dict)
    """Credits by bucket: a day, a month, one hour of a rolling day, or all time."""
    told: int | None = None
    """The bucket in which it was last told that the limit is reached."""

    def counts(self, bucket: int, now: int) -> bool:
        """Whether what was spent in `bucket` still counts."""
        current = bucket_of(self.window, now)
        return bucket > current - 24 if self.window == "rolling_day" else bucket == current

    def has_told(self, now: int) -> bool:
        """Whether it was told in this window that the limit is reached."""
        return self.told is not None and self.counts(self.told, now)

    def count(self, at: int, amount: int) -> None:
        """Add what was spent at `at`, or take off, down to nothing: it may have been spent before the limit was set."""
        bucket = bucket_of(self.window, at)
        self.spent[bucket] = max(0, self.spent.get(bucket, 0) + amount)

    def counted(self, now: int) -> dict[int, int]:
        """What counts now, by bucket."""
        return {bucket: spent for bucket, spent in self.spent.items() if spent and self.counts(bucket, now)}

    def refusal(self, amount: int, now: int) -> dict[str, int | str] | None:
        """Why `amount` can't be spent now, or None."""
        counted = self.counted(now)
        spent = sum(counted.values())
        if spent + amount <= self.amount:
            return None
        return {
            "window": self.window,
            "limit": self.amount,
            "spent": spent,
            "resets_at": self._resets_at(amount, now, counted),
        }

    def _resets_at(self, amount: int, now: int, counted: dict[int, int]) -> int:
        if amount > self.amount or self.window == "ever":
            return 0
        if self.window == "day":
            return (now // DAY_MS + 1) * DAY_MS
        if self.window == "month":
            date = datetime.fromtimestamp(now / 1000, UTC)
            after = datetime(date.year + date.month // 12, date.month % 12 + 1, 1, tzinfo=UTC)
            return int(after.timestamp()) * 1000
        # Hour by hour the oldest leaves, until this fits beside those that stay.
        return next(
            (hour + 24) * HOUR_MS
            for hour in sorted(counted)
            if amount + sum(spent for later, spent in counted.items() if later > hour) <= self.amount
        )


def bucket_of(window: str, at: int) -> int:
    if window == "ever":
        return 0
    if window == "month":
        date = datetime.fromtimestamp(at / 1000, UTC)
        return date.year * 12 + date.month - 1
    return at // (DAY_MS if window == "day" else HOUR_MS)
