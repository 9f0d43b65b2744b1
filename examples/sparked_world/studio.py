"""studio.sparked.world: videos, 10 credits a second, of which only those are paid for that were really made.

Credits are held for all the seconds that are asked for, so that the video cannot become unaffordable while it is being
made; at its end, however it ends, what was made is captured, and the rest released.
"""

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sparked_clerk.sessions import Session
from sparked_credits import InsufficientCredits
from sparked_world.answers import WorkFailed, error
from sparked_world.app import make_app
from sparked_world.asked import Body, key_of, read_body
from sparked_world.connections import World, connections
from sparked_world.film import Second, as_svg, as_url, film
from sparked_world.pages import page
from sparked_world.signed_in import signed_in

NAME, TITLE = "studio.sparked.world", "Studio"

SECONDS_MAX = 20

_LONGEST = timedelta(minutes=10)
"""A hold is released by itself after this, should the whole app die meanwhile."""

Films = Callable[[int, str, str], AsyncIterator[Second]]
"""What makes a film of so many seconds, in a resolution, from a seed."""

_log = logging.getLogger(__name__)


class Video(Body):
    """What somebody wants."""

    duration: Annotated[int, Field(ge=1, le=SECONDS_MAX)]
    resolution: Literal["720p", "1080p"] = "720p"


@dataclass(slots=True)
class Making:
    """A video that is being made."""

    made: list[Second] = field(default_factory=list)
    is_stopped: bool = False
    ended: str = "complete"


class Studio:
    """Makes videos, as far as they are wanted."""

    def __init__(self, films: Films) -> None:
        self._films = films
        self._under_way: dict[tuple[str, str], Making] = {}
        """By user and idempotency key."""

    async def generate(self, request: Request) -> Response:
        """Make a video, and take what its seconds cost."""
        session = await signed_in(request)
        name, asked = (session.user, key_of(request)), await read_body(request, Video)
        making = Making()

        async def work() -> dict[str, Any]:
            self._under_way[name] = making
            try:
                return await self._make(request, session.user, key_of(request, asked), asked, making)
            finally:
                self._under_way.pop(name, None)

        try:
            answer = await connections(request).once.answer(session.user, key_of(request, asked), work)
        except InsufficientCredits as short:
            needed = {"required": short.required, "estimated_cost": short.required}
            return error(402, "Insufficient credits", **needed, available=short.available)
        return JSONResponse(answer)

    async def _make(
        self, request: Request, user: str, key: str, asked: Video, making: Making
    ) -> dict[str, Any]:
        credits_ = connections(request).credits
        per_second = credits_.prices.cost("video_generation", 1)
        holding = credits_.holding(
            user,
            action="video_generation",
            quantity=asked.duration,
            key=key,
            expires_in=_LONGEST,
            metadata={
                "app": NAME,
                "duration": asked.duration,
                "resolution": asked.resolution,
                "credits_per_second": per_second,
            },
        )
        async with holding as hold:
            await self._film(request, key, asked, making)
            seconds = len(making.made)
            cost = credits_.prices.cost("video_generation", seconds) if seconds else 0
            hold.use(cost)
        video = as_url(as_svg(making.made, asked.resolution, key)) if seconds else None
        return {"video": video, "seconds": seconds, "cost": cost, "ended": making.ended}

    async def _film(self, request: Request, key: str, asked: Video, making: Making) -> None:
        """Go on until it is complete, nobody wants it any more, or the camera breaks."""
        try:
            async for second in self._films(asked.duration, asked.resolution, key):
                making.made.append(second)
                is_unwanted = making.is_stopped or await request.is_disconnected()
                if is_unwanted and len(making.made) < asked.duration:
                    making.ended = "stopped"
                    return
        except Exception as broken:
            # Whatever it was, the seconds before it are there, and are somebody's.
            _log.exception("a video broke off after %d s", len(making.made))
            if not making.made:
                raise WorkFailed("No video could be made") from broken
            making.ended = "failed"

    async def progress(self, request: Request) -> Response:
        """How many seconds are made of the video that is being made under this key."""
        making = self._find(await signed_in(request), request)
        return JSONResponse({"seconds": len(making.made) if making else None})

    async def stop(self, request: Request) -> Response:
        """Have no more of it made; `generate` then answers with what there is."""
        making = self._find(await signed_in(request), request)
        if making:
            making.is_stopped = True
        return JSONResponse({"stopping": making is not None})

    def _find(self, session: Session, request: Request) -> Making | None:
        return self._under_way.get((session.user, key_of(request)))


def create_app(world: World, films: Films = film) -> Starlette:
    """The app; `films` makes what it sells."""
    studio = Studio(films)
    return make_app(
        world,
        NAME,
        [
            Route("/", page(world, TITLE, main=_MAIN, script="studio.js")),
            Route("/api/video/generate", studio.generate, methods=["POST"]),
            Route("/api/video/progress", studio.progress),
            Route("/api/video/stop", studio.stop, methods=["POST"]),
        ],
    )


_MAIN = """
<h1>Studio</h1>
<p class="lead">A video costs 10 credits a second. They are set aside first; what is not made goes back to you.</p>
<section class="card" aria-label="Video">
<form data-path="/api/video/generate">
<label for="duration">Length <output for="duration"></output></label>
<input id="duration" name="duration" data-testid="duration" type="range" min="1" max="20" value="4">
<p class="error" role="alert" data-testid="error" hidden></p>
<div class="row"><label class="choice">Resolution
<select name="resolution" data-testid="resolution"><option>720p</option><option>1080p</option></select></label>
<span class="cost"></span>
<button class="button" data-testid="send" type="submit">Generate</button></div>
</form>
<div class="making row" data-testid="making" hidden>
<progress aria-label="Seconds made" max="1" value="0"></progress><span class="done" aria-live="polite"></span>
<button class="quiet" data-testid="stop" type="button">Stop here</button>
</div>
<figure class="result" data-testid="result" aria-live="polite" hidden>
<img alt="The video: waves that roll by" width="1280" height="720"><figcaption></figcaption></figure>
</section>"""
