"""From Clerk's event to the account, over HTTP: however often a delivery fails, before or after it was accepted."""

import asyncio

import pytest
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sparked_clerk.stand_in import RETRIES_S, ClerkStandIn
from sparked_clerk.stand_in.serving import serving
from tests.conftest import System
from tests.integration.events_in import app_over
from tests.integration.test_jobs import all_done, grants, working
from tests.signing import OTHER_SECRET, SECRET

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


class Failing:
    """An app of which the first answers are lost: before it was asked, or after it had done its work."""

    def __init__(self, app: ASGIApp, failures: int, *, afterwards: bool) -> None:
        self._app = app
        self._failures = failures
        self._afterwards = afterwards

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._failures == 0:
            await self._app(scope, receive, send)
            return
        self._failures -= 1
        if self._afterwards:
            await self._app(scope, receive, _nowhere)
        await Response(status_code=502)(scope, receive, send)


async def _nowhere(message: Message) -> None:
    pass


@pytest.mark.parametrize("afterwards", [False, True], ids=["not-accepted", "accepted-but-not-told-so"])
async def test_an_event_has_one_effect_however_often_its_delivery_fails(
    system: System, afterwards: bool
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with working(system), system.admin() as admin:
        for failures in range(len(RETRIES_S)):
            app = app_over(system, clerk_secrets=SECRET)
            failing = Failing(app, failures, afterwards=afterwards)
            async with (
                app.router.lifespan_context(app),
                serving(failing) as where,
                ClerkStandIn(sleep=sleep) as clerk,
            ):
                clerk.send_to(f"{where}/webhooks/clerk", SECRET)
                user = clerk.sign_up(email="someone@example.com")
                await clerk.delivered()
                statuses = [attempt.status for attempt in clerk.messages[0].attempts]
                assert statuses == [502] * failures + [200]
            await all_done(system)
            assert await grants(admin, user) == [("open", 100)]
    assert set(slept) == set(RETRIES_S) - {0}


async def test_a_user_who_is_told_of_at_two_endpoints_is_granted_once(system: System) -> None:
    one, other = app_over(system, clerk_secrets=SECRET), app_over(system, clerk_secrets=OTHER_SECRET)
    async with working(system), system.admin() as admin, ClerkStandIn() as clerk:
        async with (
            one.router.lifespan_context(one),
            other.router.lifespan_context(other),
            serving(one) as here,
            serving(other) as there,
        ):
            clerk.send_to(f"{here}/webhooks/clerk", SECRET)
            clerk.send_to(f"{there}/api/webhooks/clerk", OTHER_SECRET)
            users = [clerk.sign_up(email=f"{number}@example.com") for number in range(20)]
            await clerk.delivered()
        await all_done(system)
        assert await asyncio.gather(*(grants(admin, user) for user in users)) == [[("open", 100)]] * 20
