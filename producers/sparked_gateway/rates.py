"""How often each API key may ask, by token buckets in this process: of two gateways, each lets as much through."""

import math
import time
from collections.abc import Callable

RATE = 1000
"""Requests a second, where a key was made without another rate. More than one process serves."""

RATE_MAX = 100_000


class Rates:
    """A bucket for each key, full at first. It holds a second's worth, so that a burst of as much is let through.

    There are never more buckets than keys in the store, for only keys that are good come here.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """How many requests were left to a key, and when."""

    def wait_s(self, key: str, rate: int) -> int:
        """0, and the request is counted; or after how many whole seconds there is room for one, and it isn't.

        Args:
            rate: Requests a second.
        """
        now = self._clock()
        left, at = self._buckets.get(key, (float(rate), now))
        left = min(float(rate), left + (now - at) * rate)
        taken = 1 if left >= 1 else 0
        self._buckets[key] = left - taken, now
        return 0 if taken else math.ceil((1 - left) / rate)
