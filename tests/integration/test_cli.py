"""Each command of `credits`, on one embedded store and worker: what it prints for machines, and its exit code."""

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sparked_cli.commands import run
from sparked_credits.inbox import Event
from sparked_credits.keys import Keys, shard_of
from sparked_credits.store import Command, Store

SHARDS = 16
CREDITS = [sys.executable, "-m", "sparked_cli"]

_names = count(1)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`credits up`, for all tests of this file; at the end all that they did is verified."""
    data = tmp_path_factory.mktemp("up")
    with subprocess.Popen(
        [*CREDITS, "up", "--json", "--data", str(data)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CREDITS_GATEWAY_PORT": "0"},
    ) as server:
        try:
            assert server.stdout
            found = json.loads(server.stdout.readline())["url"]
            yield found
            settings = {**os.environ, "CREDITS_URL": found}
            subprocess.run([*CREDITS, "verify", "--all"], env=settings, check=True, timeout=60)
        finally:
            server.terminate()


@dataclass
class Shell:
    """Calls commands as `main` does. A process for each would be the same, and take half a second."""

    url: str
    capsys: pytest.CaptureFixture[str]

    def text(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """What it prints on standard output and standard error."""
        found = run(arguments)
        printed = self.capsys.readouterr()
        assert found == code, printed
        return printed.out, printed.err

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What it prints with --json: one object on one line, and nothing else."""
        out, err = self.text(*arguments, "--json", code=code)
        assert out.count("\n") == 1
        assert err == ""
        return json.loads(out)

    def refused(self, error: str, *arguments: str, code: int = 1) -> Any:
        """The refusal, in JSON; for people it is one sentence on standard error."""
        found = self.json(*arguments, code=code)
        assert found["error"] == error, found
        assert found["message"]
        return found

    def user(self, initial: int = 100) -> str:
        """Someone new, with an account."""
        user = f"user_{next(_names)}"
        assert self.json("open", user, "--initial", str(initial))["posted"] == initial
        return user

    def store(self, *command: str | bytes | int) -> Any:
        """One command, past all that keeps a ledger right."""

        async def ask() -> Any:
            async with Store(self.url) as store:
                return await store.command(*command)

        return asyncio.run(ask())


