"""What examples/README.md says is so."""

import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from sparked_world.connections import World
from sparked_world.world import make_apps
from tests.signing import SECRET

README = Path(__file__).parents[2] / "examples" / "README.md"
CLERK = f"pk_test_{b64encode(b'clerk.example.com$').decode()}"


def test_the_app_of_the_readme_can_be_served(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    for name in ("CREDITS_URL", "CREDITS_ADMIN_URL"):
        monkeypatch.setenv(name, "redis://store:6379")
    monkeypatch.setenv("CLERK_PUBLISHABLE_KEY", CLERK)
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - what a reader is told to do
    assert isinstance(names["app"], Starlette)


def test_the_readme_names_the_routes_and_no_others() -> None:
    world = World(
        "redis://store", "redis://store", CLERK, "https://credits.example.com", {"Chat": "https://a"}
    )
    secrets = dict.fromkeys(("clerk_secret", "training_secret", "events_secret"), SECRET)
    apps = make_apps(world, webhooks="https://webhooks.example.com/webhooks/training", **secrets)
    served = {
        route.path
        for app in apps.values()
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith("/api/")
    }
    named = re.findall(r"`(?:GET |POST )?(/api/[a-z/{}]+)", README.read_text())
    assert set(named) == served


def test_the_files_that_the_readme_names_are_there() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README.read_text()):
        assert (README.parent / link).exists(), link
