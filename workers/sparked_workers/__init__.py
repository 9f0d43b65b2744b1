"""What writes the ledger: the worker that consumes charges, its Lua, its leases, and the store's set-up."""

from sparked_workers.setup import accept_loss, initialise
from sparked_workers.worker import Worker

__all__ = ["Worker", "accept_loss", "initialise"]
