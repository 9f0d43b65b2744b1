"""Settings: each is documented, with its default; an empty one is an unset one; what is wrong is told in words."""

import logging
import re
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from sparked_cli.commands import run
from sparked_cli.serving import log_to_stderr, read_settings
from sparked_credits import CreditsError
from sparked_gateway.settings import GatewaySettings
from sparked_webhooks.settings import WebhooksSettings
from sparked_workers.charges import ChargesSettings
from sparked_workers.jobs_settings import check_jobs_settings
from sparked_workers.settings import JobsSettings, WorkerSettings

DOCS = Path(__file__).parents[2] / "docs"
KINDS: tuple[type[BaseSettings], ...] = (
    WorkerSettings,
    WebhooksSettings,
    JobsSettings,
    ChargesSettings,
    GatewaySettings,
)
STORE = "redis://127.0.0.1:1"


def name_of(field: str, info: FieldInfo) -> str:
    alias = info.validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"CREDITS_{field.upper()}"


def documented() -> dict[str, str]:
    """The defaults of the settings' tables, by name. A row may have two settings."""
    found: dict[str, str] = {}
    for page in ("operations.md", "arq.md"):
        for names, defaults in re.findall(
            r"^\| (`[A-Z_`, ]+`) \| ([^|]*) ?\|", (DOCS / page).read_text(), re.MULTILINE
        ):
            for name, default in zip(names.split(", "), defaults.split(", "), strict=False):
                found.setdefault(name.strip("`"), default.strip(" `"))
    return found


def plain(default: Any) -> str:
    value = default.value if isinstance(default, Enum) else default
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("kind", KINDS)
def test_each_setting_is_in_the_docs_with_its_default(kind: type[BaseSettings]) -> None:
    told = documented()
    for field, info in kind.model_fields.items():
        name = name_of(field, info)
        assert name in told, f"docs/operations.md or docs/arq.md: no row of {name}"
        # Of what is unset by default the docs say in words what that means.
        if not info.is_required() and info.default not in (None, ()):
            assert told[name] == plain(info.default), name


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_setting_is_an_unset_one(kind: type[BaseSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITS_URL", STORE)
    monkeypatch.setenv("CREDITS_APP", "chat.sparked.world")
    unset = kind()
    for field, info in kind.model_fields.items():
        # The secret of a route is the exception: an empty one is refused.
        is_a_routes = kind is WebhooksSettings and field.endswith("_secret")
        if not (info.is_required() or is_a_routes):
            monkeypatch.setenv(name_of(field, info), "")
    assert kind() == unset


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("CREDITS_URL", "", "CREDITS_URL: is not set"),
        ("CREDITS_EVENT_ENDPOINTS", "https://tell.example", "CREDITS_EVENT_ENDPOINTS: must be JSON"),
        ("CREDITS_EVENT_ENDPOINTS", "{}", "CREDITS_EVENT_ENDPOINTS: must be a list"),
        (
            "CREDITS_EVENT_ENDPOINTS",
            '[{"url": "https://tell.example"}]',
            "CREDITS_EVENT_ENDPOINTS[0][secret]: is not set",
        ),
        ("CREDITS_SWEEP_S", "7", "CREDITS_SWEEP_S: must divide 60"),
        ("CREDITS_SIGNUP_GRANT", "many", "CREDITS_SIGNUP_GRANT: must be a whole number"),
        (
            "CREDITS_TRAINING_PRICE",
            "trainig",
            "CREDITS_TRAINING_PRICE: price: must be a name in the price book",
        ),
        ("CREDITS_TRAINING_APP", "system", "CREDITS_TRAINING_APP: 'system' is kept"),
        ("CREDITS_TRAINING_APP", "two words", "CREDITS_TRAINING_APP: must be 1 to 128"),
        ("CREDITS_JOBS_URL", "queue:6379", "the URL of arq's queue"),
        ("CLERK_API_URL", "api.clerk.com", "CLERK_API_URL: must be https://"),
    ],
)
def test_jobs_refuse_a_wrong_setting_by_name(
    name: str, value: str, complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for each, given in {"CREDITS_URL": STORE, "CLERK_SECRET_KEY": "sk_test_Zm9vYmFy", name: value}.items():
        monkeypatch.setenv(each, given)
    assert run(["jobs"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert complaint in told
    assert "Zm9vYmFy" not in told


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("CREDITS_ORIGINS", "https://chat.example.com/", "CREDITS_ORIGINS: must be origins as browsers send"),
        ("CREDITS_ORIGINS", "*", "not '*'"),
        ("CREDITS_ORIGINS", "null", "not 'null'"),
        ("CREDITS_ORIGINS", "https://Chat.example.com", "no capitals"),
        ("CREDITS_ORIGINS", "https://chat.example.com:443", "no port that goes without saying"),
        ("CREDITS_ORIGINS", "", "CLERK_PUBLISHABLE_KEY: needs CREDITS_ORIGINS"),
        ("CREDITS_GATEWAY_PORT", "http", "CREDITS_GATEWAY_PORT: must be a whole number"),
        ("CLERK_PUBLISHABLE_KEY", "pk_live_Zm9vYmFy", "CLERK_PUBLISHABLE_KEY: does not name a host"),
        ("CLERK_PUBLISHABLE_KEY", "sk_test_Zm9vYmFy", "CLERK_PUBLISHABLE_KEY: must be the publishable key"),
        ("CLERK_SECRET_KEY", "pk_test_Zm9vYmFy", "CLERK_SECRET_KEY: must begin with sk_"),
        ("CLERK_API_URL", "http://api.clerk.com", "CLERK_API_URL: must be https://"),
        ("CLERK_JWT_KEY", "Zm9vYmFy", "CLERK_JWT_KEY: must be the PEM public key"),
        ("CREDITS_PRICES", "/nowhere/prices.toml", "/nowhere/prices.toml"),
    ],
)
def test_the_gateway_refuses_a_wrong_setting_by_name(
    name: str, value: str, complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = {
        "CREDITS_URL": STORE,
        "CREDITS_ORIGINS": "http://127.0.0.1:8081 https://chat.example.com",
        "CLERK_PUBLISHABLE_KEY": "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k",
        "CLERK_SECRET_KEY": "sk_test_Zm9vYmFy",
    }
    for each, given in {**usual, name: value}.items():
        monkeypatch.setenv(each, given)
    assert run(["gateway"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert complaint in told
    assert "Zm9vYmFy" not in told


def test_the_usual_settings_of_jobs_are_right() -> None:
    check_jobs_settings(read_settings(JobsSettings, STORE))
    with pytest.raises(CreditsError, match="CLERK_SECRET_KEY: must begin with sk_"):
        check_jobs_settings(JobsSettings(url=SecretStr(STORE), clerk_secret_key=SecretStr("pk_test")))


def test_of_other_libraries_only_warnings_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log_to_stderr()
    ours = logging.getLogger("sparked_workers.jobs.acting")
    assert ours.isEnabledFor(logging.INFO)
    for theirs in ("arq.worker", "httpx", "uvicorn.error"):
        assert not logging.getLogger(theirs).isEnabledFor(logging.INFO)
