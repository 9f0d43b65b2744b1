"""Every account beside its entries, every shard beside its totals; and what is wrong is repaired.

First everything is looked at, and only then anything repaired: so that much that is wrong is noticed before the first
of it is touched. All that is compared is of one moment, so charges going on are no alarm.
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict

from sparked_credits import auditing
from sparked_credits.errors import Rejected, Unavailable, describe
from sparked_credits.keys import shard_of
from sparked_credits.sums import Sums
from sparked_credits.totals import Tally, add_to_tally, begin_tally, check_totals, end_tally
from sparked_credits.verification import verify, verify_shard
from sparked_credits.walking import pipelined
from sparked_workers.reconciliation.records import SEEN, WRONG
from sparked_workers.reconciliation.run import Listing, note
from sparked_workers.reconciliation.slices import ANSWER_S, Checked, Slice, SliceOver

_REMEMBERED_AT_ONCE = 100
"""Accounts with a new checkpoint: if they were remembered page by page, a worker would be waited for as often."""

PAGE = 1000
"""Accounts that are read together."""

_READ_AT_ONCE = 100


async def sweep(at: Slice) -> None:
    """Verify all accounts, a shard after the other, and add up what they have."""
    place = at.place
    while place.shard < at.shards:
        if place.tally is None:
            place.tally = asdict(await begin_tally(at.store, at.keys, place.shard))
        tally = Tally(**place.tally)
        await _sweep_shard(at, tally)
        check, is_certain = await end_tally(at.store, at.keys, tally)
        if not (check.valid and is_certain):
            place.doubtful.append(place.shard)
        place.shard, place.after, place.tally = place.shard + 1, "", None
        await at.turn()


async def _sweep_shard(at: Slice, tally: Tally) -> None:
    """Verify its accounts, from where the run is on."""
    place, good = at.place, list[Checked]()
    async with aclosing(verify_shard(at.store, at.keys, place.shard, after=place.after, page=PAGE)) as pages:
        async for page in pages:
            await _take_in(at, page, tally)
            good += (each for each in page if each[1].valid and each[1].entries)
            if len(good) >= _REMEMBERED_AT_ONCE:
                await at.remember(place.shard, good)
                good.clear()
            place.after, place.tally = page[-1][0], asdict(tally)
            try:
                await at.turn()
            except SliceOver:
                await at.remember(place.shard, good)
                raise
    await at.remember(place.shard, good)


async def _take_in(at: Slice, page: Sequence[Checked], tally: Tally) -> None:
    run = at.run
    for user, found, _sums in page:
        run.entries += found.entries
        if found.valid:
            run.verified += 1
        else:
            await at.found_wrong(user, found)
    accounts = ((user, found.cached.posted, sums.at) for user, found, sums in page)
    await add_to_tally(at.store, at.keys, tally, accounts)
    if at.place.listing is Listing.WHOLE:
        are_known = await at.record.are_noted(SEEN, [user for user, *_ in page])
        for (user, _found, sums), is_known in zip(page, are_known, strict=True):
            if not is_known and sums.state != "closed" and not await _is_new(at, user, sums):
                run.unknown += 1
                note(run.report.unknown, user)


async def _is_new(at: Slice, user: str, sums: Sums) -> bool:
    """Whether it was opened while Clerk's users were listed, or since."""
    if sums.at < at.run.started_at:
        return False
    read = ("XRANGE", at.keys.entries(at.place.shard, user), "-", "+", "COUNT", 1)
    (rows,) = await pipelined(at.store, [read])
    return bool(rows) and int(rows[0][0].partition(b"-")[0]) >= at.run.started_at


async def repair(at: Slice) -> None:
    """Repair the accounts that were found wrong, unless that are suspiciously many."""
    run = at.run
    most = at.rules.most(run.accounts)
    if run.wrong > most:
        at.stop(
            f"{run.wrong} of {run.accounts} accounts are wrong, and {most} are the most that are repaired: find out "
            "why first. `credits reconcile --max-share 1` repairs them all the same"
        )
    if not at.may_act:
        return
    await at.check_store()
    # What was found is to be known whatever becomes of the repairs.
    await at.save()
    while users := await at.record.noted(WRONG, at.place.repaired_after, _READ_AT_ONCE):
        for user in users:
            try:
                outcome = await _repair(at, user)
            except Rejected as error:
                outcome = f"not repaired: {error}"
                at.run.complain(f"{user} could not be repaired: {error}")
            for finding in at.run.report.findings:
                if finding.user == user:
                    finding.outcome = outcome
            at.place.repaired_after = user
            await at.turn()


async def _repair(at: Slice, user: str) -> str:
    """Have one account repaired; return what became of it, in words.

    Raises:
        Rejected: Its entries contradict each other, or it is gone.
    """
    run, key = at.run, f"reconcile:{at.run.id}"
    found, sums = await verify(at.store, at.keys, at.shards, user)
    if found.valid and not await _was_rebuilt(at, user, key):
        run.wrong, run.verified = run.wrong - 1, run.verified + 1
        return "right by now"
    outcome = "rebuilt"
    if not found.valid:
        # If the checkpoint alone is wrong, the account isn't: another one is written.
        found, sums = await verify(at.store, at.keys, at.shards, user, full=True)
        outcome = "checkpoint replaced"
    if not found.valid:
        outcome = await _rebuild(at, user, key)
        found, sums = await verify(at.store, at.keys, at.shards, user)
    if not found.valid:
        found, sums = await verify(at.store, at.keys, at.shards, user, full=True)
    if not found.valid:
        if outcome == "rebuilt":
            outcome = f"still wrong: {found.problems[0]}"
            run.complain(f"{user}: {outcome}")
        return outcome
    await at.remember(shard_of(user, at.shards), [(user, found, sums)])
    run.fixed += 1
    return outcome


async def _was_rebuilt(at: Slice, user: str, key: str) -> bool:
    """Whether this run has repaired it, and was cut off before that was noted."""
    receipt = await at.exchange.stored_receipt(user, key)
    return receipt is not None and receipt.applied


async def _rebuild(at: Slice, user: str, key: str) -> str:
    metadata = {"actor": "reconciliation", "run": at.run.id}
    receipt = await at.ask(
        user, "repaired", lambda: auditing.rebuild(at.exchange, user, key, metadata, ANSWER_S)
    )
    return "rebuilt" if receipt else "not repaired: no answer"


async def check_doubtful_totals(at: Slice) -> None:
    """Compare shards' accounts with their totals that did not agree before what was wrong was repaired."""
    place = at.place
    while place.doubtful:
        shard = place.doubtful[0]
        try:
            check = await check_totals(at.store, at.keys, shard)
        except Unavailable as error:
            at.run.complain(f"the totals of shard {shard} could not be checked: {describe(error)}")
        else:
            if not check.valid:
                note(
                    at.run.report.totals,
                    f"shard {shard}: its accounts have {check.posted} credits together, by its totals {check.expected}",
                )
        del place.doubtful[0]
        await at.turn()
