"""canvas.sparked.world: pictures. A simple one costs 50 credits, a complex one 75."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import StringConstraints
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sparked_world.answers import WorkFailed
from sparked_world.app import make_app
from sparked_world.asked import Body, key_of, read_body
from sparked_world.connections import World, connections
from sparked_world.drawing import draw
from sparked_world.pages import page
from sparked_world.signed_in import signed_in

NAME, TITLE = "canvas.sparked.world", "Canvas"

_PRICES = {"low": "canvas_generation_simple", "high": "canvas_generation_complex"}
_SHAPES = {"low": 12, "high": 60}


class Wish(Body):
    """What somebody wants to see."""

    prompt: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
    complexity: Literal["low", "high"] = "low"


def create_app(world: World) -> Starlette:
    """The app, with its page at `/`."""
    show = page(world, TITLE, main=_MAIN, script="canvas.js")
    return make_app(
        world, NAME, [Route("/", show), Route("/api/canvas/generate", generate, methods=["POST"])]
    )


async def generate(request: Request) -> Response:
    """Draw a picture."""
    session = await signed_in(request)
    asked = await read_body(request, Wish)
    key, opened = key_of(request, asked), connections(request)

    async def work() -> Mapping[str, Any]:
        async with opened.credits.charging(
            session.user,
            action="canvas_generation",
            price=_PRICES[asked.complexity],
            key=key,
            metadata={"app": NAME, "complexity": asked.complexity},
        ):
            if asked.prompt.startswith("/fail"):
                raise WorkFailed("The picture could not be drawn")
            canvas = await asyncio.to_thread(draw, asked.prompt, _SHAPES[asked.complexity])
        return {"canvas": canvas}

    return JSONResponse(await opened.once.answer(session.user, key, work))


_MAIN = """
<h1>Canvas</h1>
<p class="lead">Words become a picture: always the same one for the same words. A few lines of Python draw it.</p>
<section class="card" aria-label="Picture">
<form data-path="/api/canvas/generate">
<label for="prompt">What it shows</label>
<textarea id="prompt" name="prompt" data-testid="prompt" rows="2" maxlength="1000" required
 placeholder="Rain over a harbour"></textarea>
<p class="error" role="alert" data-testid="error" hidden></p>
<div class="row"><label class="choice">Complexity
<select name="complexity" data-testid="complexity">
<option value="low">Simple, 50 credits</option><option value="high">Complex, 75 credits</option>
</select></label>
<button class="button" data-testid="send" type="submit">Draw</button></div>
</form>
<figure class="result" data-testid="result" aria-live="polite" hidden>
<img alt="" width="640" height="400"><figcaption></figcaption></figure>
</section>"""
