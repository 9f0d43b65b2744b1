"""What a worker process takes from its environment. Only entry points read this."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sparked_credits.errors import InvalidIntent, StoreRefused
from sparked_credits.intents import SYSTEM, checked_name
from sparked_workers.worker import LEASE_MS

_IN_WORDS = {
    "bool_parsing": "must be true or false",
    "extra_forbidden": "is not a field of it",
    "float_parsing": "must be a number",
    "int_parsing": "must be a whole number",
    "missing": "is not set",
    "model_type": "must be an object in braces",
    "tuple_type": "must be a list in brackets",
}
"""What pydantic says of these is for programmers."""


class WorkerSettings(BaseSettings):
    """Settings of `credits worker`, each from `CREDITS_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="CREDITS_", env_ignore_empty=True, frozen=True)

    url: SecretStr = Field(description="The store, such as redis://host:6379. May hold a password.")
    namespace: str = Field("credits", description="What the names of all keys begin with.")
    epoch: str | None = Field(None, description="The epoch that the store must have; unset: the one it has.")
    witness: Path | None = Field(
        None,
        description="File outside the store that remembers how far it had come; unset: in the user's state folder.",
    )
    lease_ms: int = Field(
        LEASE_MS,
        ge=500,
        le=60_000,
        description="A dead worker's shards have a new owner after this time at most.",
    )
    weak_durability: bool = Field(
        False, description="Serve a store that may lose what it acknowledged (no `appendfsync always`)."
    )


def refused(error: ValidationError) -> StoreRefused:
    """What is wrong with which setting, in words, and without its value: it may be a secret."""
    wrong = []
    for each in error.errors(include_input=False):
        name = str(each["loc"][0])
        within = "".join(f"[{part}]" for part in each["loc"][1:])
        said = each["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        words = _IN_WORDS.get(each["type"], said)
        wrong.append(f"{name if name.isupper() else f'CREDITS_{name.upper()}'}{within}: {words}")
    return StoreRefused(f"settings: {'; '.join(wrong)}")


def check_app(setting: str, app: str) -> None:
    """Nothing, if `app` may be an app's name; else `InvalidIntent`, which names the setting."""
    try:
        checked_name("app", app)
    except InvalidIntent as error:
        raise InvalidIntent(f"{setting}: {str(error).removeprefix('app: ')}") from None
    if app == SYSTEM:
        raise InvalidIntent(f"{setting}: {SYSTEM!r} is kept for control and jobs; use the app's own name")


class TrainingPolicy(StrEnum):
    """What happens when a completed training costs more than is available."""

    PAUSE = "pause"
    """No charge: the training service is told to pause, and the job is charged once there is enough."""
    PARTIAL = "partial"
    """What is there is taken, and the rest once there is more."""
    OVERDRAW = "overdraw"
    """The account may fall to minus `CREDITS_TRAINING_DEBT`."""


class Endpoint(BaseModel):
    """Where outgoing events are sent to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    secret: SecretStr
    """`whsec_` and 24 to 75 bytes in base64; the receiver verifies with it. While it is changed, two, with a space."""
    types: tuple[str, ...] = ()
    """Which events, such as `training.paused`; none named: all of them."""


class JobsSettings(BaseSettings):
    """Settings of `credits jobs`, each from `CREDITS_` and its name in capitals, or as its alias says."""

    model_config = SettingsConfigDict(
        env_prefix="CREDITS_", env_ignore_empty=True, frozen=True, populate_by_name=True
    )

    url: SecretStr = Field(description="The store, such as redis://host:6379. May hold a password.")
    jobs_url: SecretStr | None = Field(
        None, description="A plain server for arq's queue, where the store is a Cluster; unset: the store."
    )
    namespace: str = Field("credits", description="What the names of all keys begin with.")
    epoch: str | None = Field(None, description="The epoch that the store must have; unset: the one it has.")
    prices: Path | None = Field(None, description="Price book, TOML or JSON; unset: the built-in one.")
    sweep_s: int = Field(
        5,
        ge=1,
        le=60,
        description="How often unfinished work is looked for: a number of seconds that divides 60.",
    )
    signup_grant: int = Field(100, ge=0, le=2**53 - 1, description="Credits that a new user starts with.")
    signup_verified_only: bool = Field(
        False, description="Open an account only once the user's primary e-mail address is verified."
    )
    training_app: str = Field(
        "train.sparked.world", description="App whose holds, keyed by the job's id, are for trainings."
    )
    training_price: str = Field("training_job", description="Price of a GPU hour in the price book.")
    training_policy: TrainingPolicy = Field(
        TrainingPolicy.PAUSE,
        description="When a training costs more than is there: pause, partial or overdraw.",
    )
    training_debt: int = Field(
        0, ge=0, le=2**53 - 1, description="Credits that a training may be owed, by the policy `overdraw`."
    )
    training_wait_s: int = Field(
        3600, ge=1, description="How long a completion waits for its start, before it is a dead letter."
    )
    clerk_secret_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("CLERK_SECRET_KEY", "clerk_secret_key"),
        description="Clerk's API key; unset: users are not compared with Clerk's.",
    )
    clerk_api_url: str = Field(
        "https://api.clerk.com",
        validation_alias=AliasChoices("CLERK_API_URL", "clerk_api_url"),
        description="Clerk's API.",
    )
    reconcile_share_max: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Share of the accounts past which a reconciliation neither opens nor repairs, but reports.",
    )
    event_endpoints: Annotated[tuple[Endpoint, ...], NoDecode] = Field(
        (), description='Where events go: a JSON list of {"url", "secret", "types"}.'
    )
    event_private_addresses: bool = Field(
        False, description="Send events to private addresses too, such as this machine's."
    )

    @field_validator("sweep_s")
    @classmethod
    def _divides_a_minute(cls, sweep_s: int) -> int:
        if 60 % sweep_s:
            raise ValueError("must divide 60, as 5, 10 and 30 do")
        return sweep_s

    @field_validator("event_endpoints", mode="before")
    @classmethod
    def _from_json(cls, given: Any) -> Any:
        # Here rather than by pydantic-settings, which has an error of its own for what is no JSON.
        if not isinstance(given, str):
            return given
        try:
            return json.loads(given)
        except ValueError:
            raise ValueError('must be JSON, a list of {"url", "secret", "types"}') from None
