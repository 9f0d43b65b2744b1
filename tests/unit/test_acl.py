"""What `credits acl` prints."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

from sparked_cli.commands import run
from sparked_credits import InvalidIntent
from sparked_workers.acl import User, acl_lines, rules
from sparked_workers.scripts import INIT, LEASE, LEDGER

PASSWORD = "correct-horse-battery"  # noqa: S105 - nobody's


@pytest.fixture(autouse=True)
def no_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    for user in User:
        monkeypatch.delenv(f"CREDITS_{user.upper()}_PASSWORD", raising=False)


def test_nobody_can_log_in_without_a_password() -> None:
    default, *lines = acl_lines("credits", {})
    assert default == "user default reset off"
    assert [line.split()[1] for line in lines] == list(User)
    assert all(line.split()[2:5] == ["reset", "resetchannels", "off"] for line in lines)
    assert "nopass" not in "".join(lines)


def test_a_password_is_printed_as_its_hash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CREDITS_APP_PASSWORD", f"{PASSWORD} {PASSWORD}-2")
    assert run(["acl"]) == 0
    out, err = capsys.readouterr()
    assert PASSWORD not in out + err
    hashed = (sha256(each.encode()).hexdigest() for each in (PASSWORD, f"{PASSWORD}-2"))
    assert "user app reset resetchannels on #{} #{} ".format(*hashed) in out
    assert "worker (CREDITS_WORKER_PASSWORD)" in err


@pytest.mark.parametrize("password", ["short", "with/a/slash/in/it", "with@an@at@sign@in@it"])
def test_a_password_that_is_weak_or_no_part_of_a_url_is_refused(password: str) -> None:
    with pytest.raises(InvalidIntent, match=r"password of jobs: must be 16 or more letters") as refused:
        acl_lines("credits", {User.JOBS: [password]})
    assert password not in str(refused.value)


@pytest.mark.parametrize("namespace", ["", "*", "a b", "credits:eu", "[a-z]", "a?"])
def test_a_namespace_that_would_be_a_pattern_is_refused(namespace: str) -> None:
    with pytest.raises(InvalidIntent, match="namespace: must be"):
        rules(User.APP, namespace)


def test_a_file_is_written_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "users.acl"
    monkeypatch.setenv("CREDITS_APP_PASSWORD", PASSWORD)
    assert run(["acl", "--output", str(file)]) == 0
    written = file.read_text()
    assert [line.split()[:2] for line in written.splitlines()] == [
        ["user", "default"],
        *(["user", u] for u in User),
    ]
    assert run(["acl", "--output", str(tmp_path / "absent" / "users.acl")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    monkeypatch.setenv("CREDITS_APP_PASSWORD", "short")
    assert run(["acl", "--output", str(file)]) == 2
    assert file.read_text() == written
    assert list(tmp_path.iterdir()) == [file]


def test_a_worker_may_do_what_its_functions_and_scripts_do() -> None:
    may = {word[1:] for word in rules(User.WORKER, "credits") if word[0] == "+"}
    text = f"{LEDGER.text}{LEASE.text}{INIT.text}"
    done = {command.lower() for command in re.findall(r"\bcall\('([A-Z]+)'", text)}
    assert len(done) > 15
    assert done <= may


def test_every_user_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text()
    assert re.findall(
        r"^\| `(\w+)` \|", page.partition("## Users of the store")[2].partition("## Secrets")[0], re.MULTILINE
    ) == list(User)
