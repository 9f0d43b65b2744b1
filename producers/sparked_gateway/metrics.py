"""What is counted of requests, for Prometheus, and the route that tells it."""

from collections.abc import Callable, Mapping
from time import perf_counter

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sparked_gateway.operations import Operation

_NO_ROUTE = "none"
"""Stands in for the path of a request that no route answers: what strangers send must not make new time series."""


class Metrics:
    """Of one app, in a registry of their own, so that a program may have several apps."""

    def __init__(self, listeners: Callable[[], int]) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "credits_gateway_requests",
            "Answers begun. 429 are refusals by rate.",
            ["route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "credits_gateway_seconds",
            "From a request's head to the head of its answer.",
            ["route"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        under_way = Gauge(
            "credits_gateway_under_way", "Requests that are not answered whole yet.", registry=registry
        )
        self._under_way = 0
        under_way.set_function(lambda: self._under_way)
        # To look a series up by its labels takes longer than to count.
        self._series: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        streams = Gauge("credits_gateway_listeners", "Streams that are open.", registry=registry)
        streams.set_function(listeners)

    def measured(self, app: ASGIApp) -> ASGIApp:
        """`app`, with each of its requests counted and timed. To be outside of all that may answer."""

        async def measure(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            began = perf_counter()

            async def send_and_count(message: Message) -> None:
                if message["type"] == "http.response.start":
                    requests, seconds = self._of(_route(scope), message["status"])
                    requests.inc()
                    seconds.observe(perf_counter() - began)
                await send(message)

            self._under_way += 1
            try:
                await app(scope, receive, send_and_count)
            finally:
                self._under_way -= 1

        return measure

    def _of(self, route: str, status: int) -> tuple[Counter, Histogram]:
        found = self._series.get((route, status))
        if found is None:
            found = self._requests.labels(route, status), self._seconds.labels(route)
            self._series[route, status] = found
        return found

    def route(self) -> Route:
        """`/metrics`."""

        async def show(request: Request) -> Response:
            return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

        return Route("/metrics", show)


def _route(scope: Scope) -> str:
    """The path of what answered, as it is declared."""
    operations: Mapping[str, Operation] | None = scope.get("methods")
    if operations:
        return next(iter(operations.values())).path
    return str(getattr(scope.get("route"), "path", _NO_ROUTE))
