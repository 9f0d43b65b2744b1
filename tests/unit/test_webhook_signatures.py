"""Which messages are authentic: a corpus and mutations, judged by us and by svix's verifier alone."""

import asyncio
import base64

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from svix.webhooks import Webhook

from sparked_webhooks import create_app
from sparked_webhooks.cron import Bearer
from sparked_webhooks.signatures import NotAuthentic, Secrets, UnusableSecret
from tests.signature_cases import ACCEPTED, BODY, REFUSED, TRAPS, fullwidth, with_timestamp
from tests.signing import OTHER_SECRET, SECRET, RawHeaders, headers, now

OURS = Secrets.parse("TEST_SECRET", SECRET)


def we_accept(sent: RawHeaders, body: bytes = BODY) -> bool:
    try:
        OURS.verify(sent, body)
    except NotAuthentic:
        return False
    return True


def svix_accepts(sent: RawHeaders, body: bytes = BODY) -> bool:
    """As one uses it with Starlette: of headers with one name, it is given the last."""
    try:
        Webhook(SECRET).verify(
            body, {name.decode("latin-1"): value.decode("latin-1") for name, value in sent}
        )
    except Exception:  # noqa: BLE001 - whatever it raises, it doesn't accept
        return False
    return True


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_is_signed_rightly_is_accepted_by_both(case: str) -> None:
    sent = ACCEPTED[case](now())
    assert we_accept(sent)
    assert svix_accepts(sent)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_is_refused_by_both(case: str) -> None:
    sent = REFUSED[case](now())
    assert not we_accept(sent)
    assert not svix_accepts(sent)


@pytest.mark.parametrize("case", TRAPS)
def test_what_svix_alone_would_accept_is_refused(case: str) -> None:
    sent = TRAPS[case](now())
    assert svix_accepts(sent)
    assert not we_accept(sent)


def test_digits_of_other_scripts_are_no_time() -> None:
    # A server hands headers over as bytes; who decodes them as UTF-8 has svix's verifier read these.
    assert float(fullwidth("1")) == 1.0
    assert not we_accept(with_timestamp(now(), fullwidth(str(now()))))


def test_the_id_that_was_verified_is_the_one_that_is_returned() -> None:
    assert OURS.verify(headers(BODY, message_id="msg_7"), BODY) == "msg_7"


def test_a_body_that_is_not_utf8_is_not_authentic_though_it_is_signed() -> None:
    body = b'{"type":"\xff"}'
    with pytest.raises(NotAuthentic, match="UTF-8"):
        OURS.verify(headers(body), body)


def test_each_active_secret_verifies_and_no_other() -> None:
    both = Secrets.parse("TEST_SECRET", f" {SECRET}\n{OTHER_SECRET} ")
    assert (
        both.verify(headers(BODY), BODY) == both.verify(headers(BODY, secret=OTHER_SECRET), BODY) == "msg_1"
    )
    with pytest.raises(NotAuthentic):
        Secrets.parse("TEST_SECRET", OTHER_SECRET).verify(headers(BODY), BODY)


def whsec(count: int) -> str:
    return "whsec_" + base64.b64encode(b"k" * count).decode()


@pytest.mark.parametrize("secret", [whsec(24), whsec(25), whsec(75)])
def test_secrets_of_24_to_75_bytes_are_taken(secret: str) -> None:
    Secrets.parse("TEST_SECRET", secret)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "TEST_SECRET: is empty"),
        (" \n", "TEST_SECRET: is empty"),
        ("whsec_MfKQ", "secret 1 of 1 has a key of 3 bytes, must be 24 to 75"),
        (whsec(23), "has a key of 23 bytes"),
        (whsec(76), "has a key of 76 bytes"),
        ("whsec_", "has a key of 0 bytes"),
        (whsec(24).removeprefix("whsec_"), "does not begin with whsec_"),
        (whsec(24).upper(), "does not begin with whsec_"),
        (f"{SECRET} {whsec(25)[:-1]}", "secret 2 of 2 is not whsec_ and base64, with its padding"),
        (whsec(24)[:-1] + "-", "is not whsec_ and base64"),
        (whsec(24) + "é", "is not whsec_ and base64"),
        ("whsec_" + "k" * 33 + "B==", "is not whsec_ and base64"),
        (f"{SECRET},{SECRET}", "is not whsec_ and base64"),
    ],
)
def test_a_secret_that_is_none_is_refused_without_being_told(text: str, complaint: str) -> None:
    with pytest.raises(UnusableSecret, match=complaint) as refused:
        Secrets.parse("TEST_SECRET", text)
    assert not any(word in str(refused.value) for word in text.split())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "TEST_SECRET: is empty"),
        (" ", "TEST_SECRET: is empty"),
        ("fifteen-letters", "secret 1 of 1 has 15 characters, must be 16 or more"),
        ("sixteen-letters- fourteen-ones", "secret 2 of 2 has 13 characters"),
    ],
)
def test_a_bearer_secret_that_is_missing_or_short_is_refused_without_being_told(
    text: str, complaint: str
) -> None:
    with pytest.raises(UnusableSecret, match=complaint) as refused:
        Bearer.parse("TEST_SECRET", text)
    assert not any(word in str(refused.value) for word in text.split())


