"""`Idempotency-Key`, as draft-ietf-httpapi-idempotency-key-header has it: the key of whatever is written."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sparked_credits.errors import InvalidIntent
from sparked_credits.intents import checked_key
from sparked_gateway.problems import RETRY_AFTER_S, Kind, Problem

HEADER_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!-~]+$"}
"""What may be in the header, as OpenAPI has it."""

# A string of RFC 9651; what is escaped in it is one of these two.
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_ESCAPED = re.compile(r"\\(.)")


def read_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The key in a request's headers, bare or as a quoted string; ASCII, for clients disagree about anything else.

    Raises:
        Problem: There is none, more than one, or it cannot be a key.
    """
    found = [value for name, value in headers if name == b"idempotency-key"]
    if not found:
        raise Problem(
            Kind.IDEMPOTENCY_KEY_MISSING,
            "send a header Idempotency-Key: text that you make once for each thing to be done, such as the request's "
            "id, and send again with every retry",
        )
    try:
        if len(found) > 1:
            raise InvalidIntent("there is more than one")
        text = found[0].decode("ascii")
        quoted = _QUOTED.fullmatch(text)
        if text.startswith('"') and not quoted:
            raise InvalidIntent("what begins with a quotation mark must be a quoted string")
        return checked_key(_ESCAPED.sub(r"\1", quoted[1]) if quoted else text)
    except UnicodeDecodeError:
        raise Problem(Kind.INVALID_REQUEST, "Idempotency-Key: must be ASCII") from None
    except InvalidIntent as error:
        raise Problem(Kind.INVALID_REQUEST, f"Idempotency-Key: {error}") from None


class UnderWay:
    """What this process is working on: a key that is sent again meanwhile is answered at once.

    Not what keeps it from having two effects, for the ledger does that, but the answer that says what is going on.
    """

    def __init__(self) -> None:
        self._keys: set[tuple[str, str, str]] = set()

    @contextmanager
    def working_on(self, origin: str, user: str, key: str) -> Iterator[None]:
        """Work on a key for the length of the block.

        Raises:
            Problem: It is being worked on already.
        """
        name = (origin, user, key)
        if name in self._keys:
            raise Problem(
                Kind.IN_PROGRESS,
                "the request that was sent first with this key is not answered yet: send it again in a moment",
                headers={"retry-after": str(RETRY_AFTER_S)},
            )
        self._keys.add(name)
        try:
            yield
        finally:
            self._keys.discard(name)
