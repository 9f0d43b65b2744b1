"""Reconciliation: users beside accounts, accounts beside their entries, and what was left lying about.

A run finds what is wrong, and has it put right through the same intents as everyone else: so it is safe beside live
traffic, and done twice it does no more. It goes on in slices, in one process at a time, and may be cut off anywhere.
"""

from sparked_workers.reconciliation.engine import reconcile
from sparked_workers.reconciliation.periods import missed_period, period_of
from sparked_workers.reconciliation.records import ReconciliationBusy, find_run, runs
from sparked_workers.reconciliation.rules import ReconciliationRules
from sparked_workers.reconciliation.run import Run, RunState

__all__ = [
    "ReconciliationBusy",
    "ReconciliationRules",
    "Run",
    "RunState",
    "find_run",
    "missed_period",
    "period_of",
    "reconcile",
    "runs",
]
