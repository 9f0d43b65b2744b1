"""docker-compose.yml without Docker: its services as processes of this machine, by the very words of the file.

What the engine would do is done here: fill in variables, map volumes to folders, start services in the order of what
they depend on, check their health, and stop them. Nothing else of the file is looked at.
"""

import asyncio
import re
import shlex
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.waiting import wait_until

Process = asyncio.subprocess.Process

_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?:(:[-?])([^}]*))?\})")
_GRACE_S = re.compile(r"(\d+)s")
_START_S = 60


class Unset(ValueError):
    """The file needs a variable that has no value."""


def filled_in(text: str, variables: Mapping[str, str]) -> str:
    """`text` with its `${…}` replaced, as Compose does."""

    def value(found: re.Match[str]) -> str:
        name, how, alternative = found.groups()
        if name is None:
            return "$"
        given = variables.get(name, "")
        if how == ":?" and not given:
            raise Unset(f"{name} {alternative}")
        return given or (alternative if how == ":-" else "")

    return _VARIABLE.sub(value, text)


class Composed:
    """A project's services.

    Args:
        variables: What the file's `${…}` and its variables without a value are filled in with.
        folder: Holds volumes and logs.
        path: PATH of the processes: where the commands of the images are found.
        here: What words of the file are here, such as `store:6379` for an address.
    """

    def __init__(
        self, file: Path, variables: Mapping[str, str], folder: Path, *, path: str, here: Mapping[str, str]
    ) -> None:
        self.services: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["services"]
        self.running: dict[str, Process] = {}
        self._completed: set[str] = set()
        self._file = file
        self._variables = variables
        self.folder = folder
        self._path = path
        self._here = here

    async def up(self) -> None:
        """Start every service, each when those that it depends on are as it needs them."""
        async with asyncio.timeout(_START_S):
            for name in self.services:
                await self._started(name)
            await asyncio.gather(*(self._healthy(name) for name in self.running if self._has_check(name)))

    async def stop(self, name: str) -> int:
        """End a service as the engine does; return its exit code, or fail if the engine would have had to kill it."""
        process = self.running.pop(name)
        grace = _GRACE_S.fullmatch(self.services[name].get("stop_grace_period", "10s"))
        assert grace
        try:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(int(grace[1])):
                return await process.wait()
        except TimeoutError:
            process.kill()
            raise AssertionError(f"{name} outlived its grace of {grace[0]}\n{self.log(name)}") from None

    async def down(self) -> dict[str, int]:
        """End every service, those first that depend on others; return their exit codes."""
        return {name: await self.stop(name) for name in reversed(list(self.running))}

    def kill(self) -> None:
        """End at once what is left."""
        for process in self.running.values():
            if process.returncode is None:
                process.kill()

    async def is_healthy(self, name: str) -> bool:
        """Run a service's health check once."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        process = await self._start(name, ["sh", "-c", *words] if kind == "CMD-SHELL" else words)
        return await process.wait() == 0

    async def run(self, name: str, *words: str) -> tuple[int, str]:
        """Run a command beside a service, as `docker compose exec` does; return its exit code and what it printed."""
        process = await self._start(name, words, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    async def _started(self, name: str) -> None:
        if name in self.running or name in self._completed:
            return
        service = self.services[name]
        for other, needed in service.get("depends_on", {}).items():
            await self._started(other)
            if needed["condition"] == "service_healthy":
                await self._healthy(other)
            elif needed["condition"] == "service_completed_successfully":
                await self._complete(other)
        self.running[name] = await self._start(name, service["command"])

    async def _complete(self, name: str) -> None:
        if name in self.running:
            code = await self.running.pop(name).wait()
            assert code == 0, f"{name} ended with {code}\n{self.log(name)}"
            self._completed.add(name)

    async def _healthy(self, name: str) -> None:
        async def holds() -> bool:
            assert self.running[name].returncode is None, f"{name} ended\n{self.log(name)}"
            return await self.is_healthy(name)

        await wait_until(holds, within_s=_START_S)

    def _has_check(self, name: str) -> bool:
        return "healthcheck" in self.services[name]

    async def _start(self, name: str, words: Any, stdout: int | None = None) -> Process:
        volumes = self._volumes(name)
        words = [self._local(filled_in(str(word), self._variables), volumes) for word in words]
        with (self.folder / f"{name}.log").open("a") as log:
            log.write(f"$ {shlex.join(words)}\n")
            log.flush()
            # `env` looks the command up in the PATH that the process gets, not in ours.
            command = ["/usr/bin/env", "-i", *self._environment(name, volumes), *words]
            return await asyncio.create_subprocess_exec(*command, stdout=stdout or log, stderr=log)

    def _environment(self, name: str, volumes: Mapping[str, Path]) -> list[str]:
        found = {"PATH": self._path, **{k: v for k, v in self._variables.items() if k == "PYTHONPATH"}}
        for variable, value in self.services[name].get("environment", {}).items():
            if value is not None:
                found[variable] = self._local(filled_in(str(value), self._variables), volumes)
            elif variable in self._variables:
                found[variable] = self._variables[variable]
        return [f"{variable}={value}" for variable, value in found.items()]

    def _volumes(self, name: str) -> dict[str, Path]:
        """Where what a service sees at a path is here."""
        found = {}
        for volume in self.services[name].get("volumes", ()):
            source, target = volume.split(":")[:2]
            named = self.folder / "volumes" / source
            found[target] = (self._file.parent / source).resolve() if source[0] == "." else named
            if source[0] != ".":
                named.mkdir(parents=True, exist_ok=True)
        return found

    def _local(self, text: str, volumes: Mapping[str, Path]) -> str:
        for target, source in volumes.items():
            text = re.sub(rf"(?<![\w/]){re.escape(target)}(?![\w-])", str(source), text)
        for word, replacement in self._here.items():
            text = text.replace(word, replacement)
        return text
