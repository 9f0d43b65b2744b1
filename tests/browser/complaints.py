"""What pages complain of: errors in the console, violations of the CSP, uncaught exceptions, requests that failed."""

import re

from playwright.async_api import BrowserContext, ConsoleMessage, Request, WebError

_NOT_FAILED = {"net::ERR_ABORTED", "csp"}
"""The page went on to another, or closed a stream; or its policy forbade it, which the console tells too."""


class Complaints:
    """Collects them from the pages of every watched context."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        """Each with the address it is about."""
        self._expected: list[str] = []

    def expect(self, pattern: str) -> None:
        """Let pass what matches this regular expression, such as `r"402 .*/api/chat"`, whether it comes or not."""
        self._expected.append(pattern)

    def watch(self, context: BrowserContext) -> None:
        context.on(
            "console", self._on_console
        )  # Chromium tells there of violations and of answers of 4xx and 5xx.
        context.on("weberror", self._on_error)
        context.on("requestfailed", self._on_failed_request)

    def unexpected(self) -> list[str]:
        return [each for each in self.heard if not any(re.search(known, each) for known in self._expected)]

    def check(self) -> None:
        """Fail if there is any that was not expected."""
        assert not self.unexpected(), "\n".join(self.unexpected())

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "assert"}:
            self.heard.append(f"console: {message.text} {message.location.get('url', '')}")

    def _on_error(self, error: WebError) -> None:
        self.heard.append(f"uncaught: {error.error} {error.page.url if error.page else ''}")

    def _on_failed_request(self, request: Request) -> None:
        if request.failure not in _NOT_FAILED:
            self.heard.append(f"request: {request.failure} {request.method} {request.url}")
