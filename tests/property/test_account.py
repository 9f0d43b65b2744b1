"""The model's own arithmetic, in amounts that can be checked by eye."""

from datetime import UTC, datetime

from sparked_credits.intents import ChargeIntent, GrantIntent, OpenIntent, RefundIntent
from sparked_credits.lots import Priority
from tests.property.account import Account, Lots, portion
from tests.property.limits import Limit
from tests.property.model import Model


def ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 1000  # type: ignore[arg-type, misc]


def test_a_charge_draws_promotional_then_soonest_then_oldest() -> None:
    lots: Lots = {"paid": (5, 0), "paid-900-3": (5, 0), "promotional": (5, 0), "promotional-900-4": (5, 0)}
    account = Account("ada", lots={**lots, "promotional-900-2": (5, 0), "paid-100-9": (5, 0)})
    names = ["promotional-900-2", "promotional-900-4", "promotional", "paid-100-9", "paid-900-3"]
    assert account.draw(27) == [(name, 5) for name in names] + [("paid", 2)]


def test_a_partly_refunded_charge_leaves_the_lots_as_a_smaller_charge_would() -> None:
    def lots_after(amount: int, refunds: list[int]) -> Lots:
        model = Model(now=0)
        model.ask(OpenIntent(user="ada", key="open", amount=10), "system")
        for number, size in enumerate([7, 4]):
            grant = GrantIntent(
                user="ada", key=f"g{number}", amount=size, priority=Priority.PROMOTIONAL, expires_at_ms=1000
            )
            model.ask(grant, "system")
        model.ask(ChargeIntent(user="ada", key="c", amount=amount, action="x"), "chat")
        for number, part in enumerate(refunds):
            refund = RefundIntent(user="ada", key=f"r{number}", amount=part, of="c", of_origin="chat")
            assert model.ask(refund, "chat").status == "applied"
        return model.accounts["ada"].lots

    assert lots_after(18, [3, 6]) == lots_after(9, [])
    assert lots_after(18, [1] * 13) == lots_after(5, [])


def test_what_comes_back_pays_debt_first() -> None:
    account = Account("ada", lots={"paid": (-10, 0)})
    changes: Lots = {}
    account.give_back(changes, [("promotional-900-2", 7), ("promotional", 7), ("paid", 1)])
    assert changes == {"paid": (10, 0), "promotional": (5, 0)}


def test_a_portion_starts_anywhere() -> None:
    parts = [("a", 3), ("b", 4), ("c", 5)]
    assert portion(parts, 0, 12) == parts
    assert portion(parts, 2, 6) == [("a", 1), ("b", 4), ("c", 1)]
    assert portion(parts, 7, 1) == [("c", 1)]
    assert portion(parts, 3, 0) == []


def test_limits_reset_at_midnight_at_the_first_and_when_enough_hours_have_left() -> None:
    noon = ms(2040, 2, 29, 12, 7)
    day, month, rolling = (Limit(window, "*", 100) for window in ("day", "month", "rolling_day"))
    for limit in (day, month, rolling):
        limit.count(ms(2040, 2, 29, 3), 50)
        limit.count(noon, 40)
        assert limit.refusal(10, noon) is None
        refusal = limit.refusal(11, noon)
        assert refusal is not None
        assert (refusal["spent"], refusal["limit"]) == (90, 100)
    assert [limit.refusal(60, noon)["resets_at"] for limit in (day, month, rolling)] == [  # type: ignore[index]
        ms(2040, 3, 1),
        ms(2040, 3, 1),
        ms(2040, 3, 1, 3),
    ]
    assert rolling.refusal(61, noon)["resets_at"] == ms(2040, 3, 1, 12)  # type: ignore[index]
    assert rolling.refusal(101, noon)["resets_at"] == 0  # type: ignore[index]
