"""Where a Clerk instance is, by its publishable key."""

from base64 import b64encode

import pytest

from sparked_clerk.publishable import frontend_api


def key_of(text: str, prefix: str = "pk_live_") -> str:
    return prefix + b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("key", "url"),
    [
        (key_of("clerk.example.com$"), "https://clerk.example.com"),
        (key_of("apt-newt-7.clerk.accounts.dev$", "pk_test_"), "https://apt-newt-7.clerk.accounts.dev"),
        (key_of("clerk.example.com$").rstrip("="), "https://clerk.example.com"),
        (f" {key_of('clerk.example.com$')}\n", "https://clerk.example.com"),
        (key_of("127.0.0.1:5678$", "pk_test_"), "http://127.0.0.1:5678"),
        (key_of("localhost:5678$", "pk_test_"), "http://localhost:5678"),
        (key_of("[::1]:5678$", "pk_test_"), "http://[::1]:5678"),
        (key_of("10.0.0.1:5678$", "pk_test_"), "https://10.0.0.1:5678"),
    ],
)
def test_it_is_at_the_host_that_the_key_names(key: str, url: str) -> None:
    assert frontend_api(key) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$",
        "clerk.example.com",
        "clerk.example.com$$",
        "clerk.example.com/path$",
        "user@clerk.example.com$",
        "clerk.example.com; script-src *$",
        "clerk.example.com\n$",
        "clerk.example.com:80800000$",
        "é.example.com$",
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not name a host|begins with pk_live_"):
        frontend_api(key_of(text))


@pytest.mark.parametrize(
    "key", ["", "pk_live", "pk_other_Zm9v", "Zm9v", "pk_live_!!", "pk_live_Zm9", "pk_live_\u0661"]
)
def test_what_is_no_publishable_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"Clerk's dashboard"):
        frontend_api(key)


def test_a_secret_key_in_its_place_is_recognised_and_not_told() -> None:
    with pytest.raises(ValueError, match="this is a secret key") as refused:
        frontend_api("sk_live_Zm9vYmFy")
    assert "Zm9v" not in str(refused.value)
