"""Files that are served as they are: small, read once, sent compressed, and again only where they have changed."""

import gzip
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class StaticFile:
    """One file, kept in memory with its ETag.

    Args:
        headers: More of its answers, such as who of other origins may read it.
    """

    def __init__(self, path: Path, headers: Mapping[str, str] | None = None) -> None:
        self._body = path.read_bytes()
        self._compressed = gzip.compress(self._body, mtime=0)
        digest = sha256(self._body).hexdigest()[:32]
        # Weak: it says that the file is the same, however it is sent.
        self._etag = f'W/"{digest}"'
        # `no-cache`: kept, but asked for each time, so that an upgrade is seen at once.
        self._headers = {
            "content-type": _TYPES.get(path.suffix, "text/plain; charset=utf-8"),
            "cache-control": "no-cache",
            "etag": self._etag,
            "vary": "accept-encoding",
            **(headers or {}),
        }

    def answer(self, request: Request) -> Response:
        """The file, or 304 to who has it already."""
        known = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
        if self._etag in known or "*" in known:
            return Response(status_code=304, headers=self._headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self._compressed, headers={**self._headers, "content-encoding": "gzip"})
        return Response(self._body, headers=self._headers)
