"""What people type, read exactly, or refused with one sentence that says what would be right."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from sparked_credits import InvalidIntent

_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_DURATION = re.compile(r"(?:[0-9]{1,9}[wdhms])+")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def whole_number(what: str, text: str) -> int:
    """The number that `text` writes with digits alone; `1.5`, `1e3` and `true` are refused, not rounded."""
    if not re.fullmatch(r"-?[0-9]{1,20}", text):
        raise InvalidIntent(f"{what}: must be a whole number written with digits alone, not {_quoted(text)}")
    return int(text)


def optional_number(what: str, text: str | None) -> int | None:
    """The same; None where nothing was given."""
    return None if text is None else whole_number(what, text)


def number_or_none(what: str, text: str) -> int | None:
    """The same; None where the word `none` was given."""
    if text == "none":
        return None
    if not re.fullmatch(r"-?[0-9]{1,20}", text):
        raise InvalidIntent(
            f"{what}: must be `none`, or a whole number written with digits alone, not {_quoted(text)}"
        )
    return int(text)


def duration(what: str, text: str) -> timedelta:
    """A length of time: `90s`, `30m`, `6h`, `30d`, `2w`, or several of them in a row, `1h30m`."""
    try:
        if _DURATION.fullmatch(text):
            parts = re.findall(r"([0-9]+)([wdhms])", text)
            return sum((int(number) * _UNITS[unit] for number, unit in parts), timedelta())
    except OverflowError:
        pass
    raise InvalidIntent(
        f"{what}: must be a length of time such as 90s, 30m, 6h, 30d or 2w, not {_quoted(text)}"
    )


def moment(what: str, text: str, *, now: datetime | None = None) -> datetime:
    """A moment: a date (its midnight), a date and time, UTC unless it says otherwise, or `7d` for 7 days ago."""
    try:
        if _DURATION.fullmatch(text):
            return (now or datetime.now(UTC)) - duration(what, text)
        return _iso(text)
    except (ValueError, OverflowError):
        raise InvalidIntent(
            f"{what}: must be a date such as 2026-11-30, a date and time such as 2026-11-30T18:00 (UTC unless it "
            f"ends with an offset such as +02:00), or a time ago such as 7d, not {_quoted(text)}"
        ) from None


def optional_moment(what: str, text: str | None) -> datetime | None:
    """The same; None where nothing was given."""
    return None if text is None else moment(what, text)


def expiry(what: str, text: str, *, now: datetime | None = None) -> datetime:
    """A moment to come: a date, a date and time, or `30d` from now.

    The moment is part of what an idempotency key stands for. So a length of time is counted to the end of the
    last of its units (`30d`: the midnight after, UTC), and the same command a minute later means the same moment.
    """
    try:
        if not _DURATION.fullmatch(text):
            return _iso(text).astimezone(UTC)
        exact = (now or datetime.now(UTC)) + duration(what, text)
        unit = min(_UNITS[text[-1]], timedelta(days=1))
        return exact + -(exact - _EPOCH) % unit
    except (ValueError, OverflowError):
        raise InvalidIntent(
            f"{what}: must be a date such as 2026-11-30, a date and time such as 2026-11-30T18:00 (UTC unless it "
            f"ends with an offset such as +02:00), or a time from now such as 30d, not {_quoted(text)}"
        ) from None


def end_of_today() -> datetime:
    """The midnight to come, UTC: whatever happened until now is before it, though the store's clock be ahead."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=1)


def json_object(what: str, text: str) -> dict[str, Any]:
    """The JSON object that `text` writes."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidIntent(f'{what}: must be a JSON object, such as {{"model": "small"}}')
    return value


def _iso(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _quoted(text: str) -> str:
    return repr(text[:40])
