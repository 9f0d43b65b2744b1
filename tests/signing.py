"""Messages as their senders sign them, made without svix."""

import hmac
import time
from base64 import b64decode, b64encode
from hashlib import sha256

SECRET = "whsec_" + b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + b64encode(bytes(range(24))).decode()

RawHeaders = list[tuple[bytes, bytes]]


def signature(
    body: bytes, *, message_id: str = "msg_1", at: int | str | None = None, secret: str = SECRET
) -> str:
    """What stands behind `v1,`."""
    key = b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{now() if at is None else at}.".encode() + body
    return b64encode(hmac.digest(key, signed, sha256)).decode()


def headers(
    body: bytes,
    *,
    message_id: str = "msg_1",
    at: int | None = None,
    secret: str = SECRET,
    family: str = "svix",
) -> RawHeaders:
    """The three headers of a message that is right."""
    at = now() if at is None else at
    signed = "v1," + signature(body, message_id=message_id, at=at, secret=secret)
    values = {"id": message_id, "timestamp": str(at), "signature": signed}
    return [(f"{family}-{part}".encode(), value.encode()) for part, value in values.items()]


def now() -> int:
    return int(time.time())
