"""A corpus of signed and wrongly signed messages: what both verifiers accept, what both refuse, what only ours does."""

import base64
from collections.abc import Callable

from sparked_webhooks.signatures import SIGNATURES_MAX
from tests.signing import OTHER_SECRET, RawHeaders, headers, signature

BODY = b'{"type":"user.created","data":{"id":"user_1"}}'


def with_timestamp(at: int, sent: str) -> RawHeaders:
    """Rightly signed, for svix signs what it has read from the header."""
    signed = f"v1,{signature(BODY, at=at)}"
    return [(b"svix-id", b"msg_1"), (b"svix-timestamp", sent.encode()), (b"svix-signature", signed.encode())]


def with_signatures(at: int, write: Callable[[str], str]) -> RawHeaders:
    """`write` makes the header of the right signature."""
    return [*headers(BODY, at=at)[:2], (b"svix-signature", write(signature(BODY, at=at)).encode())]


def fullwidth(digits: str) -> str:
    return "".join(chr(ord(digit) + 0xFEE0) for digit in digits)


WRONG = base64.b64encode(bytes(32)).decode()
V1A = "v1a," + base64.b64encode(bytes(64)).decode()

Case = Callable[[int], RawHeaders]
"""What is sent at a moment."""

ACCEPTED: dict[str, Case] = {
    "svix headers": lambda at: headers(BODY, at=at),
    "webhook headers": lambda at: headers(BODY, at=at, family="webhook"),
    "names in capitals": lambda at: [(name.title(), value) for name, value in headers(BODY, at=at)],
    "other headers beside": lambda at: [
        *headers(BODY, at=at),
        (b"x-id", b"1"),
        (b"x-id", b"2"),
        (b"svix-event", b"?"),
    ],
    "an id of 255 characters": lambda at: headers(BODY, at=at, message_id="m" * 255),
    "an id of all sorts": lambda at: headers(BODY, at=at, message_id="evt:{1}/-_~!"),
    "four minutes old": lambda at: headers(BODY, at=at - 240),
    "four minutes ahead": lambda at: headers(BODY, at=at + 240),
    "a wrong signature before": lambda at: with_signatures(at, lambda right: f"v1,{WRONG} v1,{right}"),
    "one of another version before": lambda at: with_signatures(at, lambda right: f"{V1A} v1,{right}"),
    "a version yet to come": lambda at: with_signatures(at, lambda right: f"v1,{right} v2,?:-_"),
    "as many as may be": lambda at: with_signatures(
        at, lambda right: f"{V1A} " * (SIGNATURES_MAX - 1) + f"v1,{right}"
    ),
}

REFUSED: dict[str, Case] = {
    "no headers": lambda at: [],
    "no id": lambda at: headers(BODY, at=at)[1:],
    "no timestamp": lambda at: headers(BODY, at=at)[::2],
    "no signature": lambda at: headers(BODY, at=at)[:2],
    "an empty id": lambda at: headers(BODY, at=at, message_id=""),
    "an empty signature": lambda at: with_signatures(at, lambda right: ""),
    "another secret": lambda at: headers(BODY, at=at, secret=OTHER_SECRET),
    "another body": lambda at: headers(BODY + b" ", at=at),
    "another id": lambda at: [(b"svix-id", b"msg_2"), *headers(BODY, at=at)[1:]],
    "another time": lambda at: with_timestamp(at, str(at + 1)),
    "six minutes old": lambda at: headers(BODY, at=at - 360),
    "six minutes ahead": lambda at: headers(BODY, at=at + 360),
    "a signature without version": lambda at: with_signatures(at, lambda right: right),
    "a signature with two versions": lambda at: with_signatures(at, lambda right: f"v1,v1,{right}"),
    "a signature of version 2": lambda at: with_signatures(at, lambda right: f"v2,{right}"),
    "a signature in capitals": lambda at: with_signatures(at, lambda right: f"V1,{right}"),
    "a shortened signature": lambda at: with_signatures(at, lambda right: f"v1,{right[:-4]}"),
    "a signature that is not base64": lambda at: with_signatures(at, lambda right: "v1,€uro"),
    "a signature of nothing": lambda at: with_signatures(at, lambda right: "v1,"),
    "two spaces between": lambda at: with_signatures(at, lambda right: f"v1,{WRONG}  v1,{right}"),
    "a malformed one before": lambda at: with_signatures(at, lambda right: f"v1,x v1,{right}"),
    "a time in words": lambda at: with_timestamp(at, "now"),
    "no time": lambda at: with_timestamp(at, ""),
    "a negative time": lambda at: with_timestamp(at, f"-{at}"),
    "an endless time": lambda at: with_timestamp(at, "inf"),
    "no number": lambda at: with_timestamp(at, "nan"),
    "a time of 400 digits": lambda at: with_timestamp(at, "9" * 400),
}

TRAPS: dict[str, Case] = {
    "the id twice": lambda at: [(b"svix-id", b"msg_0"), *headers(BODY, at=at)],
    "the same id twice": lambda at: [headers(BODY, at=at)[0], *headers(BODY, at=at)],
    "the timestamp twice": lambda at: [(b"svix-timestamp", b"0"), *headers(BODY, at=at)],
    "the signature twice": lambda at: [(b"svix-signature", b"v1,x"), *headers(BODY, at=at)],
    "an id in the other family": lambda at: [*headers(BODY, at=at), (b"webhook-id", b"msg_0")],
    "both families": lambda at: [*headers(BODY, at=at), *headers(BODY, at=at, family="webhook")],
    "a mixture": lambda at: [*headers(BODY, at=at)[:2], headers(BODY, at=at, family="webhook")[2]],
    "an id with a dot": lambda at: headers(BODY, at=at, message_id="msg.1"),
    "an id with a space": lambda at: headers(BODY, at=at, message_id="msg 1"),
    "an id of 256 characters": lambda at: headers(BODY, at=at, message_id="m" * 256),
    "a time with an underscore": lambda at: with_timestamp(at, f"{str(at)[:4]}_{str(at)[4:]}"),
    "a time with an exponent": lambda at: with_timestamp(at, f"{at}e0"),
    "a time with a fraction": lambda at: with_timestamp(at, f"{at}.0"),
    "a time with a sign": lambda at: with_timestamp(at, f"+{at}"),
    "a time with a space": lambda at: with_timestamp(at, f" {at}"),
    "a time of 12 digits": lambda at: with_timestamp(at, f"{at:012}"),
    "white space in a signature": lambda at: with_signatures(
        at, lambda right: f"v1,{right[:5]}\n{right[5:]}"
    ),
    "strange characters in one": lambda at: with_signatures(at, lambda right: f"v1,{right[:5]}!{right[5:]}"),
    "a signature that goes on": lambda at: with_signatures(at, lambda right: f"v1,{right}more"),
    "too many signatures": lambda at: with_signatures(
        at, lambda right: f"{V1A} " * SIGNATURES_MAX + f"v1,{right}"
    ),
    "something malformed behind": lambda at: with_signatures(at, lambda right: f"v1,{right} v1,x"),
    "spaces behind": lambda at: with_signatures(at, lambda right: f"v1,{right}  "),
}
"""What svix's verifier alone would let pass."""
