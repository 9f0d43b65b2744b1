"""Outgoing events: what happened is told to the endpoints in the settings, signed, each event at least once.

`announce` writes an event of the jobs; the ledger writes its own. `relaying` makes deliveries of both, `delivering`
sends them, `records` is what is known of each. The latter two are not imported here: who announces needs neither.
"""

from sparked_workers.outgoing.announcing import announce

__all__ = ["announce"]
