"""The chapters of the tour that verify what the others did."""

import asyncio
from contextlib import suppress
from typing import Any

from sparked_cli.tables import history_table
from sparked_cli.tour_services import Services, attempts
from sparked_cli.tour_stage import Stage, expect
from sparked_credits import AccountNotFound, Page
from sparked_credits.identity import identify
from sparked_credits.keys import Keys, shard_of
from sparked_credits.store import Store
from sparked_credits.totals import check_totals

_FORGED = 1_000_000


async def tamper_and_reconcile(stage: Stage, outside: Services) -> None:
    stage.console.rule("Somebody writes a balance of their own")
    before = await stage.chat.balance(stage.user)
    other = outside.clerk.sign_up(email="second@example.com")
    await _forge(stage)
    forged = (await stage.chat.balance(stage.user)).posted
    expect(forged == _FORGED, f"the forged balance shows as {forged}")
    stage.tell(
        f"somebody sets posted to {_FORGED} in the store; a reconciliation begins, as every six hours",
        "yellow",
    )
    run, charges = await asyncio.gather(_reconcile(outside), _go_on_charging(stage, other))
    fixed = (run["state"], run["verified"], run["fixed"], run["errors"])
    expect(fixed == ("finished", 1, 1, 0), f"the run says {run}")
    (entry,) = (await stage.chat.history(stage.user, limit=1, kind="rebuild")).entries
    wrong, right = (entry.metadata[which]["posted"] for which in ("before", "after"))
    expect((wrong, right) == (_FORGED, before.posted), f"rebuilt from {wrong} to {right}")
    stage.tell(
        f"found and fixed, {wrong} → {right}, recorded as entry {entry.seq}; {charges} charges went on",
        "green",
    )


async def _reconcile(outside: Services) -> dict[str, Any]:
    """Have a run begin over HTTP, as a scheduler outside would, and wait for its end."""
    authorization = {"Authorization": f"Bearer {outside.cron_secret}"}
    begun = await outside.http.post("/cron/reconcile", headers=authorization)
    expect(begun.status_code == 202, f"/cron/reconcile was answered {begun.status_code}")
    async for _ in attempts("the reconciliation did not end"):
        answer = await outside.http.get(begun.headers["location"], headers=authorization)
        run: dict[str, Any] = answer.json()
        if run.get("state") in ("finished", "stopped", "failed"):
            return run
    raise AssertionError("not reached")


async def _go_on_charging(stage: Stage, user: str) -> int:
    """Charge another user 90 times, from when the account is open."""
    async for _ in attempts("the second user's account was not opened"):
        with suppress(AccountNotFound):
            await stage.chat.balance(user)
            break
    for number in range(90):
        await stage.chat.charge(user, 1, action="chat_message", key=f"beside-{number}")
    return 90


async def _forge(stage: Stage) -> None:
    """Change the cached number as nobody should, past the ledger and the worker."""
    keys = Keys()
    async with Store(stage.url) as store:
        shard = shard_of(stage.user, (await identify(store, keys)).shards)
        await store.command("HSET", keys.account(shard, stage.user), "posted", _FORGED)


async def prove(stage: Stage) -> None:
    stage.console.rule("The proof")
    receipt = await stage.chat.charge(stage.user, 10, action="chat_message", key="chat-2")
    stage.show("one more chat message", receipt, available=2480)
    stage.console.print(history_table(await stage.chat.history(stage.user, limit=10)))
    amounts: list[int] = []
    page: Page | None = None
    while page is None or page.next:
        page = await stage.chat.history(stage.user, limit=1000, before=page.next if page else None)
        amounts += [entry.amount for entry in page.entries]
    posted = (await stage.chat.balance(stage.user)).posted
    expect(sum(amounts) == posted, f"the entries sum up to {sum(amounts)}, posted is {posted}")
    stage.tell(f"Σ of {len(amounts)} entries = {sum(amounts)} = posted", "bold green")
    await _prove_totals(stage)


async def _prove_totals(stage: Stage) -> None:
    keys = Keys()
    async with Store(stage.url) as store:
        shard = shard_of(stage.user, (await identify(store, keys)).shards)
        check = await check_totals(store, keys, shard)
    expect(check.valid, f"the shard's accounts have {check.posted}, by its totals {check.expected}")
    stage.tell(f"by its shard's totals, granted - charged + refunded = {check.expected} too", "bold green")
