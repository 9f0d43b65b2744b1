"""`credits demo` as a process of its own, as people start it, and what they do in its pages."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import httpx
from playwright.async_api import Locator, Page, expect

START_S = 45
END_S = 20

_CREDITS = [sys.executable, "-m", "sparked_cli"]
_numbers = count()


@dataclass(frozen=True)
class Demo:
    """Where everything is, as it told when it was ready."""

    told: dict[str, Any]

    @property
    def chat(self) -> str:
        return self._app("chat")

    @property
    def canvas(self) -> str:
        return self._app("canvas")

    @property
    def studio(self) -> str:
        return self._app("studio")

    @property
    def train(self) -> str:
        return self._app("train")

    @property
    def console(self) -> str:
        return str(self.told["console"])

    def _app(self, title: str) -> str:
        return str(self.told["apps"][title])

    def ask(self, path: str) -> httpx.Response:
        """A GET at the gateway, by the API key that was told."""
        headers = {"authorization": f"Bearer {self.told['api_key']}"}
        return httpx.get(self.told["gateway"] + path, headers=headers, trust_env=False)


@contextmanager
def demonstration() -> Iterator[Demo]:
    """Start it; end it as Ctrl-C does. What it has done to the ledger is verified in between."""
    with subprocess.Popen([*_CREDITS, "demo", "--port", "0", "--json"], stdout=subprocess.PIPE) as process:
        try:
            demo = Demo(json.loads(_first_line(process)))
            yield demo
            settings = {**os.environ, "CREDITS_URL": demo.told["store"]}
            subprocess.run([*_CREDITS, "verify", "--all"], env=settings, check=True, timeout=60)
            process.send_signal(signal.SIGINT)
            assert process.wait(END_S) == 0
        finally:
            process.kill()


def _first_line(process: "subprocess.Popen[bytes]") -> bytes:
    assert process.stdout
    with DefaultSelector() as selector:
        selector.register(process.stdout, EVENT_READ)
        assert selector.select(START_S), "it did not tell where it is"
    return process.stdout.readline()


def balance(page: Page) -> Locator:
    return page.get_by_test_id("credits-balance")


async def sign_up(page: Page, app: str) -> str:
    """Sign up on an app's page as somebody new; return the user's id."""
    await page.goto(f"{app}/sign-up")
    await page.get_by_label("E-mail address").fill(f"someone{next(_numbers)}@example.com")
    await page.get_by_role("button", name="Create an account").click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    user: str = await page.evaluate("Clerk.user.id")
    return user


async def send_message(page: Page, text: str) -> None:
    await page.get_by_test_id("prompt").fill(text)
    await page.get_by_test_id("send").click()


async def generate_canvas(page: Page, complexity: str = "low") -> None:
    await page.get_by_test_id("prompt").fill("Rain over a harbour")
    await page.get_by_test_id("complexity").select_option(complexity)
    await page.get_by_test_id("send").click()


async def start_training(page: Page, model: str, epochs: int) -> None:
    await page.get_by_test_id("model").select_option(model)
    await page.get_by_test_id("epochs").fill(str(epochs))
    await page.get_by_test_id("send").click()


async def sign_in_as_admin(page: Page, demo: Demo) -> None:
    """At the console, by Clerk."""
    await page.goto(demo.console)
    await page.get_by_role("button", name="Sign in with Clerk").click()
    await page.get_by_role("button", name=str(demo.told["admin"])).click()
    await expect(page.get_by_role("heading", level=1)).to_be_visible()


async def grant(page: Page, demo: Demo, user: str, amount: int, reason: str) -> None:
    """In the console, by who is signed in there."""
    await page.goto(f"{demo.console}#/users/{user}")
    await page.get_by_role("button", name="Grant", exact=True).click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Credits", exact=True).fill(str(amount))
    await dialog.get_by_label("Reason").fill(reason)
    await dialog.get_by_role("button", name="Review").click()
    await dialog.get_by_role("button", name="Grant").click()
    await expect(dialog).to_be_hidden()
