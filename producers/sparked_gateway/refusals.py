"""Who is turned away, in the log: once each, with the reason, without secrets, and not so much as to fill a disk."""

import logging
import time
from collections.abc import Callable

from sparked_gateway.rates import Rates

LINES_S = 5
"""Lines a second, for each kind of reason. What is left out is counted, and told with the next line."""

_log = logging.getLogger(__name__)


class Refusals:
    """Tells of refusals. What is told is ours: an API key's id at most, and nothing that the caller sent."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = Rates(clock)
        self._left_out = 0

    def tell(self, status: int, reason: str, *, key: str | None = None) -> None:
        """Log one refusal.

        Args:
            reason: One of a few, so that they can be counted.
            key: Id of the API key, if there is one of that id.
        """
        if self._rates.wait_s(str(status), LINES_S):
            self._left_out += 1
            return
        who = f"API key {key}: " if key else ""
        more = f" ({self._left_out} more refusals were not told)" if self._left_out else ""
        self._left_out = 0
        _log.info("refused with %d: %s%s%s", status, who, reason, more)
