"""Every type of event that endpoints are sent, by its public name; docs/events.md shows a body of each."""

OF_LEDGER = {
    "account_opened": "account.opened",
    "account_frozen": "account.frozen",
    "account_unfrozen": "account.unfrozen",
    "account_closed": "account.closed",
    "threshold_crossed": "balance.low",
    "limit_reached": "limit.reached",
    "hold_expired": "hold.expired",
    "lot_expired": "lot.expired",
}
"""What the ledger calls its events, and what the world calls them."""

OF_JOBS = {
    "training.paused",
    "training.paid",
    "charge.unpaid",
    "reconciliation.fixed",
    "reconciliation.failed",
    "events.missing",
    "events.test",
}

TYPES = {*OF_LEDGER.values(), *OF_JOBS}
