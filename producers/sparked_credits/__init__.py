"""Prepaid credits shared by several apps: enqueue a charge under a key, await its receipt."""

from sparked_credits.admin import Admin
from sparked_credits.client import Credits
from sparked_credits.errors import (
    AccountExists,
    AccountFrozen,
    AccountNotFound,
    BalanceTooLarge,
    CreditsError,
    IdempotencyConflict,
    InsufficientCredits,
    IntentExpired,
    IntentFailed,
    InvalidIntent,
    QueueFull,
    Rejected,
    StoreRefused,
    Unavailable,
)
from sparked_credits.intents import ChargeIntent
from sparked_credits.models import AMOUNT_MAX, Balance, Entry, Page, Receipt, Status

__all__ = [
    "AMOUNT_MAX",
    "AccountExists",
    "AccountFrozen",
    "AccountNotFound",
    "Admin",
    "Balance",
    "BalanceTooLarge",
    "ChargeIntent",
    "Credits",
    "CreditsError",
    "Entry",
    "IdempotencyConflict",
    "InsufficientCredits",
    "IntentExpired",
    "IntentFailed",
    "InvalidIntent",
    "Page",
    "QueueFull",
    "Receipt",
    "Rejected",
    "Status",
    "StoreRefused",
    "Unavailable",
]
