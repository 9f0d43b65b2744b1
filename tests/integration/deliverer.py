"""Relays and delivers until killed: `python -m tests.integration.deliverer …`.

Arguments: URL of the store, namespace, URL of the receiver.
"""

import asyncio
import sys

from pydantic import SecretStr

from sparked_credits.identity import identify
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.outgoing.delivering import deliver_due
from sparked_workers.outgoing.relaying import relay
from sparked_workers.outgoing.sending import Sender
from sparked_workers.settings import Endpoint
from tests.receiver import SECRET


async def main(url: str, namespace: str, hook: str) -> None:
    endpoints = [Endpoint(url=hook, secret=SecretStr(SECRET))]
    async with Store(url) as store, Sender(private_addresses=True) as sender:
        keys = Keys(namespace)
        identity = await identify(store, keys)
        while True:
            await relay(store, keys, identity, endpoints)
            await deliver_due(store, keys, endpoints, sender)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
