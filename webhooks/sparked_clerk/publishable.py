"""The publishable key of a Clerk instance: `pk_live_` or `pk_test_`, and base64 of `<host of its Frontend API>$`."""

import binascii
import re
from base64 import b64decode

from sparked_clerk.asking import is_confidential

_KEY = re.compile(r"pk_(?:live|test)_([A-Za-z0-9+/]+=*)")
_HOST = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](?::[0-9]{1,5})?")


def frontend_api(publishable_key: str) -> str:
    """Where the instance's Frontend API is, which is also the issuer of its session tokens.

    It is `https://<host>`; for a host that can only be this machine, as the stand-in's, `http://<host>`.

    Raises:
        ValueError: It is no publishable key. It isn't secret, but what was given in its place may be: it is not told.
    """
    found = _KEY.fullmatch(publishable_key.strip())
    if not found:
        raise ValueError(
            "must be the publishable key of Clerk's dashboard, which begins with pk_live_ or pk_test_"
            + ("; this is a secret key" if publishable_key.startswith("sk_") else "")
        )
    unpadded = found[1].rstrip("=")
    try:
        text = b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        text = ""
    host = text.removesuffix("$")
    if not text.endswith("$") or not _HOST.fullmatch(host):
        raise ValueError(
            "does not name a host: behind pk_live_ or pk_test_ is base64 of `<host of the Frontend API>$`. Copy the "
            "whole key from Clerk's dashboard"
        )
    # Plain http is only confidential to this machine.
    return f"http://{host}" if is_confidential(f"http://{host}") else f"https://{host}"
