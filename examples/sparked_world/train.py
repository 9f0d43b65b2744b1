"""train.sparked.world: trainings, 100 credits a GPU hour, which are paid for when they end.

The app holds what a training is estimated at, under the job's id, and has it started. How long it took is told by
whoever ran it, to `credits webhooks`, signed; the jobs then take what it cost, first from the hold. The app takes
nothing itself: it is told what became of it by signed events of ours, and shows that.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from svix.webhooks import Webhook, WebhookVerificationError

from sparked_credits import Credits, InsufficientCredits, LimitExceeded
from sparked_world.answers import WorkFailed, error
from sparked_world.app import make_app
from sparked_world.asked import Body, key_of, read_body
from sparked_world.connections import World, connections
from sparked_world.farm import Farm, NotAccepted, Training, estimated_hours
from sparked_world.pages import page
from sparked_world.signed_in import signed_in

NAME, TITLE = "train.sparked.world", "Train"

EVENTS = "/api/train/events"
"""Where our events go to, of the types in `TYPES`."""
TYPES = ("training.paused", "training.paid")

_JOBS_MAX, _SHOWN_MAX = 1000, 20
_LONGEST = timedelta(hours=1)
"""A hold is released by itself after this; a training that ends later is paid from what is available then."""


class Start(Body):
    """What somebody wants trained."""

    modelType: Literal["small", "large", "experimental"]  # noqa: N815 - the guide's name for it
    epochs: Annotated[int, Field(ge=1, le=100)]


@dataclass(slots=True)
class Job:
    """A training, as the app knows it: in memory, where a real one has a database."""

    id: str
    user: str
    asked: Start
    estimated_cost: int
    progress: float = 0
    state: str = "running"
    """Then `ended` until it is `paid`; `paused` where there is too little to pay it."""
    cost: int | None = None
    needs: int | None = None
    """Credits that have to be there for it to be paid, beside those that are held."""
    available: int | None = None
    """Credits that were there instead."""

    def went_on(self, progress: float) -> None:
        """The farm tells how far it has come."""
        self.progress = progress
        if progress == 1 and self.state == "running":
            self.state = "ended"

    def was_told(self, what: str, data: Mapping[str, Any]) -> None:
        """An event tells what became of its cost. Events may overtake each other: once paid, it stays so."""
        if self.state == "paid":
            return
        self.progress, self.cost = 1, data["cost"]
        if what == "training.paid":
            self.state = "paid"
        else:
            self.state, self.needs, self.available = "paused", data["required"], data["available"]

    def as_dict(self) -> dict[str, Any]:
        """As the page is told."""
        return {
            "job_id": self.id,
            **self.asked.model_dump(),
            "estimated_cost": self.estimated_cost,
            "progress": self.progress,
            "state": self.state,
            "cost": self.cost,
            "needs": self.needs,
            "available": self.available,
        }


class Trainings:
    """The jobs of this app's users.

    Args:
        secret: That events of ours are signed with, `whsec_…`.
    """

    def __init__(self, farm: Farm, secret: str) -> None:
        self._farm = farm
        self._events = Webhook(secret)
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    async def start(self, request: Request) -> Response:
        """Hold what a training is estimated at, and have it started."""
        session, asked = await signed_in(request), await read_body(request, Start)
        key = key_of(request, asked)
        hours = estimated_hours(asked.modelType, asked.epochs)
        cost = connections(request).credits.prices.cost("training_job", hours)
        try:
            work = partial(self._start, connections(request).credits, session.user, key, asked, cost)
            answer = await connections(request).once.answer(session.user, key, work)
        except InsufficientCredits as short:
            return error(
                402, "Insufficient credits", estimated_cost=cost, required=cost, available=short.available
            )
        except LimitExceeded:
            return error(403, "A training of yours is paused until it is paid; start more after that")
        return JSONResponse(answer)

    async def _start(self, credits_: Credits, user: str, key: str, asked: Start, cost: int) -> dict[str, Any]:
        # The same for the same request, and nobody else's: the ledger, too, knows a training by it.
        job = Job(f"job_{sha256(f'{user} {key}'.encode()).hexdigest()[:16]}", user, asked, cost)
        hours = estimated_hours(asked.modelType, asked.epochs)
        await credits_.hold(
            user,
            action="training_job",
            quantity=hours,
            key=job.id,
            expires_in=_LONGEST,
            metadata={
                "app": NAME,
                "modelType": asked.modelType,
                "epochs": asked.epochs,
                "estimated_hours": float(hours),
            },
        )
        self._jobs[job.id] = job
        if len(self._jobs) > _JOBS_MAX:
            self._jobs.popitem(last=False)
        try:
            await self._farm.start(Training(job.id, user, asked.modelType, asked.epochs), job.went_on)
        except NotAccepted as gone:
            del self._jobs[job.id]
            await credits_.void(user, hold=job.id, key=f"void:{job.id}")
            raise WorkFailed("The training could not be started") from gone
        return {
            "job_id": job.id,
            "estimated_cost": cost,
            "message": "Will be charged when training completes",
        }

    async def show(self, request: Request) -> Response:
        """One of the user's trainings."""
        session = await signed_in(request)
        job = self._jobs.get(request.path_params["id"])
        if job is None or job.user != session.user:
            return error(404, "You have no such training")
        return JSONResponse(job.as_dict())

    async def show_all(self, request: Request) -> Response:
        """The user's trainings, the newest first."""
        session = await signed_in(request)
        own = [job.as_dict() for job in reversed(self._jobs.values()) if job.user == session.user]
        return JSONResponse({"jobs": own[:_SHOWN_MAX]})

    async def told(self, request: Request) -> Response:
        """Take in an event of ours. It may come twice, and late: what it says of a job is only ever set."""
        body = await request.body()
        try:
            self._events.verify(body, dict(request.headers))
        except (WebhookVerificationError, ValueError):  # The latter for what is no text at all.
            return error(400, "not authentic")
        event = json.loads(body)
        job = self._jobs.get(event["data"].get("job_id", ""))
        if job:
            job.was_told(event["type"], event["data"])
        return Response(status_code=204)


