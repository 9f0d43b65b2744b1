"""What every answer of the gateway tells a browser, whatever it is; and which pages of other origins may read it."""

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sparked_gateway.app import create_app
from sparked_gateway.signed_in import Clerk
from sparked_workers.acl import User
from tests.conftest import System
from tests.integration.gateway_callers import problem

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

CLERK = "https://clerk.example.com"
CLERK_KEY = "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k"
HERE, EVIL = "https://chat.example.com", "https://evil.example.com"
ASKS = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}


async def fail(request: Request) -> Response:
    raise RuntimeError("a mistake")


async def page(request: Request) -> Response:
    return Response("<!doctype html><p>", media_type="text/html")


async def stream(request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        yield ":\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def script(request: Request) -> Response:
    headers = {"access-control-allow-origin": "*", "cache-control": "public, max-age=300"}
    return Response("", media_type="text/javascript", headers=headers)


async def written(request: Request) -> Response:
    return JSONResponse({}, 202, {"location": "/v1/receipts/ada/k1"})


@pytest.fixture
async def http(idle: System) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway; for its pages, streams and mistakes, as others make them, there are routes of ours."""
    app: Starlette = create_app(
        idle.url_of(User.GATEWAY), namespace=idle.keys.namespace, clerk=Clerk(CLERK_KEY), origins=[HERE]
    )
    for path, answer in {
        "page": page,
        "stream": stream,
        "script": script,
        "fail": fail,
        "written": written,
    }.items():
        app.router.routes.insert(0, Route(f"/test/{path}", answer))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        yield client


async def every_kind_of_answer(http: httpx.AsyncClient) -> dict[str, httpx.Response]:
    return {
        "preflight": await http.options("/v1/charges", headers={"origin": HERE, **ASKS}),
        "refused preflight": await http.options("/v1/charges", headers={"origin": EVIL, **ASKS}),
        "200": await http.get("/healthz"),
        "openapi": await http.get("/openapi.json"),
        "metrics": await http.get("/metrics"),
        "401": await http.get("/v1/prices"),
        "404": await http.get("/nothing"),
        "405": await http.delete("/v1/charges"),
        "head": await http.head("/healthz"),
        "500": await http.get("/test/fail"),
        "page": await http.get("/test/page"),
        "stream": await http.get("/test/stream"),
        "script": await http.get("/test/script"),
        "console": await http.get("/console"),
        "components": await http.get("/components.js"),
    }


async def test_every_answer_has_the_security_headers(http: httpx.AsyncClient) -> None:
    answers = await every_kind_of_answer(http)
    for kind, status in {
        "401": 401,
        "404": 404,
        "405": 405,
        "500": 500,
        "200": 200,
        "preflight": 204,
    }.items():
        assert answers[kind].status_code == status, kind
    for kind, answer in answers.items():
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"], kind
        assert answer.headers.get_list("referrer-policy") == ["no-referrer"], kind
        (policy,) = answer.headers.get_list("content-security-policy")
        for rule in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert rule in policy.split("; "), kind
        assert "unsafe" not in policy, kind
    assert problem(answers["500"]) == "internal"


async def test_a_page_runs_its_own_scripts_and_clerks_and_no_other(http: httpx.AsyncClient) -> None:
    policy = (await http.get("/test/page")).headers["content-security-policy"].split("; ")
    assert f"script-src 'self' {CLERK}" in policy
    assert f"connect-src 'self' {CLERK}" in policy
    assert "style-src 'self'" in policy
    assert "script-src" not in (await http.get("/healthz")).headers["content-security-policy"]


async def test_of_answers_nothing_is_kept_but_what_says_so(http: httpx.AsyncClient) -> None:
    answers = await every_kind_of_answer(http)
    for kind in ("200", "401", "404", "405", "500", "stream", "metrics"):
        assert answers[kind].headers.get_list("cache-control") == ["no-store"], kind
    assert answers["script"].headers.get_list("cache-control") == ["public, max-age=300"]


async def test_a_page_of_an_allowed_origin_may_ask_and_read(http: httpx.AsyncClient) -> None:
    advance = await http.options("/v1/charges", headers={"origin": HERE, **ASKS})
    assert advance.status_code == 204
    assert advance.headers["access-control-allow-origin"] == HERE
    assert advance.headers["access-control-allow-methods"] == "GET, POST"
    allowed = "authorization, content-type, idempotency-key, prefer, last-event-id"
    assert advance.headers["access-control-allow-headers"] == allowed
    assert "Origin" in advance.headers["vary"]
    for path, status in {
        "/healthz": 200,
        "/v1/prices": 401,
        "/nothing": 404,
        "/test/written": 202,
        "/test/fail": 500,
    }.items():
        answer = await http.get(path, headers={"origin": HERE})
        assert answer.status_code == status
        assert answer.headers.get_list("access-control-allow-origin") == [HERE], path
        assert answer.headers["access-control-expose-headers"] == "location, retry-after"
        assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    "origin", [EVIL, "null", f"{HERE}.evil.example.com", "http://chat.example.com", f"{HERE}:8443", ""]
)
async def test_a_page_of_another_origin_may_neither_ask_nor_read(
    http: httpx.AsyncClient, origin: str
) -> None:
    for answer in (
        await http.options("/v1/charges", headers={"origin": origin, **ASKS}),
        await http.get("/healthz", headers={"origin": origin}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "Origin" in answer.headers["vary"]


async def test_credentials_are_never_allowed(http: httpx.AsyncClient) -> None:
    for answer in (await every_kind_of_answer(http)).values():
        assert "access-control-allow-credentials" not in answer.headers
        assert "set-cookie" not in answer.headers


async def test_what_anybody_may_read_stays_so(http: httpx.AsyncClient) -> None:
    for origin in (HERE, EVIL):
        answer = await http.get("/test/script", headers={"origin": origin})
        assert answer.headers.get_list("access-control-allow-origin") == ["*"]


async def test_options_that_no_browser_asks_in_advance_is_an_ordinary_request(
    http: httpx.AsyncClient,
) -> None:
    assert problem(await http.options("/v1/charges", headers={"origin": HERE})) == "method-not-allowed"
    assert problem(await http.options("/v1/charges")) == "method-not-allowed"
