"""The stand-in for browsers: sessions by cookie, tokens for the pages it is told of, and its own pages."""

from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
import jwt
import pytest

from sparked_clerk.publishable import frontend_api
from sparked_clerk.sessions import Sessions
from sparked_clerk.stand_in import ClerkStandIn

CHAT, CANVAS, FOREIGN = "http://127.0.0.1:3001", "http://127.0.0.1:3002", "http://127.0.0.1:4000"
SCRIPT = "/npm/@clerk/clerk-js@5/dist/clerk.browser.js"


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        clerk.allow_origin(CHAT)
        clerk.allow_origin(CANVAS)
        yield clerk


@pytest.fixture
async def browser(clerk: ClerkStandIn) -> AsyncIterator[httpx.AsyncClient]:
    """With cookies, but without obedience: it sends whatever the test has it send."""
    async with httpx.AsyncClient(base_url=clerk.url, trust_env=False) as client:
        yield client


async def submit(browser: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    """As the form of the stand-in's own page does."""
    origin = str(browser.base_url).rstrip("/")
    return await browser.post(path, data={"redirect_url": f"{CHAT}/", **fields}, headers={"origin": origin})


async def asked(browser: httpx.AsyncClient, origin: str = CHAT) -> httpx.Response:
    """Who is signed in, as a page of `origin` asks."""
    return await browser.get("/v1/client", headers={"origin": origin})


async def test_signing_up_makes_a_user_and_a_session_and_leads_back(
    clerk: ClerkStandIn, browser: httpx.AsyncClient
) -> None:
    assert (await asked(browser)).json()["response"]["sessions"] == []
    answer = await submit(browser, "/sign-up", email="ada@example.com", redirect_url=f"{CHAT}/chat?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{CHAT}/chat?x=1")
    cookie = answer.headers["set-cookie"].lower()
    assert "__client=" in cookie
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    (message,) = clerk.messages
    assert '"user.created"' in message.body
    response = (await asked(browser)).json()["response"]
    (session,) = response["sessions"]
    assert response["last_active_session_id"] == session["id"]
    assert session["user"]["email_addresses"][0]["email_address"] == "ada@example.com"


async def test_tokens_are_of_the_session_for_the_page_that_asks(
    clerk: ClerkStandIn, browser: httpx.AsyncClient
) -> None:
    await submit(browser, "/sign-up", email="ada@example.com")
    (session,) = (await asked(browser)).json()["response"]["sessions"]
    clerk.update_user(session["user"]["id"], role="admin")
    path = f"/v1/client/sessions/{session['id']}/tokens"
    for origin in (CHAT, CANVAS):
        answer = await browser.post(path, headers={"origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-allow-credentials"] == "true"
        token = answer.json()["jwt"]
        async with Sessions.connect(clerk.url, authorized_parties=[origin]) as sessions:
            found = await sessions.verify(token)
        assert (found.user, found.sid, found.is_admin) == (session["user"]["id"], session["id"], True)
        claims = jwt.decode(token, options={"verify_signature": False})
        assert (claims["azp"], claims["exp"] - claims["iat"]) == (origin, 60)


async def test_pages_of_other_origins_are_told_nothing(
    clerk: ClerkStandIn, browser: httpx.AsyncClient
) -> None:
    await submit(browser, "/sign-up", email="ada@example.com")
    (session,) = (await asked(browser)).json()["response"]["sessions"]
    path = f"/v1/client/sessions/{session['id']}"
    for headers in ({"origin": FOREIGN}, {"origin": "null"}, {"origin": f"{CHAT}0"}, {}):
        for answer in (
            await browser.get("/v1/client", headers=headers),
            await browser.post(f"{path}/tokens", headers=headers),
            await browser.post(f"{path}/remove", headers=headers),
        ):
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
            assert session["id"] not in answer.text
    assert len((await asked(browser)).json()["response"]["sessions"]) == 1


async def test_without_the_session_s_own_cookie_there_is_no_token(
    clerk: ClerkStandIn, browser: httpx.AsyncClient
) -> None:
    await submit(browser, "/sign-up", email="ada@example.com")
    (session,) = (await asked(browser)).json()["response"]["sessions"]
    path = f"/v1/client/sessions/{session['id']}/tokens"
    async with httpx.AsyncClient(base_url=clerk.url, trust_env=False) as other:
        assert (await other.post(path, headers={"origin": CHAT})).status_code == 401
        await submit(other, "/sign-up", email="bob@example.com")
        assert (await other.post(path, headers={"origin": CHAT})).status_code == 401
    assert (await browser.post(path, headers={"origin": CHAT})).status_code == 200


async def test_who_signs_out_or_is_deleted_is_signed_in_no_more(
    clerk: ClerkStandIn, browser: httpx.AsyncClient
) -> None:
    for end in ("sign out", "delete"):
        await submit(browser, "/sign-up", email=f"{end[:4]}@example.com")
        (session,) = (await asked(browser)).json()["response"]["sessions"]
        path = f"/v1/client/sessions/{session['id']}"
        if end == "delete":
            clerk.delete_user(session["user"]["id"])
        else:
            assert (await browser.post(f"{path}/remove", headers={"origin": CHAT})).status_code == 200
        assert (await asked(browser)).json()["response"]["sessions"] == []
        assert (await browser.post(f"{path}/tokens", headers={"origin": CHAT})).status_code == 401


async def test_signing_in_gives_the_browser_another_cookie_and_ends_the_one_before(
    clerk: ClerkStandIn, browser: httpx.AsyncClient
) -> None:
    user = clerk.sign_up(email="Ada@example.com")
    await submit(browser, "/sign-up", email="bob@example.com")
    before = browser.cookies["__client"]
    await submit(browser, "/sign-in", email="ada@EXAMPLE.com ")
    (session,) = (await asked(browser)).json()["response"]["sessions"]
    assert session["user"]["id"] == user
    assert browser.cookies["__client"] != before
    headers = {"origin": CHAT, "cookie": f"__client={before}"}
    async with httpx.AsyncClient(base_url=clerk.url, trust_env=False, headers=headers) as other:
        assert (await other.get("/v1/client")).json()["response"]["sessions"] == []


@pytest.mark.parametrize("path", ["/sign-in", "/sign-up"])
async def test_nobody_is_led_anywhere_else(
    clerk: ClerkStandIn, browser: httpx.AsyncClient, path: str
) -> None:
    clerk.sign_up(email="ada@example.com")
    email = "ada@example.com" if path == "/sign-in" else "new@example.com"
    for back in (
        "",
        "/",
        "//evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        f"{CHAT}@evil.example/",
        f"{CHAT}.evil.example/",
        f"{CHAT}\\@evil.example",
        f"{CHAT}0/",
        f" {FOREIGN}/",
        f"{FOREIGN}/?{CHAT}/",
    ):
        assert (await browser.get(path, params={"redirect_url": back})).status_code == 400, back
        answer = await submit(browser, path, email=email, redirect_url=back)
        assert (answer.status_code, "location" in answer.headers) == (400, False), back
    assert len(clerk.users) == 1


async def test_forms_of_other_pages_sign_nobody_in(clerk: ClerkStandIn, browser: httpx.AsyncClient) -> None:
    clerk.sign_up(email="ada@example.com")
    fields = {"email": "ada@example.com", "redirect_url": f"{CHAT}/"}
    for headers in ({"origin": CHAT}, {"origin": FOREIGN}, {"origin": "null"}, {}):
        answer = await browser.post("/sign-in", data=fields, headers=headers)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


async def test_complaints_of_the_forms_are_in_the_page(
    clerk: ClerkStandIn, browser: httpx.AsyncClient
) -> None:
    clerk.sign_up(email="ada@example.com")
    for path, email in [
        ("/sign-in", "bob@example.com"),
        ("/sign-in", ""),
        ("/sign-up", "ADA@example.com"),
        ("/sign-up", "ada"),
        ("/sign-up", "a b@example.com"),
        ("/sign-up", "x" * 250 + "@example.com"),
    ]:
        answer = await submit(browser, path, email=email)
        assert (answer.status_code, 'role="alert"' in answer.text) == (422, True), (path, email)
    assert len(clerk.users) == 1


async def test_pages_show_addresses_and_roles_as_text_under_a_strict_policy(
    clerk: ClerkStandIn, browser: httpx.AsyncClient
) -> None:
    user = clerk.sign_up(email='"><script>alert(1)</script>@example.com')
    clerk.update_user(user, role="<b>admin</b>")
    back = f'{CHAT}/?"><script>'
    for path in ("/sign-in", "/sign-up"):
        page = await browser.get(path, params={"redirect_url": back})
        assert page.status_code == 200
        assert "<script" not in page.text
        assert "<b>admin" not in page.text
        assert "style=" not in page.text
        assert "unsafe" not in page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert f"redirect_url={quote(back, safe='')}" in page.text
        assert "for development" in page.text
    listed = await browser.get("/sign-in", params={"redirect_url": back})
    assert "&lt;b&gt;admin" in listed.text


async def test_by_another_name_it_does_not_answer(clerk: ClerkStandIn, browser: httpx.AsyncClient) -> None:
    clerk.sign_up(email="ada@example.com")
    asked_for = {"redirect_url": f"{CHAT}/"}
    answer = await browser.get("/sign-in", params=asked_for, headers={"host": "evil.example"})
    assert (answer.status_code, "ada@" in answer.text) == (400, False)


async def test_the_script_is_for_anybody(clerk: ClerkStandIn, browser: httpx.AsyncClient) -> None:
    script = await browser.get(SCRIPT, headers={"origin": FOREIGN})
    assert script.status_code == 200
    assert script.headers["access-control-allow-origin"] == "*"
    assert "javascript" in script.headers["content-type"]


async def test_the_publishable_key_names_the_stand_in(clerk: ClerkStandIn) -> None:
    assert clerk.publishable_key.startswith("pk_test_")
    assert frontend_api(clerk.publishable_key) == clerk.url


async def test_what_is_no_origin_is_not_let_in(clerk: ClerkStandIn) -> None:
    for text in (
        "",
        "*",
        "null",
        "127.0.0.1:3000",
        "http://127.0.0.1:3000/",
        "http://a b",
        "http://A.example",
    ):
        with pytest.raises(ValueError, match="origin: must be as in"):
            clerk.allow_origin(text)