def test_secrets_show_nothing_of_themselves() -> None:
    assert SECRET.removeprefix("whsec_") not in repr(OURS) + str(vars(OURS))


NAMES = [
    b"svix-id",
    b"svix-timestamp",
    b"svix-signature",
    b"webhook-id",
    b"webhook-timestamp",
    b"webhook-signature",
]


@st.composite
def mutations(draw: st.DrawFn) -> tuple[RawHeaders, bytes]:
    """A message that was right, after up to four changes."""
    sent, body = headers(BODY, family=draw(st.sampled_from(["svix", "webhook"]))), BODY
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(sent)))
        if place == len(sent):
            body = draw(mutated(body))
            continue
        name, value = sent[place]
        renamed = st.tuples(st.sampled_from(NAMES), mutated(value) | st.just(value))
        changed = st.tuples(st.just(name), mutated(value))
        sent[place : place + 1] = draw(
            st.sampled_from([[], [(name, value)] * 2, [(name.upper(), value)]])
            | st.lists(renamed | changed, min_size=1, max_size=1)
            | st.lists(renamed | st.just((name, value)), min_size=2, max_size=2)
        )
        if not sent:
            break
    return draw(st.permutations(sent)), body


@st.composite
def mutated(draw: st.DrawFn, value: bytes) -> bytes:
    """`value` with a part of it replaced, doubled or left out."""
    start = draw(st.integers(0, len(value)))
    end = draw(st.integers(start, min(len(value), start + 3)))
    part = draw(
        st.sampled_from([b"", b" ", b".", b",", b"=", b"_", b"v1,", b"\xff", b"\x00"]) | st.binary(max_size=3)
    )
    return draw(st.sampled_from([value[:start] + part + value[end:], value + part + value[start:end]]))


@given(mutations())
def test_whatever_is_changed_nothing_else_is_accepted_than_what_was_signed(
    changed: tuple[RawHeaders, bytes],
) -> None:
    sent, body = changed
    if we_accept(sent, body):
        assert svix_accepts(sent, body)
        assert body == BODY
        (message_id,) = [value for name, value in sent if name.lower() in (b"svix-id", b"webhook-id")]
        assert message_id == b"msg_1"


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=60)), max_size=8), st.binary(max_size=60)
)
@example(
    [(b"svix-id", b"1"), (b"svix-timestamp", b"99999999999"), (b"svix-signature", b"v1," + b"A" * 43 + b"=")],
    b"",
)
@example([(b"svix-id", b"1"), (b"svix-timestamp", b"0"), (b"svix-signature", b"v1,\xff")], b"\xff")
def test_nothing_made_up_is_accepted_and_nothing_but_not_authentic_is_raised(
    sent: RawHeaders, body: bytes
) -> None:
    assert not we_accept(sent, body)


@given(mutations())
def test_over_http_whatever_is_changed_is_answered_400(changed: tuple[RawHeaders, bytes]) -> None:
    """Fault 17. The store is down, so that what is taken for authentic, and only that, is answered 503."""
    sent, body = changed
    expected = 503 if we_accept(sent, body) else 400
    assert asyncio.run(answer(sent, body)) == expected


async def answer(sent: RawHeaders, body: bytes) -> int:
    app = create_app("redis://127.0.0.1:1", clerk_secrets=SECRET)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://webhooks") as client:
        return (await client.post("/webhooks/clerk", content=body, headers=sent)).status_code
