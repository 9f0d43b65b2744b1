"""The ASGI app: which route is answered by what, and how each error is answered."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ExceptionHandler, Lifespan

from sparked_credits.errors import StoreRefused, Unavailable, describe
from sparked_credits.keys import Keys
from sparked_credits.sharing import Shared
from sparked_webhooks import clerk, training
from sparked_webhooks.bodies import RETRY_S, NotJson
from sparked_webhooks.cron import Bearer, Cron
from sparked_webhooks.gauges import gauges
from sparked_webhooks.health import Readiness, alive
from sparked_webhooks.intake import Intake, Places
from sparked_webhooks.metrics import Metrics
from sparked_webhooks.signatures import NotAuthentic, Secrets
from sparked_webhooks.sources import Source
from sparked_webhooks.stores import Stores

_log = logging.getLogger(__name__)


def create_app(
    url: str,
    *,
    clerk_secrets: str | None = None,
    training_secrets: str | None = None,
    cron_secrets: str | None = None,
    clerk_instance_id: str | None = None,
    signup_verified_only: bool = False,
    jobs_url: str | None = None,
    namespace: str = "credits",
    epoch: str | None = None,
) -> Starlette:
    """Make the app that takes events in; serve it alone, or mount it in an app of your own.

    It connects to the store when its lifespan begins, or else with the first request that needs it: a mounted app's
    lifespan is not run by itself. To connect early there, and to disconnect in good order, run it in your own:
    `async with app.router.lifespan_context(app): yield`.

    Args:
        url: The store, as for `Credits.connect`. Its user need only read what the store is, and append to the inbox.
        clerk_secrets: Signing secrets of Clerk's endpoint, separated by white space; None: there is no such route.
        training_secrets: Those of the training service; likewise.
        cron_secrets: Bearer secrets of whoever may begin reconciliations; likewise.
        clerk_instance_id: The only instance of Clerk whose events count; None: any that is signed with our secret.
        signup_verified_only: Whether the jobs open accounts for verified users only, so that changes of users matter.
        jobs_url: A plain server for arq's queue, where the store is a Cluster; None: the store.
        epoch: The epoch that the store must have; None accepts the one that is there when it is connected.

    Raises:
        UnusableSecret: A secret is missing, malformed or too short. The message names the setting.
        StoreRefused: A URL cannot be used, or names a Cluster for arq's queue.
    """
    keys = Keys(namespace)
    stores = Stores(url, jobs_url=jobs_url, keys=keys, epoch=epoch)
    metrics, places = Metrics(), Places()
    routes = _open_routes(stores, keys, metrics)

    if clerk_secrets is not None:
        read = partial(clerk.read, instance_id=clerk_instance_id, verified_only=signup_verified_only)
        source = Source("clerk", Secrets.parse("CLERK_WEBHOOK_SECRET", clerk_secrets), read)
        take = Intake(source, stores, keys, places, metrics).take
        routes += [Route(path, take, methods=["POST"]) for path in ("/webhooks/clerk", "/api/webhooks/clerk")]

    if training_secrets is not None:
        source = Source("training", Secrets.parse("TRAINING_WEBHOOK_SECRET", training_secrets), training.read)
        take = Intake(source, stores, keys, places, metrics).take
        routes += [
            Route(path, take, methods=["POST"]) for path in ("/webhooks/training", "/api/train/webhook")
        ]

    if cron_secrets is not None:
        cron = Cron(Bearer.parse("CRON_SECRET", cron_secrets), stores, keys, places, metrics)
        for path in ("/cron/reconcile", "/api/cron/reconcile"):
            routes.append(_without_head(Route(path, cron.begin, methods=["GET", "POST"])))
            routes.append(Route(f"{path}/{{id}}", cron.state))

    app = Starlette(routes=routes, lifespan=_lifespan(stores), exception_handlers=_ANSWERS)
    # A sender does not follow a redirection, and would not sign its target.
    app.router.redirect_slashes = False
    return app


def _open_routes(stores: Stores, keys: Keys, metrics: Metrics) -> list[Route]:
    """Those that need no secret, and tell none."""
    of_the_store = Shared(partial(gauges, stores, keys))

    async def show_metrics(request: Request) -> Response:
        text = generate_latest(metrics.registry) + await of_the_store.result()
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return [
        Route("/healthz", alive),
        Route("/readyz", Readiness(stores, keys).ready),
        Route("/metrics", show_metrics),
    ]


def _without_head(route: Route) -> Route:
    """Starlette has every GET answer HEAD too; but here GET begins something."""
    assert route.methods is not None
    route.methods.discard("HEAD")
    return route


def _lifespan(stores: Stores) -> Lifespan[Starlette]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            await stores.main()
        except StoreRefused:
            raise
        except Unavailable as error:
            _log.warning("the store is not there yet, senders are asked to try again: %s", describe(error))
        try:
            yield
        finally:
            await stores.aclose()

    return lifespan


# How errors are answered. Asynchronously: for what isn't, Starlette starts threads, which need files and memory, and
# these may be what is short.


async def _answer_not_authentic(request: Request, error: Exception) -> Response:
    """All alike: what is wrong would help a forger."""
    return JSONResponse({"error": "bad request"}, 400)


async def _answer_unavailable(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "unavailable"}, 503, {"retry-after": str(RETRY_S)})


async def _answer_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


_ANSWERS: Mapping[Any, ExceptionHandler] = {
    NotAuthentic: _answer_not_authentic,
    NotJson: _answer_not_authentic,
    ClientDisconnect: _answer_not_authentic,  # Nobody is there to read it.
    Unavailable: _answer_unavailable,
    HTTPException: _answer_status,
}
