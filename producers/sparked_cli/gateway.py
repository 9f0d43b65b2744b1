"""`credits gateway`: the same over HTTP, for apps in any language and for people."""

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from sparked_cli.options import AsJson, Command
from sparked_cli.output import out, say
from sparked_cli.serving import log_to_stderr, read_settings, stop_on_signals
from sparked_credits import StoreRefused

if TYPE_CHECKING:
    from sparked_cli.http_server import Server
    from sparked_gateway.settings import GatewaySettings

commands = typer.Typer()
command = partial(commands.command, cls=Command, rich_help_panel="Run")


@command()
def gateway(
    url: Annotated[str, typer.Option(help="The store; else CREDITS_URL.", metavar="URL")] = "",
    as_json: AsJson = False,
) -> None:
    """Serve apps in any language and people in a browser, over HTTP, until stopped.

    Apps come with a key of `credits keys create`; people with a session of Clerk's, if CLERK_PUBLISHABLE_KEY and
    CREDITS_ORIGINS are set. docs/operations.md has the rest.
    """
    from sparked_cli.http_server import run
    from sparked_gateway.settings import GatewaySettings

    log_to_stderr()
    server = gateway_server(read_settings(GatewaySettings, url))

    def ready(where: str) -> None:
        told = {"ready": True, "pid": os.getpid(), "url": where, "console": f"{where}/console"}
        say(f"serving {where}, the console is at {where}/console", told, as_json=as_json)
        out.file.flush()

    async def work() -> None:
        stop_on_signals(server.stop)
        await server.run(ready)

    run(work())


def gateway_server(settings: "GatewaySettings") -> "Server":
    """What answers apps and people.

    Raises:
        StoreRefused: A setting can't be used; the message names it.
        InvalidPriceBook: The price book can't be used.
    """
    from sparked_clerk.directory import DirectoryRefused
    from sparked_cli.http_server import Server
    from sparked_credits.pricing import PriceBook
    from sparked_gateway.app import create_app

    clerk = settings.clerk()
    try:
        if clerk:
            clerk.check()
    except (ValueError, DirectoryRefused) as error:
        raise StoreRefused(f"settings: {error}") from None
    app = create_app(
        settings.url.get_secret_value(),
        namespace=settings.namespace,
        epoch=settings.epoch,
        prices=PriceBook.load(settings.prices) if settings.prices else None,
        clerk=clerk,
        origins=settings.origins.split(),
    )
    named = ("CREDITS_GATEWAY_HOST", "CREDITS_GATEWAY_PORT")
    return Server(app, host=settings.gateway_host, port=settings.gateway_port, settings=named)
