"""What needs no store of charges through arq: arguments, settings, and what is read from a queue."""

import json
from typing import Any

import pytest
from arq.jobs import DeserializationError, deserialize_job_raw, serialize_result
from pydantic import SecretStr

from sparked_credits import InvalidIntent, PriceBook, StoreRefused
from sparked_credits.arq_queue import dump_job
from sparked_workers import charges
from sparked_workers.charges import ChargesSettings, charges_worker
from sparked_workers.queues import load_job, queue_settings


@pytest.mark.parametrize(
    ("arguments", "named", "message"),
    [
        (("ada", 10), {"action": "chat"}, "charge: missing a required argument: 'key'"),
        ((), {"action": "chat", "key": "k"}, "charge: missing a required argument: 'user'"),
        (("ada", 10, "chat"), {"key": "k"}, "charge: too many positional arguments"),
        (
            ("ada", 10),
            {"action": "chat", "key": "k", "app": "canvas"},
            "charge: got an unexpected keyword argument 'app'",
        ),
        (("ada", -1), {"action": "chat", "key": "k"}, "amount: "),
        (("ada", 1.5), {"action": "chat", "key": "k"}, "amount: "),
        (("a b", 1), {"action": "chat", "key": "k"}, "user: "),
        ((["ada"], 1), {"action": "chat", "key": "k"}, "user: "),
        (("ada", 1), {"action": "chat", "key": ""}, "key: "),
        (("ada",), {"action": "nothing", "key": "k"}, "price: must be a name in the price book"),
        (("ada",), {"action": "video_generation", "key": "k", "quantity": [2]}, "quantity: "),
        (("ada", 1), {"action": "chat", "key": "k", "metadata": {"x": "y" * 5000}}, "metadata: "),
        (("ada", 1), {"action": "chat", "key": "k", "metadata": ["x"]}, "metadata: "),
    ],
)
async def test_wrong_arguments_are_a_result_that_says_what_is_wrong(
    arguments: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    ctx = {"asking": charges._Asking(None, PriceBook.default())}  # type: ignore[arg-type]
    told = await charges.charge(ctx, *arguments, **named)
    assert (told["status"], told["error"]) == ("malformed", "InvalidIntent")
    assert told["message"].startswith(message)


CLUSTER = SecretStr("redis+cluster://127.0.0.1:7000")


async def test_the_ledger_may_be_on_a_cluster_and_the_queue_may_not() -> None:
    with pytest.raises(StoreRefused, match="CREDITS_JOBS_URL name a plain server"):
        charges_worker(ChargesSettings(url=CLUSTER, app="chat"))
    charges_worker(ChargesSettings(url=CLUSTER, app="chat", jobs_url=SecretStr("redis://127.0.0.1/1")))


async def test_no_app_is_called_system() -> None:
    with pytest.raises(InvalidIntent, match="CREDITS_APP"):
        charges_worker(ChargesSettings(url=SecretStr("redis://127.0.0.1"), app="system"))


def test_settings_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDITS_APP", raising=False)
    monkeypatch.setenv("CREDITS_URL", "redis://127.0.0.1")
    with pytest.raises(StoreRefused, match="CREDITS_APP: is not set"):
        _ = charges.WorkerSettings


def test_a_password_reaches_the_queue_as_it_is() -> None:
    found = queue_settings("valkeys://app:p%40ss%2Fword@queue.example:6380/2")
    assert (found.host, found.port, found.database, found.ssl) == ("queue.example", 6380, 2, True)
    assert (found.username, found.password) == ("app", "p@ss/word")
    assert queue_settings("unix:///run/valkey.sock?db=3").unix_socket_path == "/run/valkey.sock"


JOB: dict[str, Any] = {"t": None, "f": "charge", "a": [], "k": {}, "et": 1_700_000_000_000}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 100_000,
        *(
            json.dumps(JOB | {name: value}).encode()
            for name, value in (
                ("f", ["charge"]),
                ("f", None),
                ("a", {"user": "ada"}),
                ("k", []),
                ("t", "5"),
                ("t", 10**6),
                ("t", True),
                ("et", "now"),
                ("et", 10**30),
                ("et", -1),
                ("et", 1.5),
                ("a", [float("nan")]),
                ("k", {"quantity": float("inf")}),
            )
        ),
    ],
)
def test_what_is_no_job_ends_as_an_error_of_that_job(body: bytes) -> None:
    with pytest.raises(DeserializationError):
        deserialize_job_raw(body, deserializer=load_job)


def test_an_exception_is_told_in_words() -> None:
    written = serialize_result(
        "charge", (), {}, 1, 0, False, TimeoutError(), 0, 0, "ref", "queue", "id", serializer=dump_job
    )
    assert written
    assert json.loads(written)["r"] == {
        "status": "failed",
        "error": "TimeoutError",
        "message": "TimeoutError",
    }
