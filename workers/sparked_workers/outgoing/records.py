"""What is known of events and their deliveries, for people; and having one delivered again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sparked_credits.errors import Rejected, store_errors
from sparked_credits.keys import Keys
from sparked_credits.store import Command, Store
from sparked_workers.outgoing import deliveries


class EventNotFound(Rejected):
    """There is no record of such an event (any longer)."""


class EndpointNotFound(Rejected):
    """No event was ever made for an endpoint of that name; or this one for any."""


class State(StrEnum):
    """What has become of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    """Given up; kept, and delivered again if a person asks for it."""
    DROPPED = "dropped"
    """Given up, and pushed out by newer ones; it can still be delivered again while its event is kept."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event to one endpoint."""

    endpoint: str
    """Its name, made from its URL."""
    origin: str
    """Its URL without path and query."""
    state: State
    attempts: int
    """That have ended."""
    outcome: str
    """Of the last one, in words; empty before the first."""
    last: int | None
    """When the last one ended, by the store's clock, in ms since 1970."""
    due: int | None
    """When the next one begins; None if there is none."""

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Record:
    """An event, with its deliveries."""

    id: str
    type: str
    at: int
    """When it happened, by the store's clock, in ms since 1970."""
    body: str
    """JSON, as it is sent."""
    deliveries: tuple[Delivery, ...]

    @property
    def user(self) -> str:
        """Whom it is about; empty if nobody."""
        return str(json.loads(self.body)["data"].get("user", ""))

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            "event": self.id,
            "type": self.type,
            "at": self.at,
            "body": json.loads(self.body),
            "deliveries": [delivery.as_dict() for delivery in self.deliveries],
        }


