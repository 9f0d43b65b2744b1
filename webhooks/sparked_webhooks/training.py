"""The training service's events: a job that started, completed or failed."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from sparked_credits.intents import Name
from sparked_credits.rates import DIGITS_MAX, exact_decimal, plain
from sparked_webhooks.sources import Unusable, Wanted, type_of

HOURS_MAX = 1_000_000
"""GPU hours of one job."""

STARTED, COMPLETED, FAILED = "training.started", "training.completed", "training.failed"

_RULES = {
    "job_id": "1 to 200 printable characters without white space",
    "user_id": "1 to 128 printable characters without white space, ':', '{' and '}'",
    "model": "at most 255 printable characters",
    "gpu_hours": f"a number from 0 to {HOURS_MAX} of at most {DIGITS_MAX} digits",
    "estimated_gpu_hours": f"a number from 0 to {HOURS_MAX} of at most {DIGITS_MAX} digits",
}


def read(body: Mapping[str, Any]) -> Wanted | None:
    """What an event of the training service asks for; None for types that we don't know.

    Raises:
        Unusable: A field that is needed is missing or is not what it must be.
    """
    event_type, fields = _unwrapped(body)
    kind = _KINDS.get(event_type)
    if kind is None:
        return None
    try:
        return Wanted(event_type, kind.model_validate(fields).wanted())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "data"
        rule = _RULES.get(where.rpartition(".")[2], "an object")
        raise Unusable(f"{where}: must be {rule}", event_type) from None


def _unwrapped(body: Mapping[str, Any]) -> tuple[str, object]:
    """Type and fields of an event in any of three forms: with `data`, without, and as the guide has it."""
    if "type" not in body and isinstance(body.get("status"), str):
        ids = {"job_id": body.get("jobId"), "user_id": body.get("userId")}
        return f"training.{body['status']}", {**body, **ids}
    return type_of(body), body.get("data", body)


def _hours(value: object) -> Decimal:
    """From a number or its text; exact, for `Decimal` stands for what had a fraction."""
    number = exact_decimal(value)
    if number is None or not 0 <= number <= HOURS_MAX:
        raise ValueError("not a number of hours")
    return number.copy_abs()  # -0 is one too.


Hours = Annotated[Decimal, BeforeValidator(_hours)]
# A job's idempotency keys are `train:<job>:<attempt>`, and a key has 255 characters at most.
JobId = Annotated[str, Field(strict=True, min_length=1, max_length=200, pattern=r"^[^\s\p{C}]+$")]
Model = Annotated[str, Field(strict=True, max_length=255, pattern=r"^\P{C}*$")]


class _Metrics(BaseModel):
    gpu_hours: Hours


class _Started(BaseModel):
    job_id: JobId
    user_id: Name
    model: Model | None = None
    estimated_gpu_hours: Hours

    def wanted(self) -> dict[str, Any]:
        hours = plain(self.estimated_gpu_hours)
        return {"job": self.job_id, "user": self.user_id, "model": self.model or "", "hours": hours}


class _Completed(BaseModel):
    job_id: JobId
    user_id: Name | None = None
    metrics: _Metrics

    def wanted(self) -> dict[str, Any]:
        found = {"job": self.job_id, "hours": plain(self.metrics.gpu_hours)}
        return found | ({"user": self.user_id} if self.user_id else {})


class _LastMetrics(BaseModel):
    gpu_hours: Hours | None = None


class _Failed(BaseModel):
    job_id: JobId
    metrics: _LastMetrics | None = None

    def wanted(self) -> dict[str, Any]:
        hours = self.metrics.gpu_hours if self.metrics else None
        return {"job": self.job_id} | ({} if hours is None else {"hours": plain(hours)})


_KINDS: dict[str, type[_Started | _Completed | _Failed]] = {
    STARTED: _Started,
    COMPLETED: _Completed,
    FAILED: _Failed,
}
