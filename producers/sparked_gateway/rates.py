"""How often each API key and each person may ask, by token buckets in this process.

Of two gateways, each lets as much through.
"""

import math
import time
from collections.abc import Callable

RATE = 1000
"""Requests a second, where a key was made without another rate. More than one process serves."""

RATE_MAX = 100_000

PERSON_RATE = 50
"""Requests a second of one person: twenty tabs that all come back at once, and more than anybody clicks. A page of
history may cost the store some ms, and whoever signs up may ask for one."""

_FORGET_EVERY_S = 1.0


class Rates:
    """A bucket for each name, full at first. It holds a second's worth, so that a burst of as much is let through.

    Whoever has asked nothing for a second is forgotten, for then the bucket is full again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """How many requests were left to a name, and when."""
        self._forgot_at = clock()

    def wait_s(self, name: str, rate: int) -> int:
        """0, and the request is counted; or after how many whole seconds there is room for one, and it isn't.

        Args:
            rate: Requests a second.
        """
        now = self._clock()
        if now - self._forgot_at >= _FORGET_EVERY_S:
            self._forgot_at = now
            self._buckets = {each: bucket for each, bucket in self._buckets.items() if now - bucket[1] < 1}
        left, at = self._buckets.get(name, (float(rate), now))
        left = min(float(rate), left + (now - at) * rate)
        taken = 1 if left >= 1 else 0
        self._buckets[name] = left - taken, now
        return 0 if taken else math.ceil((1 - left) / rate)
