"""One attempt to deliver an event: signed, to an address that was checked, and within a bounded time."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import httpx
from svix.webhooks import Webhook

from sparked_credits.errors import describe
from sparked_workers.outgoing.addresses import AddressRefused, Resolve, check_addresses, resolve
from sparked_workers.outgoing.deliveries import Claim
from sparked_workers.outgoing.endpoints import secrets_of
from sparked_workers.settings import Endpoint

ATTEMPT_S = 15.0
"""An attempt fails after so long, all in all: Svix's own bound."""

_CONNECT_S = 5.0
"""Then the host's next address is tried: of two, IPv6 is often the one that leads nowhere."""

_SAID_MAX = 200
_PORTS = {"https": 443, "http": 80}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt."""

    delivered: bool
    said: str
    """In words: the receiver's status, or what went wrong. Nothing of a body."""


class Sender:
    """Sends events. Open it with `async with`; it keeps no connection open between attempts.

    Args:
        private_addresses: Send to addresses too that are not public.
        resolve: What finds a host's addresses.
    """

    def __init__(self, *, private_addresses: bool = False, resolve: Resolve = resolve) -> None:
        self._private_addresses = private_addresses
        self._resolve = resolve
        self._lookups: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}
        # The transport alone: a client would log each URL with its path and query, and heed proxies. Nothing is kept
        # open, for it would be taken for every host of its address, whatever name its certificate was checked by.
        self._transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for lookup in self._lookups.values():
            lookup.cancel()
        await self._transport.aclose()

    async def send(self, endpoint: Endpoint, claimed: Claim) -> Outcome:
        """Attempt a delivery, within `ATTEMPT_S`. Whatever goes wrong is the outcome, never raised."""
        try:
            async with asyncio.timeout(ATTEMPT_S):
                status = await self._post(endpoint.url, _signed(endpoint, claimed), claimed.body.encode())
        except TimeoutError:
            return Outcome(False, f"no answer within {ATTEMPT_S:.0f} s")
        except AddressRefused as error:
            return Outcome(False, f"not sent: {error}; CREDITS_EVENT_PRIVATE_ADDRESSES=true would allow it")
        except (httpx.HTTPError, OSError) as error:
            return Outcome(False, f"no answer: {describe(error)}"[:_SAID_MAX])
        except Exception as error:  # noqa: BLE001 - one delivery that cannot be attempted must not end the others
            _log.exception("sending event %s failed", claimed.id)
            return Outcome(False, f"not sent: {type(error).__name__}")
        if 300 <= status < 400:
            return Outcome(False, f"status {status}: redirects are not followed")
        return Outcome(200 <= status < 300, f"status {status}")

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status that the receiver answers with. Of its body nothing is read."""
        request = httpx.Request("POST", url, headers=headers, content=body)
        host = request.url.raw_host.decode("ascii")
        addresses = await self._addresses(host, request.url.port or _PORTS[request.url.scheme])
        if not self._private_addresses:
            check_addresses(addresses)
        # The Host header is set; and by this name, not by the address, the certificate is checked.
        request.extensions = {"sni_hostname": host, "timeout": {"connect": _CONNECT_S}}
        named = request.url
        for left, address in zip(reversed(range(len(addresses))), addresses, strict=True):
            request.url = named.copy_with(host=address)
            try:
                response = await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if left:
                    continue
                raise
            await response.aclose()
            return response.status_code
        raise OSError("the host has no address")

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        """The host's addresses, looked up once for all attempts that want them now.

        A lookup keeps a thread busy, however long ago its attempt gave up, and there are few for all endpoints.
        """
        lookup = self._lookups.get((host, port))
        if lookup is None:
            lookup = asyncio.ensure_future(self._resolve(host, port))
            self._lookups[host, port] = lookup
            lookup.add_done_callback(lambda done: self._forget(host, port, done))
        return await asyncio.shield(lookup)

    def _forget(self, host: str, port: int, lookup: asyncio.Future[Sequence[str]]) -> None:
        del self._lookups[host, port]
        # Retrieved, for all who wanted to know it may have given up.
        _ = lookup.cancelled() or lookup.exception()


def _signed(endpoint: Endpoint, claimed: Claim) -> dict[str, str]:
    """The headers of a message, by which the receiver knows that its body is ours; the time is the store's."""
    # In UTC: whatever `sign` is given, it takes for that.
    now = datetime.fromtimestamp(claimed.now_ms // 1000, UTC)
    signatures = [Webhook(secret).sign(claimed.id, now, claimed.body) for secret in secrets_of(endpoint)]
    return {
        "webhook-id": claimed.id,
        "webhook-timestamp": str(claimed.now_ms // 1000),
        "webhook-signature": " ".join(signatures),
        "content-type": "application/json",
        "user-agent": "sparked-credits",
        "connection": "close",
    }
