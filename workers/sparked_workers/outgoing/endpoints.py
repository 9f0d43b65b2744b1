"""Where events are sent to: what an endpoint is called, what it wants, and whether its settings can be used."""

import base64
import binascii
import re
from collections.abc import Sequence
from hashlib import sha256
from ipaddress import ip_address

import httpx

from sparked_credits.errors import InvalidIntent
from sparked_workers.outgoing.addresses import is_public
from sparked_workers.outgoing.event_types import TYPES
from sparked_workers.settings import Endpoint

_HOST = re.compile(rb"[A-Za-z0-9._:-]+")
_SECRET = re.compile(r"whsec_([A-Za-z0-9+/]+={0,2})")


def name_of(endpoint: Endpoint) -> str:
    """What records call it: from its URL, so that it stays itself when the settings are put in another order."""
    return sha256(endpoint.url.encode()).hexdigest()[:8]


def origin_of(endpoint: Endpoint) -> str:
    """What people may see of its URL: path and query may hold a secret of the receiver's."""
    url = httpx.URL(endpoint.url)
    return f"{url.scheme}://{url.netloc.decode()}"


def wants(endpoint: Endpoint, type: str) -> bool:  # noqa: A002
    """Whether it is sent events of that type."""
    return not endpoint.types or type in endpoint.types


def secrets_of(endpoint: Endpoint) -> list[str]:
    """One secret; or several while the receiver changes over from one to the next: each of them signs."""
    return endpoint.secret.get_secret_value().split()


def check_endpoints(endpoints: Sequence[Endpoint], *, private_addresses: bool) -> None:
    """Refuse endpoints that nothing could be sent to; to be called once, at the start.

    Args:
        private_addresses: Whether addresses that are not public are allowed.

    Raises:
        InvalidIntent: One of them cannot be used. The message says which, why, and what would be right; it holds
            neither its secret nor its path.
    """
    names: dict[str, int] = {}
    for number, endpoint in enumerate(endpoints, 1):
        where = f"CREDITS_EVENT_ENDPOINTS: endpoint {number}"
        problem = _problem_of_url(endpoint.url)
        if problem is None:
            where = f"{where} ({origin_of(endpoint)})"
            problem = (
                _problem_of_address(endpoint.url, private_addresses)
                or _problem_of_secrets(secrets_of(endpoint))
                or _problem_of_types(endpoint.types)
            )
        if problem is None and name_of(endpoint) in names:
            problem = f"it has the URL of endpoint {names[name_of(endpoint)]}: make one endpoint of them"
        if problem is not None:
            raise InvalidIntent(f"{where}: {problem}")
        names[name_of(endpoint)] = number


def _problem_of_url(text: str) -> str | None:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    is_usable = _HOST.fullmatch(url.raw_host) and 0 < (url.port or 1) < 65_536
    if url.scheme not in ("https", "http") or not is_usable or text != text.strip():
        return "the URL must look like https://example.com/credits/events"
    if url.userinfo:
        return "the URL must not hold a user or password: events are signed, the receiver verifies that"
    return None


def _problem_of_address(url: str, private_addresses: bool) -> str | None:
    try:
        address = ip_address(httpx.URL(url).host)
    except ValueError:
        return None  # A name: what it resolves to is checked each time that something is sent.
    if private_addresses or is_public(address):
        return None
    return "its address is not a public one; to allow such, set CREDITS_EVENT_PRIVATE_ADDRESSES=true"


def _problem_of_secrets(secrets: Sequence[str]) -> str | None:
    for secret in secrets:
        found = _SECRET.fullmatch(secret)
        try:
            key = base64.b64decode(found[1], validate=True) if found else b""
        except binascii.Error:
            key = b""
        if not 24 <= len(key) <= 75:
            secrets = ()
    if secrets:
        return None
    return (
        "each secret must be whsec_ and the base64 of 24 to 75 random bytes; `openssl rand -base64 32` makes what "
        "follows whsec_"
    )


def _problem_of_types(types: Sequence[str]) -> str | None:
    unknown = [type_ for type_ in types if type_ not in TYPES]
    if not unknown:
        return None
    return f"there are no events of type {unknown[0][:40]!r}; the types are {', '.join(sorted(TYPES))}"
