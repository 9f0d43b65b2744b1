"""What a worker process takes from its environment. Only entry points read this."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from sparked_workers.worker import LEASE_MS


class WorkerSettings(BaseSettings):
    """Settings of `credits worker`, each from `CREDITS_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="CREDITS_", frozen=True)

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
