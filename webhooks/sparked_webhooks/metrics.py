"""What is counted of requests, for Prometheus."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sparked_credits.errors import Unavailable
from sparked_webhooks.bodies import NotJson
from sparked_webhooks.signatures import NotAuthentic

_log = logging.getLogger(__name__)


class Metrics:
    """Of one app, in a registry of their own, so that a program may have several apps."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.accepted = Counter(
            "credits_webhooks_accepted", "Events put into the inbox.", ["source", "type"], registry=registry
        )
        self.ignored = Counter(
            "credits_webhooks_ignored",
            "Events that nothing is to be done about.",
            ["source"],
            registry=registry,
        )
        self.dead = Counter(
            "credits_webhooks_dead",
            "Authentic events that are dead letters.",
            ["source", "reason"],
            registry=registry,
        )
        self.refused = Counter(
            "credits_webhooks_refused", "Requests that were refused.", ["source", "reason"], registry=registry
        )
        self._seconds = Histogram(
            "credits_webhooks_seconds",
            "From a request's head to its answer.",
            ["source"],
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )

    @contextmanager
    def request(self, source: str) -> Iterator[None]:
        """Time what the block does, and count and log why it refused, if it did."""
        started = perf_counter()
        try:
            yield
        except (NotAuthentic, NotJson, HTTPException, Unavailable, ClientDisconnect) as error:
            reason = _reason(error)
            self.refused.labels(source, reason).inc()
            _log.warning(
                "refused a request of %s: %s", source, error if isinstance(error, Unavailable) else reason
            )
            raise
        finally:
            self._seconds.labels(source).observe(perf_counter() - started)


def _reason(error: Exception) -> str:
    """Why it was refused, in one of a few ways of saying it."""
    if isinstance(error, Unavailable):
        return "unavailable"
    if isinstance(error, ClientDisconnect):
        return "its sender is gone"
    return error.detail if isinstance(error, HTTPException) else str(error)
