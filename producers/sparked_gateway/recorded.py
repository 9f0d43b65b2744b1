"""What the jobs have recorded: runs of the reconciliation, and trainings that are not paid.

Read as the jobs left it in the store, for they need not be installed where the gateway is.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_credits.walking import pipelined
from sparked_gateway.answered import Answered
from sparked_gateway.asked import Asked, NoQuery
from sparked_gateway.callers import Scope
from sparked_gateway.operations import Answer, Call, Operation
from sparked_gateway.problems import Kind, Problem

LISTED_MAX = 500

Limit = Annotated[int, Field(ge=1, le=LISTED_MAX)]


class ListQuery(Asked):
    """How many."""

    limit: Limit = 50


# Runs of the reconciliation


class RunLine(Answered):
    """What a run did. Times are in ms since 1970; 0: not yet."""

    id: str
    trigger: str = Field(description="What asked for it: `schedule`, `http` or `cli`.")
    state: str = Field(description="`running`, `finished`, `stopped` (it only looked) or `failed`.")
    reason: str = Field(description="Why it stopped or failed.")
    right: bool = Field(description="Whether it left nothing wrong.")
    started_at: int
    saved_at: int
    finished_at: int
    duration_ms: int
    accounts: int
    users: int = Field(description="Users that Clerk listed.")
    odd: int
    missing: int = Field(description="Users without an account.")
    opened: int
    verified: int = Field(description="Accounts that are what their entries say.")
    wrong: int
    fixed: int
    entries: int
    unknown: int = Field(description="Open accounts of users whom Clerk does not know.")
    errors: int


class RunAnswer(RunLine):
    """A run with what it found, one by one: the first hundred of each kind."""

    report: dict[str, Any]


class RunsAnswer(Answered):
    """The newest first; the last hundred are kept."""

    runs: list[RunLine]


_TEXTS = ("trigger", "state", "reason")
_NUMBERS = tuple(name for name, field in RunLine.model_fields.items() if field.annotation is int)


async def last_runs(store: Store, keys: Keys, most: int) -> list[dict[str, Any]]:
    """The newest runs, without what they found; raises `Unavailable`."""
    (ids,) = await pipelined(store, [("ZRANGE", keys.jobs("runs"), 0, most - 1, "REV")])
    names = [run.decode() for run in ids]
    stored = (
        await pipelined(store, [("HGETALL", keys.jobs(f"run:{name}")) for name in names]) if names else []
    )
    found = [_run(name, fields) for name, fields in zip(names, stored, strict=True) if fields]
    for run in found:
        del run["report"]
    return found


def _run(run: str, stored: Mapping[bytes, bytes]) -> dict[str, Any]:
    text = {name.decode(): value.decode(errors="replace") for name, value in stored.items()}
    report = json.loads(text.get("report", "{}"))
    told: dict[str, Any] = {"id": run, **{name: text.get(name, "") for name in _TEXTS}}
    told |= {name: int(text.get(name, 0)) for name in _NUMBERS}
    left = told["reason"] or told["errors"] or report.get("totals") or told["wrong"] != told["fixed"]
    return {**told, "right": not left, "report": report}


async def reconciliations(call: Call, query: ListQuery) -> Answer:
    return Answer({"runs": await last_runs(call.system.store, call.system.keys, query.limit)})


async def reconciliation(call: Call, query: NoQuery) -> Answer:
    run = call.path["run"]
    (stored,) = await pipelined(call.system.store, [("HGETALL", call.system.keys.jobs(f"run:{run}"))])
    if not stored:
        raise Problem(Kind.NOT_FOUND, "there is no such run: only the last hundred are kept")
    return Answer(_run(run, stored))


# Trainings that are not paid


class UnpaidTraining(Answered):
    """A training that is completed, and whose cost was not there."""

    job: str
    user: str
    model: str
    cost: int
    paid: int = Field(description="Credits taken until now.")
    required: int = Field(description="What was not there.")
    attempts: int
    reason: str = Field(description="The status that refused it.")
    since: int = Field(description="In ms since 1970.")


class UnpaidAnswer(Answered):
    """The longest unpaid first."""

    trainings: list[UnpaidTraining]
    total: int


async def unpaid(call: Call, query: ListQuery) -> Answer:
    store, name = call.system.store, call.system.keys.jobs("unpaid")
    jobs, total = await pipelined(store, [("ZRANGE", name, 0, query.limit - 1), ("ZCARD", name)])
    records = [("HGETALL", call.system.keys.jobs(f"training:{job.decode()}")) for job in jobs]
    replies = await pipelined(store, [*records, *(("ZSCORE", name, job) for job in jobs)]) if jobs else []
    trainings = [
        _training(job.decode(), stored, since)
        for job, stored, since in zip(jobs, replies[: len(jobs)], replies[len(jobs) :], strict=True)
        if since is not None
    ]
    return Answer({"trainings": trainings, "total": total})


def _training(job: str, stored: Mapping[bytes, bytes], since: float | bytes) -> dict[str, Any]:
    text = {name.decode(): value.decode(errors="replace") for name, value in stored.items()}
    told: dict[str, Any] = {"job": job, **{name: text.get(name, "") for name in ("user", "model", "reason")}}
    told |= {name: int(text.get(name, 0)) for name in ("cost", "paid", "required", "attempts")}
    return {**told, "since": int(float(since))}


OPERATIONS = (
    Operation(
        "GET",
        "/v1/admin/reconciliations",
        Scope.ADMIN,
        "Runs of the reconciliation",
        reconciliations,
        RunsAnswer,
        ListQuery,
    ),
    Operation(
        "GET",
        "/v1/admin/reconciliations/{run}",
        Scope.ADMIN,
        "One run, with what it found",
        reconciliation,
        RunAnswer,
        NoQuery,
        (Kind.NOT_FOUND,),
    ),
    Operation(
        "GET", "/v1/admin/unpaid", Scope.ADMIN, "Trainings that are not paid", unpaid, UnpaidAnswer, ListQuery
    ),
)
