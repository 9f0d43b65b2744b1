"""The chapters of the tour in which credits are spent."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from itertools import count

from sparked_cli.processes import Process, start_worker
from sparked_cli.tables import lots_table
from sparked_cli.tour_stage import LEASE_MS, Stage, TourFailed, expect
from sparked_credits import Credits, HoldSettled, InsufficientCredits, Receipt, RefundExceedsCharge


async def spend(stage: Stage) -> None:
    stage.console.rule("One balance, several apps")
    receipt = await stage.chat.charge(stage.user, 10, action="chat_message", key="chat-1")
    stage.show("sends a chat message", receipt, available=90)
    receipt = await stage.canvas.charge(stage.user, 50, action="canvas_generation", key="canvas-1")
    stage.show("generates a canvas", receipt, available=40)
    receipt = await stage.canvas.charge(stage.user, 50, action="canvas_generation", key="canvas-1")
    expect(receipt.replayed, "the retry was not answered as a replay")
    stage.show("the same request, retried with its key", receipt, available=40)
    try:
        await stage.canvas.charge(stage.user, 50, action="canvas_generation", key="canvas-2")
    except InsufficientCredits as error:
        numbers = (error.required, error.available)
        expect(numbers == (50, 40), f"refused with {error.required}/{error.available}")
        stage.tell(f"a canvas too many: refused, needs {error.required}, has {error.available}", "yellow")
    else:
        raise TourFailed("a charge of 50 was taken from 40")


async def rush(stage: Stage) -> None:
    stage.console.rule("200 charges of 1 at once, against 40 credits")
    outcomes = await asyncio.gather(
        *(
            stage.apps[n % 4].charge(stage.user, 1, action="chat_message", key=f"rush-{n}")
            for n in range(200)
        ),
        return_exceptions=True,
    )
    taken = sum(isinstance(outcome, Receipt) for outcome in outcomes)
    refused = sum(isinstance(outcome, InsufficientCredits) for outcome in outcomes)
    left = (await stage.chat.balance(stage.user)).available
    expect((taken, refused, left) == (40, 160, 0), f"{taken} succeeded, {refused} were refused, {left} left")
    stage.tell(f"{taken} succeeded, {refused} were refused, {left} credits left", "green")


async def crash(stage: Stage, worker: Process) -> Process:
    """Kill `worker` under load; return the one that took over."""
    stage.console.rule("The worker is killed in the middle of traffic")
    await stage.admin.grant(stage.user, 5000, reason="a purchase", key="purchase-1")
    numbers = count()
    done: list[Receipt] = []

    async def shop(app: Credits) -> None:
        while (number := next(numbers)) < 1000:
            done.append(await app.charge(stage.user, 1, action="chat_message", key=f"crash-{number}"))

    traffic = asyncio.gather(*(shop(app) for app in stage.apps for _ in range(8)))
    while len(done) < 300:
        await asyncio.sleep(0)
        expect(not traffic.done(), "the traffic ended before the crash")
    worker.send_signal(signal.SIGKILL)
    stage.tell(f"SIGKILL after {len(done)} answers; 32 callers go on waiting", "yellow")
    replacement = await start_worker(stage.url, stage.data / "witness.json", lease_ms=LEASE_MS)
    await traffic
    left = (await stage.chat.balance(stage.user)).available
    expect(len(done) == 1000, f"{len(done)} of 1000 callers were answered")
    expect(left == 4000, f"{left} credits left of 5000 after 1000 charges of 1")
    expect(len({receipt.seq for receipt in done}) == 1000, "two charges were given one entry")
    stage.tell("a new worker took over: 1000 of 1000 answered, nothing lost, nothing twice", "green")
    return replacement


async def hold(stage: Stage) -> None:
    stage.console.rule("Work whose cost is not known yet, and work that fails")
    receipt = await stage.studio.hold(stage.user, action="video_generation", quantity=30, key="video-1")
    stage.show("a video of 30 seconds at most, 10 credits a second", receipt, available=3700)
    cost = stage.studio.prices.cost("video_generation", 12.5)
    receipt = await stage.studio.capture(stage.user, hold="video-1", key="video-1-done", amount=cost)
    expect(receipt.amount == 125, f"12.5 seconds cost {receipt.amount}")
    stage.show("it has become 12.5 seconds", receipt, available=3875)
    try:
        await stage.studio.void(stage.user, hold="video-1", key="video-1-void")
    except HoldSettled as error:
        expect(error.how == "captured", f"the hold is {error.how}")
        stage.tell(f"voiding it now: refused, it is {error.how}", "yellow")
    else:
        raise TourFailed("a captured hold was voided")
    receipt = await stage.train.hold(
        stage.user, action="training_job", quantity=5, key="job-1", expires_in=timedelta(hours=6)
    )
    stage.show("a training job of 5 GPU hours", receipt, available=3375)
    receipt = await stage.train.void(stage.user, hold="job-1", key="job-1-failed")
    stage.show("the job fails", receipt, available=3875)
    receipt = await stage.canvas.refund(stage.user, of="canvas-1", key="canvas-1-back")
    stage.show("the canvas was blank, and is refunded", receipt, available=3925)
    try:
        await stage.canvas.refund(stage.user, of="canvas-1", key="canvas-1-back-again")
    except RefundExceedsCharge as error:
        expect(error.refundable == 0, f"{error.refundable} are refundable")
        stage.tell("refunding it again: refused, nothing is left of the charge", "yellow")
    else:
        raise TourFailed("a charge was refunded twice")


async def spend_promotional(stage: Stage) -> None:
    stage.console.rule("Given credits expire, and are spent first")
    receipt = await stage.admin.grant(
        stage.user,
        60,
        reason="spring offer",
        key="offer-1",
        priority="promotional",
        expires_at=datetime.now(UTC) + timedelta(days=30),
    )
    stage.show("60 credits for 30 days", receipt, available=3985)
    stage.console.print(lots_table(await stage.canvas.lots(stage.user)))
    receipt = await stage.canvas.charge(
        stage.user, action="canvas_generation", price="canvas_generation_complex", key="canvas-3"
    )
    stage.show("a complex canvas", receipt, available=3910)
    parts = [(lot.available, lot.priority.value) for lot in receipt.lots]
    expect(parts == [(60, "promotional"), (15, "paid")], f"75 credits were drawn from {parts}")
    stage.tell("paid by " + " and ".join(f"{amount} {priority}" for amount, priority in parts) + " credits")
