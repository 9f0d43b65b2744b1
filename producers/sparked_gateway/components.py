"""`/components.js`: the web components, for pages of any origin."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sparked_gateway.static_files import StaticFile

_FILE = Path(__file__).parent / "static" / "components.js"

_HEADERS = {
    # It holds nothing of anybody. Modules of other origins are only loaded if that is said.
    "access-control-allow-origin": "*",
    "cross-origin-resource-policy": "cross-origin",
    # Every page of every app has it: asked for again after five minutes, not with each page.
    "cache-control": "public, max-age=300",
}


def components_route() -> Route:
    """Where pages load `<credits-balance>` and `<credits-history>` from."""
    file = StaticFile(_FILE, _HEADERS)

    async def answer(request: Request) -> Response:
        return file.answer(request)

    return Route("/components.js", answer)
