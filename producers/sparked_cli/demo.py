"""`credits demo`: everything at once on a store of its own, with the four example apps, to be used in a browser."""

import asyncio
import socket
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from secrets import token_bytes

from pydantic import SecretStr
from rich.table import Table

from sparked_clerk.stand_in import ClerkStandIn
from sparked_cli.gateway import gateway_server
from sparked_cli.http_server import Server
from sparked_cli.ingesting import webhooks_server
from sparked_cli.output import out, say
from sparked_cli.serving import stop_on_signals
from sparked_cli.together import Service, run_together
from sparked_cli.up import Jobs, own_store
from sparked_credits import StoreRefused
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_gateway import api_keys
from sparked_gateway.callers import Scope
from sparked_gateway.settings import GatewaySettings
from sparked_webhooks.settings import WebhooksSettings
from sparked_workers.settings import Endpoint, JobsSettings
from sparked_workers.worker import Worker
from sparked_world import train
from sparked_world.connections import World
from sparked_world.world import TITLES, make_apps

HOST = "127.0.0.1"
"""Everywhere the same, for a browser keeps who is signed in by host, whatever the port."""

PLACES = ("gateway", *TITLES, "webhooks", "clerk")
"""What listens, in the order of its ports."""

ADMIN = "admin@example.com"
"""Who is an admin from the start."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What those who talk to each other sign with: made anew with each start, for nothing is to be kept."""

    clerk: str
    training: str
    events: str

    @classmethod
    def make(cls) -> "Secrets":
        return cls(*(f"whsec_{b64encode(token_bytes(24)).decode()}" for _ in range(3)))


async def serve(data: Path | None, port: int, *, as_json: bool) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        data: Keeps the ledger between runs; None: a temporary folder.
        port: The first of those that it listens at; 0: any that are free.

    Raises:
        StoreRefused: A port is in use, or the store cannot be started; the message says what to do.
    """
    ports = _free_ports(port)
    stopping = asyncio.Event()
    stop_on_signals(stopping.set)
    with _folder(data) as folder:
        async with own_store(folder) as url, ClerkStandIn(port=ports["clerk"]) as clerk:
            places = {name: f"http://{HOST}:{port}" for name, port in ports.items()}
            key = await _api_key(url)
            services = _services(url, folder, ports, places, clerk)
            ready = partial(_begin, clerk, places, url, key, as_json=as_json)
            await run_together(services, stopping, lambda _: ready())


@contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    if data is not None:
        yield data
    else:
        with tempfile.TemporaryDirectory(prefix="credits-demo-") as folder:
            yield Path(folder)


def _free_ports(first: int) -> dict[str, int]:
    """A port for each place, all looked at before anything is started.

    Raises:
        StoreRefused: One is in use.
    """
    found = {}
    with ExitStack() as stack:
        for name, port in zip(PLACES, count(first) if first else iter(int, 1), strict=False):
            listening = stack.enter_context(socket.socket())
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((HOST, port))
            except OSError as error:
                raise StoreRefused(
                    f"cannot listen at {HOST}, port {port}, for the {name.lower()}: {error.strerror}. --port names "
                    f"the first of {len(PLACES)} other ones, --port 0 takes any that are free"
                ) from None
            found[name] = listening.getsockname()[1]
    return found


async def _api_key(url: str) -> str:
    """A key for trying the gateway out."""
    async with Store(url) as store:
        scopes = set(Scope)
        _, token = await api_keys.create(store, Keys(), app="demo", scopes=scopes, label="credits demo")
    return token


def _services(
    url: str, data: Path, ports: Mapping[str, int], places: Mapping[str, str], clerk: ClerkStandIn
) -> dict[str, Service]:
    """All that runs, each after what it needs. Of the environment's settings none counts."""
    secrets = Secrets.make()
    store = SecretStr(url)
    apps = {title: places[title] for title in TITLES}
    for origin in (*apps.values(), places["gateway"]):
        clerk.allow_origin(origin)
    world = World(url, url, clerk.publishable_key, places["gateway"], apps)
    told = Endpoint(url=apps[train.TITLE] + train.EVENTS, secret=SecretStr(secrets.events), types=train.TYPES)
    jobs = JobsSettings.model_construct(
        url=store,
        sweep_s=1,
        training_app=train.NAME,
        event_endpoints=(told,),
        event_private_addresses=True,
        clerk_secret_key=SecretStr(clerk.secret_key),
        clerk_api_url=clerk.url,
    )
    webhooks = webhooks_server(
        WebhooksSettings.model_construct(
            url=store,
            webhooks_port=ports["webhooks"],
            clerk_webhook_secret=SecretStr(secrets.clerk),
            training_webhook_secret=SecretStr(secrets.training),
        )
    )
    assert webhooks, "secrets are set"
    gateway = gateway_server(
        GatewaySettings.model_construct(
            url=store,
            gateway_port=ports["gateway"],
            origins=" ".join(world.origins),
            clerk_publishable_key=clerk.publishable_key,
            clerk_secret_key=SecretStr(clerk.secret_key),
            clerk_api_url=clerk.url,
        )
    )
    made = make_apps(
        world,
        webhooks=f"{places['webhooks']}/webhooks/training",
        clerk_secret=secrets.clerk,
        training_secret=secrets.training,
        events_secret=secrets.events,
    )
    servers = {
        title: Server(app, host=HOST, port=ports[title], settings=("--port", "--port 0"))
        for title, app in made.items()
    }
    # Both take it in, as the guide advises; a user is granted credits once all the same.
    clerk.send_to(f"{places['Chat']}/api/webhooks/clerk", secrets.clerk)
    clerk.send_to(f"{places['webhooks']}/webhooks/clerk", secrets.clerk)
    worker = Worker(url, witness=data / "witness.json")
    return {"worker": worker, "jobs": Jobs(jobs), "webhooks": webhooks, "gateway": gateway, **servers}


def _begin(clerk: ClerkStandIn, places: Mapping[str, str], url: str, key: str, *, as_json: bool) -> None:
    """Now that all of it serves: the first user, and where everything is."""
    clerk.update_user(clerk.sign_up(email=ADMIN), role="admin")
    machine = {
        "ready": True,
        "apps": {title.lower(): places[title] for title in TITLES},
        "console": f"{places['gateway']}/console",
        "gateway": places["gateway"],
        "webhooks": places["webhooks"],
        "clerk": places["clerk"],
        "admin": ADMIN,
        "api_key": key,
        "store": url,
    }
    say(_table(machine), machine, as_json=as_json)
    out.file.flush()


def _table(told: Mapping[str, object]) -> Table:
    table = Table(
        title="Four apps, one balance. Sign up in any of them, with any address, and have 100 credits.",
        caption="Ctrl-C ends it all.",
        show_header=False,
        box=None,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    apps = told["apps"]
    assert isinstance(apps, Mapping)
    for title in TITLES:
        table.add_row(title, apps[title.lower()])
    table.add_row("Console", f"{told['console']}  sign in with Clerk as {told['admin']}; no password")
    table.add_row("Gateway", f"{told['gateway']}  its API is at /openapi.json")
    table.add_row("API key", f"{told['api_key']}  charges, reads, and opens the console")
    table.add_row("Webhooks", f"{told['webhooks']}")
    table.add_row("Clerk", f"{told['clerk']}  a stand-in")
    table.add_row("Store", f"export CREDITS_URL={told['store']}")
    return table
