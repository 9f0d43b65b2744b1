"""`credits webhooks`: takes events in over HTTP."""

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from sparked_cli.options import AsJson, Command
from sparked_cli.output import out, say
from sparked_cli.serving import log_to_stderr, read_settings, stop_on_signals
from sparked_credits import StoreRefused

if TYPE_CHECKING:
    from pydantic import SecretStr

    from sparked_cli.http_server import Server
    from sparked_webhooks.settings import WebhooksSettings

commands = typer.Typer()
command = partial(commands.command, cls=Command, rich_help_panel="Run")


@command()
def webhooks(
    url: Annotated[str, typer.Option(help="The store; else CREDITS_URL.", metavar="URL")] = "",
    as_json: AsJson = False,
) -> None:
    """Take in what Clerk and the training service tell, until stopped.

    CLERK_WEBHOOK_SECRET, TRAINING_WEBHOOK_SECRET and CRON_SECRET each open a route; docs/operations.md has the rest.
    """
    from sparked_cli.http_server import run
    from sparked_webhooks.settings import WebhooksSettings

    log_to_stderr()
    server = webhooks_server(read_settings(WebhooksSettings, url))
    if server is None:
        raise StoreRefused(
            "settings: none of CLERK_WEBHOOK_SECRET, TRAINING_WEBHOOK_SECRET and CRON_SECRET is set: nothing would be "
            "taken in"
        )

    def ready(where: str) -> None:
        say(f"serving {where}", {"ready": True, "pid": os.getpid(), "url": where}, as_json=as_json)
        out.file.flush()

    async def work() -> None:
        stop_on_signals(server.stop)
        await server.run(ready)

    run(work())


def webhooks_server(settings: "WebhooksSettings") -> "Server | None":
    """What takes events in; None if no secret is set, so that there would be none to take in.

    Raises:
        StoreRefused: A setting can't be used; the message names it.
    """
    from sparked_cli.http_server import Server
    from sparked_webhooks import UnusableSecret, create_app

    secrets = (settings.clerk_webhook_secret, settings.training_webhook_secret, settings.cron_secret)
    if all(secret is None for secret in secrets):
        return None
    try:
        app = create_app(
            settings.url.get_secret_value(),
            clerk_secrets=_text(settings.clerk_webhook_secret),
            training_secrets=_text(settings.training_webhook_secret),
            cron_secrets=_text(settings.cron_secret),
            clerk_instance_id=settings.clerk_instance_id,
            signup_verified_only=settings.signup_verified_only,
            jobs_url=_text(settings.jobs_url),
            namespace=settings.namespace,
            epoch=settings.epoch or None,
        )
    except UnusableSecret as error:
        raise StoreRefused(f"settings: {error}") from None
    named = ("CREDITS_WEBHOOKS_HOST", "CREDITS_WEBHOOKS_PORT")
    return Server(app, host=settings.webhooks_host, port=settings.webhooks_port, settings=named)


def _text(secret: "SecretStr | None") -> str | None:
    return None if secret is None else secret.get_secret_value()