def create_app(world: World, *, webhooks: str, webhooks_secret: str, events_secret: str) -> Starlette:
    """The app, and a farm beside it.

    Args:
        webhooks: Where `credits webhooks` takes in what the farm tells; it knows `webhooks_secret`.
        events_secret: That `credits jobs` sign with what they send to `EVENTS`.
    """
    farm = Farm(webhooks, webhooks_secret)
    trainings = Trainings(farm, events_secret)
    return make_app(
        world,
        NAME,
        [
            Route("/", page(world, TITLE, main=_MAIN, script="train.js")),
            Route("/api/train/start", trainings.start, methods=["POST"]),
            Route("/api/train/jobs", trainings.show_all),
            Route("/api/train/jobs/{id}", trainings.show),
            Route(EVENTS, trainings.told, methods=["POST"]),
        ],
        also=lambda: farm,
    )


_MAIN = """
<h1>Train</h1>
<p class="lead">A training costs 100 credits for each hour of a GPU. What it will take is estimated and set aside;
what it took is charged when it ends.</p>
<section class="card" aria-label="New training">
<form data-path="/api/train/start">
<div class="fields"><label>Model
<select name="modelType" data-testid="model">
<option value="small">Small, about 5 credits an epoch</option>
<option value="large">Large, about 20 credits an epoch</option>
<option value="experimental">Experimental, about 10, often more</option></select></label>
<label>Epochs
<input name="epochs" data-testid="epochs" type="number" min="1" max="100" value="3" required></label></div>
<p class="error" role="alert" data-testid="error" hidden></p>
<div class="row"><span class="cost"></span>
<button class="button" data-testid="send" type="submit">Start</button></div>
</form>
</section>
<section class="signed-in card" aria-labelledby="trainings" hidden>
<h2 id="trainings">Trainings</h2>
<p class="error" role="status" data-testid="paused" hidden></p>
<ol class="jobs" data-testid="result" aria-live="polite"></ol>
<p class="none">None yet.</p>
</section>"""
