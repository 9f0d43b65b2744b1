"""clients/typescript: checked by its compiler, and run under Node.js against a real gateway."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.gateway_callers import Client
from tests.integration.listening import Stage

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "typescript"

NEXT_CONFIG = {
    "target": "ES2017",
    "lib": ["dom", "dom.iterable", "esnext"],
    "module": "esnext",
    "moduleResolution": "bundler",
    "strict": True,
    "noEmit": True,
    "skipLibCheck": True,
    "paths": {"@/*": ["./*"]},
    "types": ["node"],
    "typeRoots": [str(CLIENT / "node_modules" / "@types")],
}
"""What `create-next-app` writes, as far as it is about types."""

NEXT_TYPES = """
declare module '@clerk/nextjs/server' {
  export function auth(): Promise<{ userId: string | null }>;
  interface User { publicMetadata: Record<string, unknown> }
  export function clerkClient(): Promise<{ users: { getUser(id: string): Promise<User> } }>;
}
declare module '@/lib/db' {
  export function sql(text: TemplateStringsArray, ...values: unknown[]): Promise<any[]>;
}
declare module '@/lib/chat' { export function processChatMessage(message: string): Promise<{ reply: string }> }
declare module '@/lib/canvas' { export function generateCanvas(prompt: string, complexity: string): Promise<string> }
declare module '@/lib/video' {
  interface Wish { duration: number; resolution: string }
  export function generateVideo(wish: Wish): Promise<{ url: string; seconds: number }>;
}
declare module '@/lib/training' {
  export function estimateTrainingTime(modelType: string, epochs: number): number;
  export function startTrainingJob(
    job: { jobId: string; userId: string; modelType: string; epochs: number },
  ): Promise<void>;
}
"""
"""What the page's code has from elsewhere."""

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="session")
def compiler() -> Path:
    """The pinned compiler, installed if it is not there; without Node.js, the test is skipped."""
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    wanted = CLIENT / "package-lock.json"
    installed = CLIENT / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        if not shutil.which("npm"):
            pytest.skip("npm is not installed")
        done = run("npm", "ci", "--no-audit", "--no-fund")
        if done.returncode and not os.environ.get("CI"):
            pytest.skip("npm could not install the compiler")
        assert done.returncode == 0, done.stderr
        installed.touch()
    return CLIENT / "node_modules" / ".bin" / "tsc"


@pytest.fixture(scope="session")
def compiled(compiler: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client and its tests as JavaScript."""
    folder = tmp_path_factory.mktemp("typescript")
    done = run(compiler, "--outDir", folder)
    assert done.returncode == 0, done.stdout
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, timeout=150, check=False)


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_the_client_does_what_it_says(
    compiled: Path, gateway: Stage, chat: Client, backoffice: Client
) -> None:
    environment = {
        "GATEWAY_URL": gateway.url,
        "GATEWAY_APP_TOKEN": chat.headers["authorization"].removeprefix("Bearer "),
        "GATEWAY_ADMIN_TOKEN": backoffice.headers["authorization"].removeprefix("Bearer "),
    }
    node = await asyncio.create_subprocess_exec(
        "node", "--test", compiled / "tests" / "credits.test.js", env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    printed, _ = await node.communicate()
    assert node.returncode == 0, printed.decode()


def test_the_routes_that_are_shown_for_next_have_the_right_types(compiler: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "nextjs.md").read_text()
    shown = re.findall(r"^`([a-z/]+\.ts)`\n\n```ts\n(.+?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(shown) == page.count("```ts\n")
    client = (CLIENT / "credits.ts").read_text()
    for name, code in (*shown, ("lib/sparked-credits.ts", client), ("next.d.ts", NEXT_TYPES)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": NEXT_CONFIG}))
    done = run(compiler, "--project", tmp_path)
    assert done.returncode == 0, done.stdout