@pytest.fixture
def shell(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("CREDITS_URL", url)
    monkeypatch.setenv("COLUMNS", "300")
    return Shell(url, capsys)


# Spending


def test_charge_by_amount_and_by_price_book(shell: Shell) -> None:
    user = shell.user(500)
    assert shell.json("charge", user, "10", "--key", "c1")["posted"] == 490
    receipt = shell.json("charge", user, "--price", "canvas_generation_simple", "--key", "c2")
    assert (receipt["amount"], receipt["action"]) == (50, "canvas_generation_simple")
    video = ("charge", user, "--action", "video_generation", "--quantity", "12.5", "--key", "c3")
    assert shell.json(*video)["amount"] == 125
    assert shell.json(*video)["replayed"] is True
    (entry, *_) = shell.json("history", user)["entries"]
    assert entry["price"] == {
        "name": "video_generation",
        "quantity": "12.5",
        "unit_price": "10",
        "version": entry["price"]["version"],
    }
    assert shell.refused("InsufficientCredits", "charge", user, "316", "--key", "c4")["required"] == 316


def test_charge_by_a_price_book_of_ones_own(shell: Shell, tmp_path: Path) -> None:
    book = tmp_path / "prices.toml"
    book.write_text('version = "mine"\n[prices.chat_message]\nfixed = 3\n')
    user = shell.user()
    receipt = shell.json("charge", user, "--action", "chat_message", "--book", str(book), "--key", "c1")
    assert receipt["amount"] == 3
    book.write_text('version = "mine"\n[prices.chat_message]\nfixed = -3\n')
    charge = ("charge", user, "--action", "chat_message", "--book", str(book), "--key", "c2")
    assert "line 3" in shell.refused("InvalidPriceBook", *charge, code=2)["message"]


def test_refund_in_parts(shell: Shell) -> None:
    user = shell.user()
    shell.json("charge", user, "60", "--key", "c1", "--app", "canvas")
    part = ("refund", user, "20", "--of", "c1", "--origin", "canvas", "--key", "r1")
    assert shell.json(*part)["posted"] == 60
    rest = ("refund", user, "--of", "c1", "--origin", "canvas", "--key", "r2")
    assert shell.json(*rest)["amount"] == 40
    more = ("refund", user, "1", "--of", "c1", "--app", "canvas", "--key", "r3")
    assert shell.refused("RefundExceedsCharge", *more)["details"]["refundable"] == 0
    shell.refused("ChargeNotFound", "refund", user, "--of", "unknown", "--key", "r4")


def test_hold_capture_and_void(shell: Shell) -> None:
    user = shell.user()
    assert shell.json("hold", user, "50", "--key", "h1", "--expires-in", "6h")["held"] == 50
    held = shell.json("holds", user)["holds"]
    assert [(hold["key"], hold["expires_at"] - hold["at"]) for hold in held] == [("h1", 6 * 3_600_000)]
    captured = shell.json("capture", user, "20", "--hold", "h1", "--key", "k1")
    assert (captured["amount"], captured["posted"], captured["held"]) == (20, 80, 0)
    again = shell.refused("HoldSettled", "void", user, "--hold", "h1", "--key", "v1")
    assert again["details"]["how"] == "captured"
    shell.json("hold", user, "--price", "chat_message", "--key", "h2")
    shell.refused("CaptureExceedsHold", "capture", user, "11", "--hold", "h2", "--key", "k2")
    excess = ("capture", user, "11", "--hold", "h2", "--allow-excess", "--key", "k3")
    assert shell.json(*excess)["posted"] == 69
    shell.json("hold", user, "5", "--key", "h3")
    assert shell.json("void", user, "--hold", "h3", "--key", "v2")["amount"] == 5
    assert shell.json("holds", user)["holds"] == []
    shell.refused("HoldNotFound", "capture", user, "--hold", "h9", "--key", "k4")


def test_quote_says_what_it_costs_and_who_pays(shell: Shell) -> None:
    user = shell.user()
    found = shell.json("quote", user, "video_generation", "2.5")
    paying = [(lot["name"], lot["available"]) for lot in found["lots"]]
    assert (found["amount"], found["affordable"], paying) == (25, True, [("paid", 25)])
    assert shell.json("quote", user, "video_generation", "12.5")["affordable"] is False
    assert "video_generation" in shell.refused("InvalidIntent", "quote", user, "vide", code=2)["message"]
    assert shell.json("balance", user)["posted"] == 100


def test_price_needs_no_store(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDITS_URL")
    assert shell.json("price", "video_generation", "12.5")["amount"] == 125
    assert shell.json("price")["prices"]["chat_message"] == {"fixed": 10}
    assert "chat_message" in shell.text("price")[0]
    for quantity in ("-1", "NaN", "inf", "0", "x"):
        shell.refused("InvalidIntent", "price", "video_generation", quantity, code=2)
    shell.refused("InvalidPriceBook", "price", "chat_message", "--book", "nowhere.toml", code=2)


# Managing accounts


def test_grants_make_lots_that_are_listed_as_they_are_spent(shell: Shell) -> None:
    user = shell.user()
    shell.json("grant", user, "30", "--key", "g1", "--reason", "spring", "--priority", "promotional")
    expiring = ("grant", user, "20", "--key", "g2", "--reason", "trial", "--expires", "30d")
    shell.json(*expiring)
    assert shell.json(*expiring)["replayed"] is True
    found = shell.json("lots", user)["lots"]
    assert [(lot["priority"], lot["available"]) for lot in found] == [
        ("promotional", 30),
        ("paid", 20),
        ("paid", 100),
    ]
    midnight = datetime.fromtimestamp(found[1]["expires_at"] / 1000, UTC)
    assert timedelta(days=30) <= midnight - datetime.now(UTC) <= timedelta(days=31)
    assert (midnight.hour, midnight.minute) == (0, 0)
    past = ("grant", user, "1", "--key", "g3", "--reason", "late", "--expires", "2020-01-01")
    assert "in the future" in shell.refused("InvalidIntent", *past, code=2)["message"]
    typo = ("grant", user, "1", "--key", "g4", "--reason", "x", "--expires", "30")
    shell.refused("InvalidIntent", *typo, code=2)


def test_adjust_takes_negative_amounts(shell: Shell) -> None:
    user = shell.user()
    assert shell.json("adjust", user, "-30", "--reason", "typo", "--key", "a1")["posted"] == 70
    assert shell.json("adjust", user, "5", "--reason", "gift", "--key", "a2")["posted"] == 75
    shell.refused("InsufficientCredits", "adjust", user, "-76", "--reason", "x", "--key", "a3")
    forced = ("adjust", user, "-76", "--reason", "x", "--key", "a4", "--force")
    assert shell.json(*forced)["posted"] == -1
    shell.refused("InvalidIntent", "adjust", user, "0", "--reason", "x", "--key", "a5", code=2)
    shell.refused("InvalidIntent", "adjust", user, "-1.5", "--reason", "x", "--key", "a6", code=2)


def test_post_charge_goes_down_to_the_debt(shell: Shell) -> None:
    user = shell.user(10)
    shell.json("debt", user, "20")
    charge = ("post-charge", user, "--action", "canvas_generation_simple", "--key")
    shell.refused("InsufficientCredits", *charge, "p1")
    assert shell.json("post-charge", user, "25", "--key", "p2", "--reason", "job 7")["posted"] == -15
    shell.refused("InvalidIntent", "debt", user, "-1", code=2)


def test_a_frozen_account_refuses_charges_and_a_closed_one_everything(shell: Shell) -> None:
    user = shell.user()
    shell.json("freeze", user, "--reason", "fraud")
    shell.refused("AccountFrozen", "charge", user, "1", "--key", "c1")
    shell.json("unfreeze", user)
    shell.json("charge", user, "1", "--key", "c2")
    shell.json("close", user, "--reason", "left")
    shell.refused("AccountClosed", "grant", user, "1", "--key", "g1", "--reason", "x")
    shell.refused("AccountNotFound", "freeze", "nobody")


def test_a_limit_refuses_what_is_beyond_and_says_when_it_resets(shell: Shell) -> None:
    user = shell.user()
    shell.json("limit", user, "15", "--per", "day", "--action", "chat_message")
    shell.json("charge", user, "--action", "chat_message", "--key", "c1")
    refusal = shell.refused("LimitExceeded", "charge", user, "--action", "chat_message", "--key", "c2")
    assert (refusal["details"]["limit"], refusal["details"]["spent"]) == (15, 10)
    _, said = shell.text("charge", user, "--action", "chat_message", "--key", "c2", code=1)
    assert "fits from" in said
    shell.json("limit", user, "none", "--per", "day", "--action", "chat_message")
    shell.json("charge", user, "--action", "chat_message", "--key", "c3")
    shell.refused("InvalidIntent", "limit", user, "some", code=2)
    shell.refused("UsageError", "limit", user, "5", "--per", "year", code=2)


def test_thresholds(shell: Shell) -> None:
    user = shell.user()
    shell.json("thresholds", user, "10", "50")
    assert shell.store("HGET", Keys().settings(shard_of(user, SHARDS), user), "thresholds") == b"10 50"
    shell.json("thresholds", user, "none")
    assert shell.store("HGET", Keys().settings(shard_of(user, SHARDS), user), "thresholds") is None
    shell.refused("InvalidIntent", "thresholds", user, "ten", code=2)
    shell.refused("UsageError", "thresholds", user, code=2)


# Looking


def test_history_is_filtered_and_paged_both_ways(shell: Shell) -> None:
    user = shell.user()
    for number in range(4):
        shell.json("charge", user, "1", "--key", f"c{number}", "--action", "chat" if number % 2 else "canvas")
    assert [entry["seq"] for entry in shell.json("history", user)["entries"]] == [5, 4, 3, 2, 1]
    first = shell.json("history", user, "--oldest-first", "--limit", "2")
    assert [entry["seq"] for entry in first["entries"]] == [1, 2]
    second = shell.json("history", user, "--oldest-first", "--after", first["next"])
    assert [entry["seq"] for entry in second["entries"]] == [3, 4, 5]
    for options, seqs in (
        (("--kind", "open"), [1]),
        (("--action", "canvas"), [4, 2]),
        (("--app", "system"), [1]),
        (("--since", "1h"), [5, 4, 3, 2, 1]),
        (("--until", "2020-01-01"), []),
    ):
        found = shell.json("history", user, *options)
        assert [entry["seq"] for entry in found["entries"]] == seqs, options
    printed, _ = shell.text("history", user, "--limit", "2")
    assert "more: --before" in printed
    shell.refused("InvalidIntent", "history", user, "--since", "yesterday", code=2)
    shell.refused("InvalidIntent", "history", user, "--kind", "nonsense", code=2)
    shell.refused("AccountNotFound", "history", "nobody")


def test_balance_of_a_past_moment(shell: Shell) -> None:
    user = shell.user()
    now = datetime.now(UTC)
    found = shell.json("balance", user, "--at", (now + timedelta(days=1)).isoformat())
    assert found == {"user": user, "posted": 100, "held": 0, "available": 100}
    shell.refused("AccountNotFound", "balance", user, "--at", "1d")
    shell.refused("InvalidIntent", "balance", user, "--at", "noon", code=2)


def test_a_statement_adds_up_in_all_formats(shell: Shell) -> None:
    user = shell.user()
    shell.json("charge", user, "30", "--key", "c1")
    found = shell.json("statement", user, "--since", "1d")
    assert (found["opening"], found["closing"], found["sums"]) == (0, 70, {"open": 100, "charge": -30})
    out, _ = shell.text("statement", user, "--since", "1d", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["seq"], row["amount"], row["posted"]) for row in rows] == [
        ("1", "100", "100"),
        ("2", "-30", "70"),
    ]
    printed, _ = shell.text("statement", user, "--since", "1d")
    assert "opening" in printed
    assert "closing" in printed
    shell.refused(
        "InvalidIntent", "statement", user, "--since", "2026-02-02", "--until", "2026-02-01", code=2
    )
    shell.refused("UsageError", "statement", user, code=2)


def test_a_report_closes(shell: Shell) -> None:
    user = shell.user()
    shell.json("charge", user, "30", "--key", "c1", "--app", "reported", "--action", "chat_message")
    found = shell.json("report", "--by", "app,action")
    mine = next(line for line in found["lines"] if line["app"] == "reported")
    assert (mine["action"], mine["charged"]) == ("chat_message", 30)
    total = found["total"]
    granted = total["granted_paid"] + total["granted_promotional"]
    spent = total["charged"] - total["refunded"] + total["expired"]
    assert total["opening"] + granted - spent + total["adjusted"] == total["closing"]
    out, _ = shell.text("report", "--by", "day", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert rows[-1]["row"] == "total"
    assert "= closing" in shell.text("report", "--since", "1d")[0]
    shell.refused("InvalidIntent", "report", "--by", "week", code=2)


# Operating


def test_verify_finds_what_is_wrong_and_rebuild_repairs_it(shell: Shell) -> None:
    user = shell.user()
    found = shell.json("verify", user)
    assert (found["valid"], found["cached"]["posted"], found["calculated"]["posted"]) == (True, 100, 100)
    assert shell.json("verify", "--all")["valid"] is True
    shell.store("HINCRBY", Keys().account(shard_of(user, SHARDS), user), "posted", 5)
    found = shell.json("verify", user, "--full", code=1)
    assert (found["valid"], found["cached"]["posted"], found["calculated"]["posted"]) == (False, 105, 100)
    everyone = shell.json("verify", "--all", code=1)
    assert [each["user"] for each in everyone["invalid"]] == [user]
    printed, _ = shell.text("verify", "--all", code=1)
    assert user in printed
    rebuilt = shell.json("rebuild", user, "--reason", "a test")
    assert rebuilt["posted"] == 100
    assert shell.json("verify", user)["valid"] is True
    assert shell.json("verify", "--all")["valid"] is True
    shell.refused("AccountNotFound", "verify", "nobody")
    shell.refused("UsageError", "verify", code=2)
    shell.refused("UsageError", "verify", user, "--all", code=2)


def bury(shell: Shell, user: str, intent: bytes, stream: str = "intents") -> str:
    """Leave a dead letter as a worker does; return its name."""
    shard = shard_of(user, SHARDS)
    fields = ("stream", stream, "id", "1-1", "reason", "a test", "intent", intent)
    letter: bytes = shell.store("XADD", Keys().dead(shard), "*", *fields)
    return f"{shard}:{letter.decode()}"


def charge_intent(shell: Shell, user: str, key: str) -> bytes:
    fields = {"v": 1, "kind": "charge", "user": user, "origin": "chat", "key": key, "amount": "10"}
    epoch = shell.json("init")["epoch"]
    answer = {"client": "0" * 16, "ticket": "1", "deadline": "1"}
    return json.dumps({**fields, "epoch": epoch, "action": "chat", "metadata": "", **answer}).encode()


def wait_for_charge(shell: Shell, user: str, key: str) -> None:
    for _ in range(200):
        if any(entry["key"] == key for entry in shell.json("history", user)["entries"]):
            return
    pytest.fail("the requeued intent was not applied")


def test_a_dead_letter_is_listed_shown_and_dropped(shell: Shell) -> None:
    user = shell.user()
    queue: Command = ("XADD", Keys().intents(shard_of(user, SHARDS)), "*", "intent", b"\x1b[2Jnonsense")
    shell.store(*queue)
    found: list[Any] = []
    for _ in range(200):
        letters = shell.json("dead", "list")["letters"]
        if found := [each for each in letters if "nonsense" in each.get("raw", "")]:
            break
    assert found[0]["reason"] == "not a JSON object"
    name = found[0]["letter"]
    assert name in shell.text("dead", "list")[0]
    assert shell.json("dead", "show", name)["stream"] == "intents"
    printed, _ = shell.text("dead", "show", name)
    assert "\\x1b[2Jnonsense" in printed
    shell.refused("LetterUnreadable", "dead", "requeue", name)
    assert shell.json("dead", "drop", name)["dropped"] is True
    shell.refused("LetterNotFound", "dead", "show", name)
    shell.refused("InvalidIntent", "dead", "show", "7", code=2)
    shell.refused("InvalidIntent", "dead", "show", "99:1-1", code=2)


def test_a_requeued_letter_is_applied_once(shell: Shell) -> None:
    user = shell.user()
    name = bury(shell, user, charge_intent(shell, user, "late"))
    assert shell.json("dead", "requeue", name)["key"] == "late"
    wait_for_charge(shell, user, "late")
    assert shell.json("balance", user)["posted"] == 90
    shell.refused("LetterNotFound", "dead", "requeue", name)


def test_a_letter_whose_key_has_an_outcome_needs_a_new_key(shell: Shell) -> None:
    user = shell.user()
    shell.json("charge", user, "10", "--action", "chat", "--app", "chat", "--key", "used")
    name = bury(shell, user, charge_intent(shell, user, "used"))
    assert "applied" in shell.refused("KeyHasOutcome", "dead", "requeue", name)["message"]
    shell.refused("InvalidIntent", "dead", "requeue", name, "--key", "a b", code=2)
    assert shell.json("dead", "requeue", name, "--key", "fresh")["key"] == "fresh"
    wait_for_charge(shell, user, "fresh")
    assert shell.json("balance", user)["posted"] == 80


def test_a_letter_that_was_cut_cannot_be_requeued(shell: Shell) -> None:
    user = shell.user()
    name = bury(shell, user, b'{"metadata": "' + b"x" * (16_384 - 14))
    assert "16384 bytes" in shell.refused("LetterUnreadable", "dead", "requeue", name)["message"]
    shell.json("dead", "drop", name)


# How a command ends


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["price", "chat_message"], 0), (["balance", "nobody"], 1), (["balance", "a:b"], 2), (["nonsense"], 2)],
)
def test_a_process_ends_with_the_exit_code_and_no_traceback(
    url: str, arguments: list[str], code: int
) -> None:
    settings = {**os.environ, "CREDITS_URL": url}
    done = subprocess.run(
        [*CREDITS, *arguments], env=settings, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert (done.stdout if code == 0 else done.stderr).count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["charge", "ada", "--key", "k"],
        ["charge", "ada", "10", "--price", "chat_message", "--key", "k"],
        ["charge", "ada", "--action", "video_generation", "--key", "k"],
        ["charge", "ada", "--action", "video_generation", "--quantity", "-1", "--key", "k"],
        ["charge", "ada", "1", "--key", "k", "--timeout", "0"],
        ["hold", "ada", "1", "--key", "k", "--expires-in", "soon"],
        ["hold", "ada", "1", "--key", "k", "--expires-in", "31d"],
        ["hold", "ada", "-1", "--key", "k"],
        ["refund", "ada", "0x1", "--of", "c", "--key", "k"],
        ["refund", "ada", "-1", "--of", "c", "--key", "k"],
        ["capture", "ada", "1.0", "--hold", "h", "--key", "k"],
        ["void", "ada", "--hold", "h h", "--key", "k"],
        ["void", "ada", "--hold", "h", "--key", "k", "--metadata", "{"],
        ["grant", "ada", "1", "--key", "k", "--reason", ""],
        ["thresholds", "ada", "0"],
        ["limit", "ada", "-1"],
        ["dead", "list", "--limit", "0"],
        ["history", "ada", "--limit", "0"],
        ["history", "ada", "--after", "1-1"],
        ["statement", "ada", "--since", "1d", "--until", "later"],
    ],
)
def test_a_wrong_argument_is_one_sentence_and_exit_code_two(shell: Shell, arguments: list[str]) -> None:
    message = shell.refused("InvalidIntent", *arguments, code=2)["message"]
    out, err = shell.text(*arguments, code=2)
    assert out == ""
    assert err == f"InvalidIntent: {message}\n"


