"""Jobs, run by arq: they act on the events of the inbox, settle trainings, reconcile, and tell the endpoints.

`arq sparked_workers.jobs.WorkerSettings` runs them as arq's users expect; `credits jobs` does the same, and goes on
after the store was away. Jobs carry references only: what is to be done is in the inbox, so that the queue may be lost,
and whoever can write to it can have nothing done that was not accepted.
"""

from typing import Any

from sparked_workers.jobs.arq_worker import jobs_worker, worker_settings

__all__ = ["jobs_worker"]


def __getattr__(name: str) -> Any:
    # Made when arq asks for it, so that importing this needs no environment.
    if name == "WorkerSettings":
        return worker_settings()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
