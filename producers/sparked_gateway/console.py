"""The console: its static files, and what it is told of this system before anybody is signed in.

Whatever its pages show they ask for as anybody may, with a key or a session; the files themselves tell nothing.
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sparked_clerk.publishable import frontend_api
from sparked_gateway import dead_letters, overview, recorded
from sparked_gateway.problems import Kind, Problem
from sparked_gateway.static_files import StaticFile

OPERATIONS = (*overview.OPERATIONS, *dead_letters.OPERATIONS, *recorded.OPERATIONS)
"""What it asks for beside what apps and admins do."""

CLERK_JS = "/npm/@clerk/clerk-js@5/dist/clerk.browser.js"
"""Where an instance of Clerk's serves the script that signs people in."""

_STATIC = Path(__file__).parent / "static"


def console_routes(clerk_publishable_key: str | None) -> list[Route]:
    """`/console`, where a person who only knows the host is sent too, its files, and `/console/config.json`.

    Args:
        clerk_publishable_key: Of the instance that signs people in; None: only API keys do.
    """
    files = _files()
    config = _config(clerk_publishable_key)

    async def page(request: Request) -> Response:
        return files["index.html"].answer(request)

    async def file(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        if found is None:
            raise Problem(Kind.NOT_FOUND, "the console has no such file")
        return found.answer(request)

    async def config_json(request: Request) -> Response:
        return JSONResponse(config)

    async def to_the_console(request: Request) -> Response:
        return RedirectResponse("/console", 303)

    return [
        Route("/", to_the_console),
        Route("/console", page),
        Route("/console/", page),
        Route("/console/config.json", config_json),
        Route("/console/{name:path}", file),
    ]


def _config(publishable_key: str | None) -> dict[str, str | None]:
    clerk_js = None if publishable_key is None else frontend_api(publishable_key) + CLERK_JS
    return {"clerk_publishable_key": publishable_key, "clerk_js": clerk_js}


def _files() -> dict[str, StaticFile]:
    """All there are, by the name in their URL behind `/console/`; the chart library is below `vendor/`."""
    console = _STATIC / "console"
    found = {path.relative_to(console).as_posix(): path for path in console.rglob("*.*")}
    found |= {path.relative_to(_STATIC).as_posix(): path for path in (_STATIC / "vendor" / "uplot").iterdir()}
    return {name: StaticFile(path) for name, path in found.items()}