def test_a_misspelt_option_is_named(shell: Shell) -> None:
    said = shell.refused("UsageError", "charge", "ada", "10", "--aciton", "x", "--key", "k", code=2)
    assert "--aciton" in said["message"]
    assert "--action" in said["message"]


def test_an_event_that_is_a_dead_letter_is_shown_and_put_into_the_inbox_again(shell: Shell) -> None:
    event = Event("clerk", "msg_1", "user.created", {"user": "from-a-letter", "verified": True}, "0" * 64)
    ref = shell.store("XADD", Keys().inbox_dead(), "*", *event.as_stored(), "reason", "the jobs were too old")
    name = f"inbox:{ref.decode()}"
    assert name in shell.text("dead", "list")[0]
    (listed,) = [each for each in shell.json("dead", "list")["events"] if each["letter"] == name]
    assert (listed["reason"], listed["type"]) == ("the jobs were too old", "user.created")
    assert '"user": "from-a-letter"' in shell.text("dead", "show", name)[0]
    shell.refused("InvalidIntent", "dead", "requeue", name, "--key", "k", code=2)
    assert shell.json("dead", "requeue", name)["requeued"] is True
    shell.refused("LetterNotFound", "dead", "drop", name)
    shell.refused("InvalidIntent", "dead", "show", "inbox:1", code=2)
    assert any(run(["balance", "from-a-letter"]) == 0 for _ in range(300))
