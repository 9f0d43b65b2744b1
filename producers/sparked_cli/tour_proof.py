"""The chapters of the tour that verify what the others did."""

from sparked_cli.tables import history_table
from sparked_cli.tour_stage import USER, Stage, expect
from sparked_credits import Page, Verification
from sparked_credits.identity import identify
from sparked_credits.keys import Keys, shard_of
from sparked_credits.store import Store
from sparked_credits.totals import check_totals

_FORGED = 1_000_000


async def tamper_and_repair(stage: Stage) -> None:
    stage.console.rule("Somebody writes a balance of their own")
    before = await _verify(stage, valid=True)
    await _forge(stage)
    forged = (await stage.chat.balance(USER)).posted
    expect(forged == _FORGED, f"the forged balance shows as {forged}")
    stage.tell(f"somebody sets posted to {_FORGED} in the store", "yellow")
    await _verify(stage, valid=False)
    await stage.admin.rebuild(USER, key="rebuild-1", reason="verify found it wrong")
    (entry,) = (await stage.chat.history(USER, limit=1)).entries
    wrong, right = (entry.metadata[which]["posted"] for which in ("before", "after"))
    expect((wrong, right) == (_FORGED, before.cached.posted), f"rebuilt from {wrong} to {right}")
    stage.tell(f"rebuild: before {wrong}, after {right}, recorded as entry {entry.seq}", "green")
    await _verify(stage, valid=True)


async def _forge(stage: Stage) -> None:
    """Change the cached number as nobody should, past the ledger and the worker."""
    keys = Keys()
    async with Store(stage.url) as store:
        shard = shard_of(USER, (await identify(store, keys)).shards)
        await store.command("HSET", keys.account(shard, USER), "posted", _FORGED)


async def _verify(stage: Stage, *, valid: bool) -> Verification:
    found = await stage.admin.verify(USER)
    expect(found.valid == valid, f"verify says {found}")
    if valid:
        stage.tell(f"verify: valid, {found.entries} entries read, posted {found.calculated.posted}", "green")
    for problem in found.problems:
        stage.tell(f"verify: {problem}", "red")
    return found


async def prove(stage: Stage) -> None:
    stage.console.rule("The proof")
    receipt = await stage.chat.charge(USER, 10, action="chat_message", key="chat-2")
    stage.show("one more chat message", receipt, available=3900)
    stage.console.print(history_table(await stage.chat.history(USER, limit=10)))
    amounts: list[int] = []
    page: Page | None = None
    while page is None or page.next:
        page = await stage.chat.history(USER, limit=1000, before=page.next if page else None)
        amounts += [entry.amount for entry in page.entries]
    posted = (await stage.chat.balance(USER)).posted
    expect(sum(amounts) == posted, f"the entries sum up to {sum(amounts)}, posted is {posted}")
    stage.tell(f"Σ of {len(amounts)} entries = {sum(amounts)} = posted", "bold green")
    await _prove_totals(stage)


async def _prove_totals(stage: Stage) -> None:
    keys = Keys()
    async with Store(stage.url) as store:
        shard = shard_of(USER, (await identify(store, keys)).shards)
        check = await check_totals(store, keys, shard)
    expect(check.valid, f"the shard's accounts have {check.posted}, by its totals {check.expected}")
    stage.tell(f"by its shard's totals, granted - charged + refunded = {check.expected} too", "bold green")
