"""What a reconciliation may do."""

from dataclasses import dataclass

_ALWAYS = 10
"""Accounts that may be opened or repaired whatever their share: in a small system each is a large one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationRules:
    """As the settings of `credits jobs` say; the same for the CLI."""

    signup_grant: int
    """Credits that an account is opened with."""
    verified_only: bool
    """Open accounts only for users whose primary e-mail address is verified."""
    share_max: float
    """Share of the accounts, above 0 and up to 1, past which nothing is opened, or nothing repaired."""

    def most(self, accounts: int) -> int:
        """How many of so many accounts may be acted on."""
        return max(_ALWAYS, int(self.share_max * accounts))
