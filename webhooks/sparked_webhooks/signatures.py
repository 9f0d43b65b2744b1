"""Is a message authentic? svix's verifier decides, behind a front of ours that is stricter.

Alone, svix's verifier takes timestamps such as `1_731e9`, signs with keys of three bytes, raises all sorts of errors on
malformed headers, and sees one header of several with the same name while its caller may see another.
"""

import base64
import re
from collections.abc import Iterable
from typing import Self

from svix.webhooks import Webhook, WebhookVerificationError

Headers = Iterable[tuple[bytes, bytes]]
"""As ASGI has them: every header that was sent, in order, those of one name too."""

SIGNATURES_MAX = 16
"""A message is signed with each of its sender's active secrets, of which there are two while one is replaced."""

_PREFIX = "whsec_"
_KEY_BYTES_MIN, _KEY_BYTES_MAX = 24, 75

_PARTS = (b"id", b"timestamp", b"signature")
_NAMES = [family + part for family in (b"svix-", b"webhook-") for part in _PARTS]

# What is signed is `id.timestamp.body`. An id with a dot could hand a part of itself to its neighbours.
_ID = re.compile(rb"[!-\-/-~]{1,255}")
_TIMESTAMP = re.compile(rb"[0-9]{1,11}")
# 32 bytes in base64: the last of 43 characters has two bits to spare, which are 0.
_SIGNATURE = re.compile(rb"v1,[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
_SIGNATURE_OF_ANOTHER_VERSION = re.compile(rb"(?!v1,)[!-+\--~]{1,32},[!-+\--~]{1,1024}")


class NotAuthentic(Exception):
    """The message is not from whom it should be. Nobody but the log is told why: it would help a forger."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        """One of a few, without anything that was sent."""


class UnusableSecret(ValueError):
    """A secret that nothing can be verified with. The message names the setting and the place, never the secret."""


class Secrets:
    """The active secrets of one sender: several while one is being replaced."""

    def __init__(self, verifiers: tuple[Webhook, ...]) -> None:
        self._verifiers = verifiers

    @classmethod
    def parse(cls, setting: str, text: str) -> Self:
        """The secrets in `text`, separated by white space, each `whsec_` and 24 to 75 bytes in base64.

        Raises:
            UnusableSecret: There is none, or one of them is not like that; `setting` is named.
        """
        found = text.split()
        if not found:
            raise UnusableSecret(f"{setting}: is empty: have it hold a secret, or unset it")
        places = (f"{setting}: secret {number} of {len(found)}" for number in range(1, len(found) + 1))
        return cls(tuple(_verifier(place, secret) for place, secret in zip(places, found, strict=True)))

    def verify(self, headers: Headers, body: bytes) -> str:
        """Return the message's id if it was signed with one of the secrets, in the last or next five minutes.

        Raises:
            NotAuthentic: It was not. There is no other error, whatever was sent.
        """
        given = _signature_headers(headers)
        text = _text(body)
        reason = ""
        for verifier in self._verifiers:
            try:
                verifier.verify(text, given)
            except WebhookVerificationError as error:
                reason = str(error)
            except (ValueError, RecursionError):
                # Before its version 2, it read the body as JSON, too.
                reason = "the verifier could not read it"
            else:
                return given["webhook-id"]
        raise NotAuthentic(reason)


def _verifier(place: str, secret: str) -> Webhook:
    if not secret.startswith(_PREFIX):
        raise UnusableSecret(f"{place} does not begin with {_PREFIX}")
    encoded = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        key = b""
    if base64.b64encode(key).decode() != encoded:
        raise UnusableSecret(f"{place} is not {_PREFIX} and base64, with its padding")
    if not _KEY_BYTES_MIN <= len(key) <= _KEY_BYTES_MAX:
        raise UnusableSecret(
            f"{place} has a key of {len(key)} bytes, must be {_KEY_BYTES_MIN} to {_KEY_BYTES_MAX}"
        )
    return Webhook(secret)


def _signature_headers(headers: Headers) -> dict[str, str]:
    """The three headers, each sent once, of one family and in strict form, as the verifier takes them."""
    sent = [(name.lower(), value) for name, value in headers]
    given = {name: value for name, value in sent if name in _NAMES}
    if len(given) < sum(name in _NAMES for name, _ in sent):
        raise NotAuthentic("a signature header was sent twice")
    if len({name.partition(b"-")[0] for name in given}) > 1:
        raise NotAuthentic("signature headers of two families")
    if len(given) < len(_PARTS):
        raise NotAuthentic("a signature header is missing")
    message_id, timestamp, signatures = (given[name] for name in _NAMES if name in given)
    if not _ID.fullmatch(message_id):
        raise NotAuthentic("malformed id")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise NotAuthentic("malformed timestamp")
    _check_signatures(signatures.split(b" "))
    return {
        "webhook-id": message_id.decode(),
        "webhook-timestamp": timestamp.decode(),
        "webhook-signature": signatures.decode(),
    }


def _check_signatures(signatures: list[bytes]) -> None:
    if len(signatures) > SIGNATURES_MAX:
        raise NotAuthentic("too many signatures")
    for each in signatures:
        if not (_SIGNATURE.fullmatch(each) or _SIGNATURE_OF_ANOTHER_VERSION.fullmatch(each)):
            raise NotAuthentic("malformed signature")


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise NotAuthentic("the body is not UTF-8") from None
