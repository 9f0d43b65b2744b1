"""What can go wrong with Clerk, by what the caller does next.

DirectoryError
├── DirectoryUnavailable   go on later, from its cursor
└── DirectoryRefused       a person has to act first; the message says how
NotSignedIn                the token is not to be trusted: sign in (again)
└── KeysUnavailable        nobody can tell yet: the same token, later
"""


class DirectoryError(Exception):
    """Clerk's users could not be read."""


class DirectoryUnavailable(DirectoryError):
    """Clerk did not answer, or not sensibly, for as long as we ask. What came before stands; go on later."""

    def __init__(self, message: str, cursor: str | None = None) -> None:
        super().__init__(message)
        self.cursor = cursor
        """What to pass as `after` to go on; None: from the start."""


class DirectoryRefused(DirectoryError):
    """Clerk does not take the secret key, or it isn't Clerk's API that answers. Asking again changes nothing."""


class NotSignedIn(Exception):
    """The session token proves nothing; `reason` says why, for the log, and holds nothing of the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class KeysUnavailable(NotSignedIn):
    """Clerk's signing keys cannot be fetched, and the one needed is not known yet. Not the user's fault: 503."""
