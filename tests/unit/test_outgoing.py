"""Which endpoints and addresses events may go to."""

from base64 import b64encode
from ipaddress import ip_address

import pytest
from pydantic import SecretStr

from sparked_credits import InvalidIntent
from sparked_workers.outgoing.addresses import AddressRefused, check_addresses, is_public
from sparked_workers.outgoing.endpoints import check_endpoints, name_of, origin_of, wants
from sparked_workers.outgoing.event_types import TYPES
from sparked_workers.settings import Endpoint


def secret(length: int = 32) -> str:
    return "whsec_" + b64encode(b"\xfb" * length).decode()


def endpoint(
    url: str = "https://example.com/hook?token=private", *, by: str | None = None, types: str = ""
) -> Endpoint:
    return Endpoint(url=url, secret=SecretStr(secret() if by is None else by), types=tuple(types.split()))


def complaint(*endpoints: Endpoint, private_addresses: bool = False) -> str:
    with pytest.raises(InvalidIntent) as refused:
        check_endpoints(endpoints, private_addresses=private_addresses)
    return str(refused.value)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450::1"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))
    check_addresses([address])


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
        *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
        *("::", "::1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1"),
        *(
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
        ),
        *(
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fe80::1%eth0",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
        ),
    ],
)
def test_addresses_that_not_everyone_can_reach_or_that_stand_for_another(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(AddressRefused, match=r"^\S+ is not a public address$"):
        check_addresses(["8.8.8.8", address])


def test_an_endpoint_that_can_be_used_is_accepted() -> None:
    check_endpoints([], private_addresses=False)
    check_endpoints(
        [
            endpoint(),
            endpoint(
                "http://example.com:8080/",
                by=f"{secret(24)}  {secret(75)}",
                types="training.paused balance.low",
            ),
            endpoint("https://bücher.example/"),
            endpoint("https://[2606:4700:4700::1111]/"),
        ],
        private_addresses=False,
    )
    check_endpoints([endpoint("http://127.0.0.1:9000/")], private_addresses=True)


@pytest.mark.parametrize(
    "url",
    ["", "example.com", "/hook", "ftp://example.com/", "https://", "https:///hook", "https://exa mple.com/",
     " https://example.com/", "https://example.com:99999/", "unix:///socket", "https://[::1/"],
)  # fmt: skip
def test_a_url_that_is_none_is_refused(url: str) -> None:
    assert complaint(endpoint(), endpoint(url)) == (
        "CREDITS_EVENT_ENDPOINTS: endpoint 2: the URL must look like https://example.com/credits/events"
    )


def test_a_url_with_a_password_is_refused_without_saying_it() -> None:
    said = complaint(endpoint("https://user:hunter2@example.com/"))
    assert said.startswith("CREDITS_EVENT_ENDPOINTS: endpoint 1: the URL must not hold a user or password")
    assert "hunter2" not in said


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "[::1]", "[::ffff:10.0.0.1]"])
def test_a_private_address_is_refused_at_the_start(host: str) -> None:
    said = complaint(endpoint(f"https://{host}/"))
    assert f"endpoint 1 (https://{host}): its address is not a public one" in said
    assert "CREDITS_EVENT_PRIVATE_ADDRESSES=true" in said


@pytest.mark.parametrize(
    "bad",
    ["", "hunter2", "whsec_", "whsec_MfKQ", secret(23), secret(76), secret().removeprefix("whsec_"),
     secret().replace("+", "-"), secret().rstrip("="), f"{secret()} hunter2", "whsec_" + "=" * 32,
     secret()[:-6] + "\u0661="],
)  # fmt: skip
def test_a_secret_that_is_none_is_refused_without_saying_it(bad: str) -> None:
    said = complaint(endpoint(by=bad))
    assert said.startswith(
        "CREDITS_EVENT_ENDPOINTS: endpoint 1 (https://example.com): each secret must be whsec_ and the base64 of 24 to"
    )
    assert "private" not in said
    assert "hunter2" not in said
    assert "+/v7" not in said


def test_a_type_that_does_not_exist_is_refused_and_those_that_do_are_named() -> None:
    said = complaint(endpoint(types="training.paused training.pausd"))
    assert (
        "endpoint 1 (https://example.com): there are no events of type 'training.pausd'; the types are"
        in said
    )
    assert all(type_ in said for type_ in TYPES)


def test_two_endpoints_of_one_url_are_refused() -> None:
    said = complaint(endpoint(), endpoint("https://other.example/"), endpoint(types="balance.low"))
    assert said.endswith(
        "endpoint 3 (https://example.com): it has the URL of endpoint 1: make one endpoint of them"
    )


def test_what_people_see_of_an_endpoint_holds_neither_path_nor_query() -> None:
    assert origin_of(endpoint("https://example.com:8443/a?token=private")) == "https://example.com:8443"
    assert name_of(endpoint()) != name_of(endpoint("https://example.com/hook?token=other"))
    assert len(name_of(endpoint())) == 8


def test_an_endpoint_that_names_no_types_wants_all() -> None:
    assert wants(endpoint(), "balance.low")
    assert wants(endpoint(types="balance.low"), "balance.low")
    assert not wants(endpoint(types="training.paused"), "balance.low")
