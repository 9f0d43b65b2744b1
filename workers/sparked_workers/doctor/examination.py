"""All that is looked at, in the order in which it matters."""

from redis.exceptions import NoPermissionError

from sparked_credits.errors import StoreRefused, Unavailable
from sparked_credits.identity import Identity, identify
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.doctor.findings import Finding, fail, ok, unseen, warn
from sparked_workers.doctor.jams import find_jams, jam_finding
from sparked_workers.doctor.jobs import examine_jobs
from sparked_workers.doctor.server import examine_server
from sparked_workers.doctor.shards import examine_shards
from sparked_workers.witness import Witness


async def examine(
    store: Store, keys: Keys, *, epoch: str | None, witness: Witness | None, queue: Store | None
) -> list[Finding]:
    """Look at the store, and at what workers and jobs have left in it.

    Takes a second longer where intents are waiting, to see whether they are decided.

    Args:
        epoch: The epoch that the store should have; None: any.
        witness: What a worker has seen of the store; None: there is no such file here.
        queue: Where arq's queue is; None: it cannot be reached.

    Raises:
        Unavailable: The store stopped answering.
    """
    findings = await examine_server(store)
    try:
        identity = await identify(store, keys, epoch)
    except StoreRefused as error:
        # What is wrong is said with what to do.
        return [*findings, fail("identity", str(error), "see above")]
    findings.append(_identity(identity, epoch))
    findings += [jam_finding(jam) for jam in await find_jams(store, keys, identity.shards)]
    for subject, looking in (
        ("shards", examine_shards(store, keys, identity, witness)),
        ("jobs", examine_jobs(store, keys, queue)),
    ):
        try:
            findings += await looking
        except Unavailable as error:
            if not isinstance(error.__cause__, NoPermissionError):
                raise
            findings.append(unseen(subject, "read everything"))
    return findings


def _identity(identity: Identity, epoch: str | None) -> Finding:
    told = f"epoch {identity.epoch}, {identity.shards} shards"
    if epoch is None:
        return warn(
            "identity",
            f"{told}; another store in its place would be accepted",
            f"set CREDITS_EPOCH={identity.epoch}",
        )
    return ok("identity", told)
