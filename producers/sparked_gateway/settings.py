"""What `credits gateway` takes from its environment. Only entry points read this."""

import re
from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sparked_clerk.publishable import frontend_api
from sparked_gateway.signed_in import Clerk

_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")


class GatewaySettings(BaseSettings):
    """Settings of `credits gateway`, each from `CREDITS_` and its name in capitals, or as its alias says."""

    model_config = SettingsConfigDict(
        env_prefix="CREDITS_", env_ignore_empty=True, frozen=True, populate_by_name=True
    )

    url: SecretStr = Field(description="The store, such as redis://host:6379. May hold a password.")
    namespace: str = Field("credits", description="What the names of all keys begin with.")
    epoch: str | None = Field(None, description="The epoch that the store must have; unset: the one it has.")
    prices: Path | None = Field(None, description="Price book, TOML or JSON; unset: the built-in one.")
    gateway_host: str = Field("127.0.0.1", description="Address to listen at.")
    gateway_port: int = Field(8081, ge=0, le=65535, description="Port to listen at; 0: any that is free.")
    origins: str = Field(
        "",
        description="Origins of the pages that may call, and whose sessions count, separated by spaces; for the "
        "console, the gateway's own among them.",
    )
    clerk_publishable_key: str | None = Field(
        None,
        validation_alias=AliasChoices("CLERK_PUBLISHABLE_KEY", "clerk_publishable_key"),
        description="Clerk's publishable key, `pk_…`; unset: only apps are let in, by API keys.",
    )
    clerk_jwt_key: str | None = Field(
        None,
        validation_alias=AliasChoices("CLERK_JWT_KEY", "clerk_jwt_key"),
        description="The public key of Clerk's sessions, PEM; unset: it is fetched from Clerk.",
    )
    clerk_secret_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("CLERK_SECRET_KEY", "clerk_secret_key"),
        description="Clerk's API key, to ask who is an admin; unset: only who has the role in the session is.",
    )
    clerk_api_url: str = Field(
        "https://api.clerk.com",
        validation_alias=AliasChoices("CLERK_API_URL", "clerk_api_url"),
        description="Clerk's API.",
    )

    @field_validator("origins")
    @classmethod
    def _as_browsers_send_them(cls, origins: str) -> str:
        for origin in origins.split():
            usual_port = ":443" if origin.startswith("https") else ":80"
            if not _ORIGIN.fullmatch(origin) or origin.endswith(usual_port):
                raise ValueError(
                    "must be origins as browsers send them, such as https://chat.example.com or http://127.0.0.1:8081, "
                    f"separated by spaces: no path, no capitals, no port that goes without saying; not {origin[:80]!r}"
                )
        return origins

    @field_validator("clerk_publishable_key")
    @classmethod
    def _names_a_host(cls, key: str | None, others: ValidationInfo) -> str | None:
        if key is not None:
            frontend_api(key)
            if not others.data.get("origins", "unusable").split():
                raise ValueError(
                    "needs CREDITS_ORIGINS, or nobody's session would count: the origins of your pages, and the "
                    "gateway's own for the console"
                )
        return key

    def clerk(self) -> Clerk | None:
        """The instance of Clerk's whose sessions are people's; None if none is set."""
        if self.clerk_publishable_key is None:
            return None
        secret = self.clerk_secret_key
        return Clerk(
            self.clerk_publishable_key,
            self.clerk_jwt_key,
            secret.get_secret_value() if secret else None,
            self.clerk_api_url,
        )
