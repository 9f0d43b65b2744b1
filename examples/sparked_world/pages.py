"""The frame of each page: header with the balance and the apps, the app's own part, and the history."""

from collections.abc import Awaitable, Callable
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sparked_world.connections import World

Endpoint = Callable[[Request], Awaitable[Response]]

CLERK_JS = "/npm/@clerk/clerk-js@5/dist/clerk.browser.js"
"""Where an instance has its script for browsers."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · Sparked</title>
<link rel="icon" href="/static/icon.svg">
<link rel="stylesheet" href="/static/world.css">
<script defer crossorigin="anonymous" data-clerk-publishable-key="{key}" src="{clerk}"></script>
<script type="module" src="{gateway}/components.js"></script>
<script type="module" src="/static/world.js"></script>
{script}</head>
<body>
<header>
<a class="brand" href="/"><img src="/static/icon.svg" alt="" width="24" height="24">Sparked</a>
<nav aria-label="Apps">{apps}</nav>
<div class="account">
<credits-balance gateway="{gateway}" hidden></credits-balance>
<a class="signed-out" href="/sign-in" hidden>Sign in</a>
<a class="signed-out button" href="/sign-up" hidden>Sign up</a>
<button class="signed-in quiet" id="sign-out" type="button" hidden>Sign out</button>
</div>
</header>
<main>
<p class="signed-out notice" hidden><a href="/sign-up">Sign up</a>, and you have credits to try all this with.</p>
{main}
</main>
</body>
</html>
"""

_HISTORY = """
<section class="signed-in card" aria-labelledby="history" hidden>
<h2 id="history">History</h2>
<credits-history gateway="{gateway}"></credits-history>
</section>"""


def page(world: World, title: str, *, main: str, script: str) -> Endpoint:
    """An endpoint that answers with the page of an app.

    Args:
        title: The app's, as in `world.apps`.
        main: Its own part, as HTML.
        script: Its own script, a module among the static files.
    """
    history = _HISTORY.format(gateway=escape(world.gateway))
    module = f'<script type="module" src="/static/{script}"></script>\n'
    return _answering(_framed(world, title, main + history, module))


def sign_in_routes(world: World) -> list[Route]:
    """Pages that lead to Clerk's, wherever it has them: its script knows."""
    return [
        Route(path, _answering(_framed(world, title, f'<p data-goes-to="{path[1:]}">{title} …</p>', "")))
        for path, title in (("/sign-in", "Sign in"), ("/sign-up", "Sign up"))
    ]


def _answering(html: str) -> Endpoint:
    async def answer(request: Request) -> Response:
        return HTMLResponse(html)

    return answer


def _framed(world: World, title: str, main: str, script: str) -> str:
    return _PAGE.format(
        title=escape(title),
        key=escape(world.clerk_publishable_key),
        clerk=escape(world.issuer + CLERK_JS),
        gateway=escape(world.gateway),
        script=script,
        apps="".join(_link(name, origin, is_here=name == title) for name, origin in world.apps.items()),
        main=main,
    )


def _link(name: str, origin: str, *, is_here: bool) -> str:
    current = ' aria-current="page"' if is_here else ""
    return f'<a href="{escape(origin)}/"{current}>{escape(name)}</a>'
