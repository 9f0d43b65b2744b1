"""The chapters of the tour that begin outside: a user signs up, and models are trained."""

from datetime import timedelta

from rich.console import Console

from sparked_cli.tour_services import Services, attempts
from sparked_cli.tour_stage import Stage, TourFailed, expect
from sparked_credits import AccountNotFound, Admin, LimitExceeded


async def sign_up(console: Console, admin: Admin, outside: Services) -> str:
    """Have a user sign up at Clerk, and wait for the account; return the user's id."""
    console.rule("A user signs up")
    user = outside.clerk.sign_up(email="first@example.com")
    await outside.clerk.delivered()
    outside.clerk.resend(outside.clerk.messages[-1])
    await outside.clerk.delivered()
    async for _ in attempts("the sign-up did not open an account"):
        try:
            balance = await admin.balance(user)
            break
        except AccountNotFound:
            continue
    entries = (await admin.history(user)).entries
    expect(
        (balance.available, len(entries)) == (100, 1), f"{balance.available} credits, {len(entries)} entries"
    )
    console.print("  Clerk tells so by a signed webhook, twice: one account, 100 credits", style="green")
    return user


async def train(stage: Stage, outside: Services) -> None:
    stage.console.rule("Trainings are paid for when they end")
    receipt = await stage.train.hold(
        stage.user, action="training_job", quantity=5, key="job-2", expires_in=timedelta(hours=6)
    )
    stage.show("a training of 5 GPU hours, 100 credits each", receipt, available=3410)
    await outside.training.tell(
        "training.started", job_id="job-2", user_id=stage.user, model="sdxl", estimated_gpu_hours=5
    )
    await outside.training.tell("training.completed", job_id="job-2", metrics={"gpu_hours": 4.2})
    paid = await outside.training.is_told("training.paid")
    available = (await stage.train.balance(stage.user)).available
    expect((paid["paid"], available) == (420, 3490), f"{paid['paid']} paid, {available} available")
    stage.tell(
        f"a signed webhook says that it took 4.2: 420 captured, the rest is released → [bold]{available}[/bold]"
    )
    await _train_for_too_much(stage, outside)


async def _train_for_too_much(stage: Stage, outside: Services) -> None:
    training = outside.training
    await training.tell(
        "training.started", job_id="job-3", user_id=stage.user, model="sdxl", estimated_gpu_hours=30
    )
    await training.tell("training.completed", job_id="job-3", metrics={"gpu_hours": 60})
    paused = await training.is_told("training.paused")
    numbers = (paused["required"], paused["available"])
    expect(numbers == (6000, 3490), f"paused with {numbers}")
    stage.tell(
        f"the next one takes 60: {paused['message']} (needs 6000, has 3490); nothing is taken", "yellow"
    )
    try:
        await stage.train.hold(stage.user, action="training_job", quantity=1, key="job-4")
    except LimitExceeded:
        stage.tell("a new training meanwhile: refused", "yellow")
    else:
        raise TourFailed("a new training was accepted beside an unpaid one")
    training.told.clear()
    receipt = await stage.admin.grant(stage.user, 5000, reason="a purchase", key="purchase-2")
    stage.show("buys more", receipt, available=8490)
    paid = await training.is_told("training.paid")
    available = (await stage.train.balance(stage.user)).available
    expect((paid["paid"], available) == (6000, 2490), f"{paid['paid']} paid, {available} available")
    stage.tell(f"the training is charged by itself → [bold]{available}[/bold]", "green")
