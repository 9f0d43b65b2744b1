"""Asking Clerk over HTTP: with a bound on the time, on the size, and on the patience with a server in trouble."""

import asyncio
import ipaddress
import json
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from sparked_clerk.errors import DirectoryRefused, DirectoryUnavailable

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""A page of 500 users with all the metadata that Clerk allows is well below it."""

_API_VERSION = "2025-11-10"

_PAUSE_S = 0.5
_PAUSE_MAX_S = 8.0
_TRY_AGAIN = {408, 425, 429}
"""Statuses below 500 that say: the same request, later."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long Clerk is waited for."""

    answer_s: float = 15.0
    """For one answer, to its last byte."""
    deadline_s: float = 60.0
    """For a good answer, all attempts and pauses together."""
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    """How a pause, in seconds, is spent; tests don't want to."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came: a status, and the JSON that it came with."""

    status: int
    value: Any
    retry_after_s: float = 0.0
    """How long we are asked to stay away."""


class NoAnswer(Exception):
    """Nothing usable came; the message says what did."""


async def ask(
    http: httpx.AsyncClient,
    path: str,
    params: Mapping[str, str | int] | None = None,
    *,
    within_s: float,
    bytes_max: int = ANSWER_BYTES_MAX,
) -> Answer:
    """One GET; the whole of it, connecting included, takes `within_s` at most.

    Raises:
        NoAnswer: None came in time, or it broke off, is too large, or isn't JSON where it should be.
    """
    try:
        # httpx's own timeouts are for each read: a server that sends a byte now and then would hold us for ever.
        async with asyncio.timeout(within_s), http.stream("GET", path, params=params) as response:
            body = await _bounded(response, bytes_max)
    except TimeoutError:
        raise NoAnswer(f"no answer within {within_s:.3g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoAnswer(f"the connection failed ({type(error).__name__})") from None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        if response.is_success:
            raise NoAnswer("the answer is not JSON, or is cut short") from None
        value = None
    return Answer(response.status_code, value, _seconds(response.headers.get("retry-after", "")))


async def _bounded(response: httpx.Response, bytes_max: int) -> bytes:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > bytes_max:
            raise NoAnswer(f"the answer is larger than {bytes_max} bytes")
    return bytes(body)


def _seconds(retry_after: str) -> float:
    """Clerk sends seconds; a date is left to the ordinary pauses."""
    return float(retry_after) if re.fullmatch(r"[0-9]{1,9}", retry_after) else 0.0


class PatientApi:
    """Clerk's API, asked again while it is in trouble, up to a deadline."""

    def __init__(self, http: httpx.AsyncClient, patience: Patience) -> None:
        self._http = http
        self._patience = patience

    async def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Answer:
        """A good answer (200), or a refusal of what was asked (400, 404, 422) for the caller to judge.

        Raises:
            DirectoryRefused: The secret key is not taken, or it isn't Clerk that answers.
            DirectoryUnavailable: No such answer came before the deadline.
        """
        clock = asyncio.get_running_loop().time
        left = self._patience.deadline_s
        pause = _PAUSE_S
        while True:
            begun = clock()
            try:
                answer = await ask(self._http, path, params, within_s=min(self._patience.answer_s, left))
                trouble, asked_pause = _trouble(answer), answer.retry_after_s
            except NoAnswer as error:
                trouble, asked_pause = str(error), 0.0
            else:
                if not trouble:
                    return answer
            left -= clock() - begun
            # Jitter, so that not all who were turned away come back together; never before we are asked to.
            wait = max(asked_pause, pause * random.uniform(0.5, 1.0))
            if wait >= left:
                raise DirectoryUnavailable(self._gave_up(path, trouble, asked_pause))
            left -= wait
            pause = min(2 * pause, _PAUSE_MAX_S)
            await self._patience.sleep(wait)

    def _gave_up(self, path: str, trouble: str, asked_pause_s: float) -> str:
        message = f"Clerk gave no good answer to GET {path} within {self._patience.deadline_s:.3g} s"
        if asked_pause_s:
            return f"{message}: {trouble}, and asks to be left alone for {asked_pause_s:.0f} s"
        return f"{message}; the last time: {trouble}"


def _trouble(answer: Answer) -> str:
    """What is wrong with an answer that a later one may do better; empty if nothing is."""
    status = answer.status
    if status >= 500 or status in _TRY_AGAIN:
        return f"status {status}"
    if status in (401, 403):
        raise DirectoryRefused(
            f"Clerk does not take the secret key (status {status}): CLERK_SECRET_KEY must be the one of the instance "
            "behind CLERK_API_URL, from the API keys page of its dashboard"
        )
    if status not in (200, 400, 404, 422):
        raise DirectoryRefused(
            f"what answers at CLERK_API_URL is not Clerk's API (status {status}); it is https://api.clerk.com"
        )
    return ""


def api_client(api_url: str, secret_key: str) -> httpx.AsyncClient:
    """A client for Clerk's API that sends the key nowhere else; whoever asks for it closes it.

    Raises:
        DirectoryRefused: The URL or the key cannot be right.
    """
    return httpx.AsyncClient(
        base_url=_checked_url(api_url),
        headers={"authorization": f"Bearer {_checked_key(secret_key)}", "clerk-api-version": _API_VERSION},
        follow_redirects=False,
        trust_env=False,
        timeout=None,  # `ask` has a deadline for the whole.
    )


def check_access(api_url: str, secret_key: str) -> None:
    """Nothing, if `api_client` would take both. Raises as it does."""
    _checked_url(api_url)
    _checked_key(secret_key)


def is_confidential(url: str) -> bool:
    """Whether nobody on the way can read or forge what goes to `url` and comes back."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host = parts.hostname or ""
    if not host or parts.query or parts.fragment or parts.username:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(host))


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_url(api_url: str) -> str:
    if not is_confidential(api_url):
        raise DirectoryRefused(
            "CLERK_API_URL: must be https://, as in https://api.clerk.com; http:// only on this machine"
        )
    return f"{api_url.rstrip('/').removesuffix('/v1')}/v1"


def _checked_key(secret_key: str) -> str:
    if not (secret_key.startswith("sk_") and secret_key.isascii() and secret_key.isprintable()):
        raise DirectoryRefused(
            "CLERK_SECRET_KEY: must begin with sk_; it is on the API keys page of the dashboard"
        )
    return secret_key
