"""Dead letters over HTTP: what workers and jobs gave up on, and what a person does about it."""

import logging
from typing import Annotated, Any

from pydantic import Field

from sparked_credits import dead_letters as letters
from sparked_credits import inbox
from sparked_credits.dead_letters import INBOX, DeadLetter
from sparked_credits.errors import InvalidIntent
from sparked_credits.inbox import Event
from sparked_gateway.answered import Answered
from sparked_gateway.asked import Asked, EarlierKey, NoQuery
from sparked_gateway.callers import Scope
from sparked_gateway.operations import Answer, Call, Operation
from sparked_gateway.problems import Kind

LISTED_MAX = 1000

_SHOWN_MAX = 200
"""Letters were not all written by us: of a user, a key or a kind so many characters are shown in a list."""

_log = logging.getLogger(__name__)


class LettersQuery(Asked):
    """How many."""

    limit: Annotated[int, Field(ge=1, le=LISTED_MAX)] = 200


class LetterLine(Answered):
    """An intent that could not be read or applied, or an event that nothing could be made of."""

    letter: str = Field(description="Its name: `<shard>:<id>`, of an event `inbox:<ref>`.")
    at: int = Field(description="When it was given up on, or accepted, in ms since 1970.")
    source: str = Field(description="`intents` or `control`; of an event, who sent it.")
    kind: str = Field(description="The intent's kind or the event's type; empty if it cannot be read.")
    user: str
    key: str = Field(description="The intent's key or the event's id.")
    reason: str


class LettersAnswer(Answered):
    """The newest first, of those looked at."""

    letters: list[LetterLine]
    total: int


class LetterAnswer(LetterLine):
    """A letter as it is kept."""

    content: dict[str, Any] | None = Field(
        description="The intent, or the event's fields; null if it is no JSON object."
    )
    raw: str | None = Field(description="What is there instead.")
    outcome: str | None = Field(description="How the key ended: then a requeue needs a new one.")


class RequeueBody(Asked):
    """Under which key."""

    key: (
        Annotated[EarlierKey, Field(description="A new idempotency key, where the old one has an outcome.")]
        | None
    ) = None


class RequeuedAnswer(Answered):
    """It is in its queue again, and no dead letter any more."""

    letter: str
    key: str = Field(description="The key of the intent, or the event's place in the inbox.")


class DroppedAnswer(Answered):
    """Nothing will be made of it."""

    letter: str


async def dead_letters(call: Call, query: LettersQuery) -> Answer:
    store, keys, shards = call.system.store, call.system.keys, call.system.identity.shards
    found = await letters.dead_letters(store, keys, shards, most=query.limit)
    events = await letters.dead_events(store, keys, most=query.limit)
    total = await letters.count(store, keys, shards) + await inbox.count(store, keys, dead=True)
    lines = [*map(_letter, found), *map(_event, events)]
    lines.sort(key=lambda line: line["at"], reverse=True)
    return Answer({"letters": lines[: query.limit], "total": total})


async def dead_letter(call: Call, query: NoQuery) -> Answer:
    found = await _find(call)
    if isinstance(found, Event):
        return Answer({**_event(found), "content": {**found.fields}, "raw": None, "outcome": None})
    content = found.intent
    raw = found.raw.decode(errors="replace") if content is None else None
    outcome = await letters.outcome_of(call.system.store, call.system.keys, found)
    return Answer({**_letter(found), "content": content, "raw": raw, "outcome": outcome})


async def requeue(call: Call, body: RequeueBody) -> Answer:
    found = await _find(call)
    store, keys = call.system.store, call.system.keys
    if isinstance(found, DeadLetter):
        key = await letters.requeue(store, keys, found, key=body.key)
    elif body.key is not None:
        raise InvalidIntent("key: must be left out: an event has none")
    else:
        key = await inbox.requeue(store, keys, found)
    _log.info("dead letter %s: requeued by %s", call.path["name"], call.caller.actor)
    return Answer({"letter": call.path["name"], "key": key})


async def drop(call: Call, body: NoQuery) -> Answer:
    found = await _find(call)
    if isinstance(found, DeadLetter):
        await letters.drop(call.system.store, call.system.keys, found)
    else:
        await inbox.drop(call.system.store, call.system.keys, found)
    _log.info("dead letter %s: dropped by %s", call.path["name"], call.caller.actor)
    return Answer({"letter": call.path["name"]})


async def _find(call: Call) -> DeadLetter | Event:
    name = call.path["name"]
    if name.startswith(INBOX):
        return await letters.find_event(call.system.store, call.system.keys, name)
    return await letters.find(call.system.store, call.system.keys, call.system.identity.shards, name)


def _letter(letter: DeadLetter) -> dict[str, Any]:
    intent = letter.intent or {}
    named = {name: str(intent.get(name, ""))[:_SHOWN_MAX] for name in ("kind", "user", "key")}
    return {
        "letter": letter.name,
        "at": letter.at,
        "source": letter.stream,
        **named,
        "reason": letter.reason,
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "letter": letters.event_name(event),
        "at": event.at,
        "source": event.source,
        "kind": event.type,
        "user": str(event.fields.get("user", ""))[:_SHOWN_MAX],
        "key": event.id,
        "reason": event.reason,
    }


_ONE = "/v1/admin/dead-letters/{name}"
_MISSING = (Kind.NOT_FOUND,)

OPERATIONS = (
    Operation(
        "GET",
        "/v1/admin/dead-letters",
        Scope.ADMIN,
        "Dead letters",
        dead_letters,
        LettersAnswer,
        LettersQuery,
    ),
    Operation(
        "GET", _ONE, Scope.ADMIN, "One dead letter, whole", dead_letter, LetterAnswer, NoQuery, _MISSING
    ),
    Operation(
        "POST",
        f"{_ONE}/requeue",
        Scope.ADMIN,
        "Send it again",
        requeue,
        RequeuedAnswer,
        RequeueBody,
        (Kind.NOT_FOUND, Kind.REJECTED),
    ),
    Operation("POST", f"{_ONE}/drop", Scope.ADMIN, "Remove it", drop, DroppedAnswer, NoQuery, _MISSING),
)
