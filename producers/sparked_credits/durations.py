"""Durations that callers pass, checked."""

from datetime import timedelta

from sparked_credits.errors import InvalidIntent

TIMEOUT_S_MAX = 3600.0

_MS = timedelta(milliseconds=1)


def checked_seconds(what: str, seconds: float) -> float:
    """A duration that may be waited for, else `InvalidIntent`."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= TIMEOUT_S_MAX:
        raise InvalidIntent(
            f"{what}: must be seconds, more than 0 and at most {TIMEOUT_S_MAX:g}, not {seconds!r}"
        )
    return float(seconds)


def checked_ms(what: str, duration: timedelta, most_ms: int) -> int:
    """A duration of at least a second and at most `most_ms`, in ms, else `InvalidIntent`."""
    if not isinstance(duration, timedelta) or not 1_000 <= duration // _MS <= most_ms:
        most = timedelta(milliseconds=most_ms)
        raise InvalidIntent(f"{what}: must be a timedelta of 1 second to {most.days} days, not {duration!r}")
    return duration // _MS
