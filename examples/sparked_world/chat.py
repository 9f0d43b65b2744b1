"""app.sparked.world: a chat. A message costs 10 credits, taken before it is answered and given back if that fails."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import StringConstraints
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import sparked_webhooks
from sparked_world.answers import WorkFailed
from sparked_world.app import make_app
from sparked_world.asked import Body, key_of, read_body
from sparked_world.connections import World, connections
from sparked_world.pages import page
from sparked_world.signed_in import signed_in

NAME, TITLE = "app.sparked.world", "Chat"

_METADATA = {"app": NAME, "model": "claude-sonnet-4"}


class Message(Body):
    """What somebody writes."""

    message: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]


def create_app(world: World, *, webhooks_url: str, clerk_webhook_secret: str) -> Starlette:
    """The app, with its page at `/`. It takes in Clerk's webhooks too, at `/api/webhooks/clerk`.

    Args:
        webhooks_url: The store, as a user who may take events in; the same where the store knows no users.
        clerk_webhook_secret: Signing secrets of that endpoint, separated by spaces.

    Raises:
        UnusableSecret: A secret is malformed; the message says how one looks.
    """
    webhooks = sparked_webhooks.create_app(
        webhooks_url, clerk_secrets=clerk_webhook_secret, namespace=world.namespace
    )
    show = page(world, TITLE, main=_MAIN, script="chat.js")
    return make_app(
        world,
        NAME,
        [
            Route("/", show),
            Route("/chat", show),
            Route("/api/chat", chat, methods=["POST"]),
            # As it is, and not mounted, for then its health and metrics would be open here as well.
            Route("/api/webhooks/clerk", webhooks),
        ],
        also=partial(webhooks.router.lifespan_context, webhooks),
    )


async def chat(request: Request) -> Response:
    """Answer a message."""
    session = await signed_in(request)
    asked = await read_body(request, Message)
    key, opened = key_of(request, asked), connections(request)

    async def work() -> Mapping[str, Any]:
        async with opened.credits.charging(
            session.user, action="chat_message", key=key, metadata=_METADATA
        ) as receipt:
            reply = await answer(asked.message)
        return {"reply": reply, "credits_remaining": receipt.available}

    return JSONResponse(await opened.once.answer(session.user, key, work))


async def answer(message: str) -> str:
    """Where a model would be asked. This only counts, and says so.

    Raises:
        WorkFailed: The message begins with `/fail`.
    """
    if message.startswith("/fail"):
        raise WorkFailed("The message could not be answered")
    words = len(message.split())
    return (
        f"You wrote {words} {'word' if words == 1 else 'words'}: “{message}”. "
        "I am no model, only a few lines of Python which show how a message is paid for."
    )


_MAIN = """
<h1>Chat</h1>
<p class="lead">A message costs 10 credits. If no answer comes, as to <code>/fail</code>, you get them back.</p>
<section class="card" aria-label="Conversation">
<ol class="talk" data-testid="result" aria-live="polite" aria-label="Messages"
 tabindex="0"></ol>
<form data-path="/api/chat">
<label for="prompt">Message</label>
<textarea id="prompt" name="message" data-testid="prompt" rows="2" maxlength="4000" required
 placeholder="Say something"></textarea>
<p class="error" role="alert" data-testid="error" hidden></p>
<div class="row"><span class="cost">10 credits</span>
<button class="button" data-testid="send" type="submit">Send</button></div>
</form>
</section>"""