@dataclass(frozen=True, slots=True)
class Counts:
    """How many there are."""

    events: int
    pending: dict[str, int]
    """Deliveries that wait, for each endpoint."""
    dead: int
    """Deliveries that were given up."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {"total": self.events, "pending": self.pending, "dead": self.dead}


async def count(store: Store, keys: Keys) -> Counts:
    """Count events and deliveries. Raises `Unavailable`."""
    endpoints = await _endpoints(store, keys)
    events, dead, *waiting = await _replies(
        store,
        [
            ("ZCARD", keys.jobs("events")),
            ("ZCARD", keys.jobs("undelivered")),
            *(("ZCARD", _waiting(keys, name)) for name in endpoints),
        ],
    )
    return Counts(events, dict(zip(endpoints, waiting, strict=True)), dead)


async def newest(store: Store, keys: Keys, *, most: int) -> list[Record]:
    """The newest events, newest first. Raises `Unavailable`."""
    (ids,) = await _replies(store, [("ZRANGE", keys.jobs("events"), 0, most - 1, "REV")])
    return await _read(store, keys, [id_.decode() for id_ in ids])


async def pending(store: Store, keys: Keys, *, most: int) -> list[Record]:
    """Events that wait to be delivered to some endpoint, what is due first before what is due later.

    Raises:
        Unavailable: The store did not answer.
    """
    reads: list[Command] = [
        ("ZRANGE", _waiting(keys, name), 0, most - 1, "WITHSCORES") for name in await _endpoints(store, keys)
    ]
    found = [
        (float(due), id_.decode())
        for row in await _replies(store, reads)
        for id_, due in zip(row[::2], row[1::2], strict=True)
    ]
    return await _read(store, keys, [id_ for _due, id_ in sorted(found)][:most])


async def dead(store: Store, keys: Keys, *, most: int) -> list[Record]:
    """Events of which a delivery was given up, what was given up last first. Raises `Unavailable`."""
    (members,) = await _replies(store, [("ZRANGE", keys.jobs("undelivered"), 0, most - 1, "REV")])
    return await _read(store, keys, [member.decode().partition("|")[2] for member in members])


async def find(store: Store, keys: Keys, event: str) -> Record:
    """The event of that id.

    Raises:
        EventNotFound: It was delivered long ago, or there never was one.
        Unavailable: The store did not answer.
    """
    found = await _read(store, keys, [event])
    if not found:
        raise EventNotFound(
            f"there is no event {event[:60]!r}: `credits events list` shows the newest, and the delivered ones are "
            "removed after 30 days"
        )
    return found[0]


async def redeliver(store: Store, keys: Keys, event: str, *, endpoint: str | None = None) -> list[str]:
    """Have an event delivered again, under the same id and with all attempts anew; return the endpoints' names.

    Args:
        endpoint: Name of the one that is to get it; None: those that were to get it when it happened.

    Raises:
        EventNotFound: There is no such event (any longer).
        EndpointNotFound: There is no such endpoint; or it was for none when it happened, so one has to be named.
        Unavailable: The store did not answer: repeat it.
    """
    record = await find(store, keys, event)
    if endpoint is not None:
        await _check_endpoint(store, keys, endpoint)
    to = [endpoint] if endpoint is not None else [delivery.endpoint for delivery in record.deliveries]
    if not to:
        raise EndpointNotFound(f"no endpoint wanted {event} when it happened: name one that is to get it")
    for name in to:
        if not await deliveries.redeliver(store, keys, event, name):
            raise EventNotFound(f"event {event} has just been removed, for it was delivered long ago")
    return to


async def redeliver_dead(store: Store, keys: Keys, *, endpoint: str | None = None) -> int:
    """Have everything delivered again that was given up, or what was to that endpoint; return how many deliveries.

    Raises:
        EndpointNotFound: There is no such endpoint.
        Unavailable: The store did not answer: repeat it, for the rest.
    """
    if endpoint is not None:
        await _check_endpoint(store, keys, endpoint)
    (members,) = await _replies(store, [("ZRANGE", keys.jobs("undelivered"), 0, -1)])
    redelivered = 0
    for member in members:
        name, _, event = member.decode().partition("|")
        if endpoint in (None, name):
            redelivered += await deliveries.redeliver(store, keys, event, name)
    return redelivered


async def _check_endpoint(store: Store, keys: Keys, endpoint: str) -> None:
    known = await _endpoints(store, keys)
    if endpoint not in known:
        names = ", ".join(f"{name} ({origin})" for name, origin in known.items()) or "none so far"
        raise EndpointNotFound(f"there is no endpoint {endpoint[:60]!r}; they are: {names}")


def _waiting(keys: Keys, endpoint: str) -> str:
    return keys.jobs(f"deliveries:{endpoint}")


async def _endpoints(store: Store, keys: Keys) -> dict[str, str]:
    """The origin of each endpoint that was ever in the settings, by its name."""
    with store_errors("reading the endpoints"):
        found = await store.command("HGETALL", keys.jobs("endpoints"))
    return {name.decode(): origin.decode() for name, origin in found.items()}


async def _read(store: Store, keys: Keys, ids: Sequence[str]) -> list[Record]:
    """The records of those events; those are left out that have gone meanwhile."""
    origins = await _endpoints(store, keys)
    ids = list(dict.fromkeys(ids))
    stored = await _replies(store, [("HGETALL", keys.jobs(f"event:{id_}")) for id_ in ids])
    events = {
        id_: {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
        for id_, fields in zip(ids, stored, strict=True)
        if fields
    }
    waiting = [
        (id_, name)
        for id_, fields in events.items()
        for name in _addressees(fields)
        if fields[f"state:{name}"] == State.PENDING
    ]
    scores = await _replies(store, [("ZSCORE", _waiting(keys, name), id_) for id_, name in waiting])
    due = {each: int(score) for each, score in zip(waiting, scores, strict=True) if score is not None}
    return [
        Record(
            id=id_,
            type=fields["type"],
            at=int(fields["at"]),
            body=fields["body"],
            deliveries=tuple(
                _delivery(name, origins, fields, due.get((id_, name))) for name in _addressees(fields)
            ),
        )
        for id_, fields in events.items()
    ]


def _addressees(fields: Mapping[str, str]) -> list[str]:
    """The names of the endpoints that the event is for."""
    return sorted(name.removeprefix("state:") for name in fields if name.startswith("state:"))


def _delivery(name: str, origins: Mapping[str, str], fields: Mapping[str, str], due: int | None) -> Delivery:
    return Delivery(
        endpoint=name,
        origin=origins.get(name, ""),
        state=State(fields[f"state:{name}"]),
        attempts=int(fields.get(f"attempts:{name}", 0)),
        outcome=fields.get(f"outcome:{name}", ""),
        last=int(fields[f"last:{name}"]) if f"last:{name}" in fields else None,
        due=due,
    )


async def _replies(store: Store, reads: Sequence[Command]) -> list[Any]:
    with store_errors("reading events"):
        replies = await store.commands(reads) if reads else []
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
    return replies
