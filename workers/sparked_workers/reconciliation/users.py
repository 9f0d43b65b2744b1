"""Clerk's users beside the accounts: whoever has none gets one, for the event that should have opened it was lost."""

import asyncio
import json
from collections.abc import Mapping
from itertools import compress

from sparked_clerk.directory import ClerkDirectory, DirectoryPage, DirectoryRefused, DirectoryUnavailable
from sparked_credits.errors import AccountNotFound, describe, refusal
from sparked_credits.intents import OpenIntent
from sparked_credits.keys import shard_of
from sparked_credits.models import Status
from sparked_credits.verification import verify
from sparked_credits.walking import pipelined
from sparked_workers.reconciliation.records import MISSING, SEEN
from sparked_workers.reconciliation.run import LISTED_MAX, Listing, note
from sparked_workers.reconciliation.slices import ANSWER_S, Slice

OPEN_KEY = "open"
"""The one that sign-ups use, so that whoever comes first opens the account, and the other is answered the same."""

PAGE_S = 10.0
"""How long one of Clerk's pages is waited for in a slice that has an end; it is asked for again in the next one."""

_LISTING_TRIES = 3
OPENED_AT_ONCE = 200

_OPENED_BEFORE = {Status.ACCOUNT_EXISTS, Status.ACCOUNT_CLOSED, Status.IDEMPOTENCY_CONFLICT}


async def list_users(at: Slice) -> None:
    """Look at all of Clerk's users. If it does not answer, that is an error, and the run goes on without the others."""
    place = at.place
    if at.directory is None:
        place.listing = Listing.NONE
        return
    while place.listing is Listing.UNFINISHED:
        try:
            await _list(at, at.directory)
        except (DirectoryUnavailable, TimeoutError) as error:
            place.listing_tries += 1
            if place.listing_tries >= _LISTING_TRIES:
                _give_up(at, error)
        except DirectoryRefused as error:
            _give_up(at, error)
        await at.turn()


def _give_up(at: Slice, error: Exception) -> None:
    at.place.listing = Listing.INCOMPLETE
    at.run.complain(f"Clerk's users were not all listed, {at.run.users} were: {describe(error)}")


async def _list(at: Slice, directory: ClerkDirectory) -> None:
    pages = directory.pages(at.place.cursor)
    while at.place.listing is Listing.UNFINISHED:
        # A slice has an end, whatever patience the directory has.
        async with asyncio.timeout(None if at.budget_s is None else PAGE_S):
            page = await anext(pages)
        await _compare(at, page)
        at.place.cursor, at.place.listing_tries = page.cursor, 0
        if page.cursor is None:
            at.place.listing = Listing.WHOLE
        else:
            await at.turn()


async def _compare(at: Slice, page: DirectoryPage) -> None:
    """Note who has no account, and who has one that its shard does not list, so that no sweep would meet it."""
    run, users = at.run, [user.id for user in page.users]
    run.odd += page.odd
    run.users = await at.record.note(SEEN, users)
    scores = (
        await pipelined(at.store, [("ZSCORE", at.keys.accounts(_shard(at, user)), user) for user in users])
        if users
        else []
    )
    unlisted = [user for user, score in zip(page.users, scores, strict=True) if score is None]
    reads = [
        (key(_shard(at, user.id), user.id)) for user in unlisted for key in (at.keys.account, at.keys.entries)
    ]
    exist = await pipelined(at.store, [("EXISTS", read) for read in reads]) if reads else []
    missing: list[str] = []
    for user, account, entries in zip(unlisted, exist[::2], exist[1::2], strict=True):
        if account or entries:
            await _look_at(at, user.id)
        elif user.verified or not at.rules.verified_only:
            missing.append(user.id)
    run.missing = await at.record.note(MISSING, missing)


def _shard(at: Slice, user: str) -> int:
    return shard_of(user, at.shards)


async def _look_at(at: Slice, user: str) -> None:
    try:
        found, _sums = await verify(at.store, at.keys, at.shards, user)
    except AccountNotFound:
        return
    if not found.valid:
        await at.found_wrong(user, found)


async def open_missing(at: Slice) -> None:
    """Open the accounts that are missing, unless that are suspiciously many."""
    run = at.run
    most = at.rules.most(max(run.accounts, run.users))
    if run.missing > most and not run.reason:
        at.stop(
            f"{run.missing} of {run.users} users have no account, and {most} are the most that are opened: is it the "
            "right store? If they are new here, run `credits reconcile --max-share 1` once"
        )
    run.report.missing = await at.record.noted(MISSING, "", LISTED_MAX)
    if not at.may_act:
        return
    await at.check_store()
    while users := await at.record.noted(MISSING, at.place.opened_after, OPENED_AT_ONCE):
        are_ours = await asyncio.gather(*(_open(at, user) for user in users))
        for user in compress(users, are_ours):
            run.opened += 1
            note(run.report.opened, user)
        at.place.opened_after = users[-1]
        await at.turn()


async def _open(at: Slice, user: str) -> bool:
    """Have it opened; return whether this run did it, now or before it was cut off."""
    metadata = {"actor": "reconciliation", "run": at.run.id}
    intent = OpenIntent.checked(user=user, amount=at.rules.signup_grant, key=OPEN_KEY, metadata=metadata)
    receipt = await at.ask(user, "opened", lambda: at.exchange.answer(intent, ANSWER_S))
    if receipt is None or receipt.status in _OPENED_BEFORE:
        return False
    if not receipt.applied:
        at.run.complain(f"{user} could not be opened: {refusal(receipt)}")
        return False
    return not receipt.replayed or await _was_opened_by(at, user, metadata)


async def _was_opened_by(at: Slice, user: str, metadata: Mapping[str, str]) -> bool:
    """Whether this run has opened it, and was cut off before it was noted; or a sign-up came first."""
    read = ("XRANGE", at.keys.entries(_shard(at, user), user), "-", "+", "COUNT", 1)
    ((first,),) = await pipelined(at.store, [read])
    return bool(json.loads(first[1][b"metadata"] or b"{}") == metadata)
