"""What `credits webhooks` takes from its environment. Only entry points read this."""

from typing import Any

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def _named(name: str) -> AliasChoices:
    """Read from this variable, as the guide calls it; in Python, from the field's name."""
    return AliasChoices(name, name.lower())


class WebhooksSettings(BaseSettings):
    """Settings of `credits webhooks`, each from `CREDITS_` and its name in capitals, or as its alias says."""

    model_config = SettingsConfigDict(env_prefix="CREDITS_", frozen=True, populate_by_name=True)

    url: SecretStr = Field(description="The store, such as redis://host:6379. May hold a password.")
    jobs_url: SecretStr | None = Field(
        None, description="A plain server for arq's queue, where the store is a Cluster; unset: the store."
    )
    namespace: str = Field("credits", description="What the names of all keys begin with.")
    epoch: str | None = Field(None, description="The epoch that the store must have; unset: the one it has.")
    webhooks_host: str = Field("127.0.0.1", description="Address to listen at.")
    webhooks_port: int = Field(8080, ge=0, le=65535, description="Port to listen at; 0: any that is free.")
    signup_verified_only: bool = Field(
        False, description="Open an account only once the user's primary e-mail address is verified."
    )
    clerk_webhook_secret: SecretStr | None = Field(
        None,
        validation_alias=_named("CLERK_WEBHOOK_SECRET"),
        description="Signing secrets of Clerk's endpoint, separated by spaces; unset: there is no such route.",
    )
    training_webhook_secret: SecretStr | None = Field(
        None,
        validation_alias=_named("TRAINING_WEBHOOK_SECRET"),
        description="Signing secrets of the training service, separated by spaces; unset: there is no such route.",
    )
    cron_secret: SecretStr | None = Field(
        None,
        validation_alias=_named("CRON_SECRET"),
        description="Bearer secrets of whoever may begin reconciliations, separated by spaces; unset: no such route.",
    )
    clerk_instance_id: str | None = Field(
        None,
        validation_alias=_named("CLERK_INSTANCE_ID"),
        description="The only instance of Clerk whose events count; unset: any that is signed with our secret.",
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, given: dict[str, Any]) -> dict[str, Any]:
        # But for the secrets of routes: an empty one is a mistake, and is refused.
        return {
            name: value for name, value in given.items() if value != "" or name.endswith(("secret", "SECRET"))
        }
