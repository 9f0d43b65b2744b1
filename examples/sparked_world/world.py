"""The four apps, each made as it is told where the others are."""

from collections.abc import Mapping

from starlette.applications import Starlette

from sparked_world import canvas, chat, studio, train
from sparked_world.connections import World

TITLES = (chat.TITLE, canvas.TITLE, studio.TITLE, train.TITLE)
"""In the order in which pages list them."""


def make_apps(
    world: World, *, webhooks: str, clerk_secret: str, training_secret: str, events_secret: str
) -> Mapping[str, Starlette]:
    """The apps by title; the lifespan of each has to be run.

    Args:
        webhooks: Where `credits webhooks` takes in the training service's events.
        clerk_secret: That Clerk signs with what it sends to the chat, `/api/webhooks/clerk`.
        training_secret: That the training service signs with what it sends to `webhooks`.
        events_secret: That `credits jobs` sign with what they send to the training app, `train.EVENTS`.
    """
    training = train.create_app(
        world, webhooks=webhooks, webhooks_secret=training_secret, events_secret=events_secret
    )
    return {
        chat.TITLE: chat.create_app(world, webhooks_url=world.credits_url, clerk_webhook_secret=clerk_secret),
        canvas.TITLE: canvas.create_app(world),
        studio.TITLE: studio.create_app(world),
        train.TITLE: training,
    }
