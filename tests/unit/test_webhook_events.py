"""What is made of authentic bodies: strict JSON, and of each sender's events the few fields that are needed."""

import json
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparked_webhooks import clerk, training
from sparked_webhooks.bodies import NotJson, parse
from sparked_webhooks.signatures import NotAuthentic
from sparked_webhooks.sources import Unusable, Wanted

# Bodies

MALFORMED = {
    "empty": b"",
    "white space": b" \n",
    "not UTF-8": b'{"a":"\xff"}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "cut off": b'{"a":',
    "two values": b"{}{}",
    "NaN": b'{"a":NaN}',
    "an infinity": b'{"a":-Infinity}',
    "a name twice": b'{"a":1,"a":2}',
    "a name twice, deep": b'{"a":[{"b":1,"\\u0062":2}]}',
    "an integer of 5 000 digits": b'{"a":' + b"9" * 5_000 + b"}",
    "an exponent beyond all": b'{"a":1e' + b"9" * 30 + b"}",
    "100 000 lists in each other": b"[" * 100_000 + b"]" * 100_000,
    "100 000 objects in each other": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a comment": b'{"a":1} // one',
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_body_is_not_json(case: str) -> None:
    with pytest.raises(NotJson):
        parse(MALFORMED[case])


def test_fractions_keep_all_their_digits() -> None:
    assert parse(b'{"a":0.1000000000000000055511151231257827}')["a"] == Decimal(
        "0.1000000000000000055511151231257827"
    )


@given(st.binary(max_size=200))
def test_whatever_the_body_nothing_else_is_raised(body: bytes) -> None:
    with suppress(NotJson):
        parse(body)


# Clerk

CLERK = partial(clerk.read, instance_id=None, verified_only=False)
ADDRESS = {"id": "idn_1", "email_address": "somebody@example.com", "verification": {"status": "verified"}}
USER = {"id": "user_1", "primary_email_address_id": "idn_1", "email_addresses": [ADDRESS]}


def told(event_type: str, data: object = USER, **more: object) -> dict[str, Any]:
    return {"type": event_type, "data": data, "object": "event", "instance_id": "ins_1", **more}


def test_a_new_user_is_known_by_id_and_by_whether_the_address_is_verified() -> None:
    assert CLERK(told("user.created")) == Wanted("user.created", {"user": "user_1", "verified": True})


def test_of_a_deleted_user_only_the_id_is_needed() -> None:
    gone = {"id": "user_1", "object": "user", "deleted": True}
    assert CLERK(told("user.deleted", gone)) == Wanted("user.deleted", {"user": "user_1"})


def test_a_changed_user_matters_only_while_accounts_wait_for_verified_addresses() -> None:
    assert CLERK(told("user.updated")) is None
    found = clerk.read(told("user.updated"), instance_id=None, verified_only=True)
    assert found == Wanted("user.updated", {"user": "user_1", "verified": True})


@pytest.mark.parametrize("event_type", ["session.created", "user.createdAtOnce", "", "USER.CREATED"])
def test_other_types_are_not_wanted_whatever_is_in_them(event_type: str) -> None:
    assert CLERK({"type": event_type}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"email_addresses": []},
        {"email_addresses": None},
        {"email_addresses": "idn_1"},
        {"email_addresses": [None, "idn_1"]},
        {"primary_email_address_id": None},
        {"primary_email_address_id": "idn_2"},
        {"primary_email_address_id": None, "email_addresses": [{**ADDRESS, "id": None}]},
        {"email_addresses": [{**ADDRESS, "verification": None}]},
        {"email_addresses": [{**ADDRESS, "verification": {"status": "unverified"}}]},
        {"email_addresses": [{**ADDRESS, "verification": {"status": True}}]},
        {"email_addresses": [{**ADDRESS, "id": "idn_3"}]},
        {"email_addresses": [ADDRESS, {**ADDRESS, "verification": {"status": "expired"}}]},
    ],
)
def test_an_address_counts_as_verified_only_where_clerk_says_so_without_doubt(change: dict[str, Any]) -> None:
    found = CLERK(told("user.created", {**USER, **change}))
    assert found is not None
    assert found.fields == {"user": "user_1", "verified": False}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": None},
        {"type": ["user.created"]},
        told("user.created", None),
        told("user.created", []),
        told("user.deleted", {}),
        *(
            told("user.created", {"id": odd})
            for odd in (None, 1, "", "a b", "a:b", "{a}", "\ud800", "\x00", "x" * 129)
        ),
    ],
)
def test_an_event_that_names_no_user_is_unusable(body: dict[str, Any]) -> None:
    with pytest.raises(Unusable, match="must be"):
        CLERK(body)


def test_why_it_is_unusable_is_said_without_what_was_sent() -> None:
    with pytest.raises(Unusable) as refused:
        CLERK(told("user.created", {"id": "somebody @example.com"}))
    assert refused.value.reason == "data.id: must be a name that an account can have"
    assert refused.value.event_type == "user.created"


@pytest.mark.parametrize("instance_id", ["ins_2", None, 1])
def test_another_instances_events_are_not_authentic(instance_id: object) -> None:
    with pytest.raises(NotAuthentic):
        clerk.read(told("user.created", instance_id=instance_id), instance_id="ins_1", verified_only=False)
    assert clerk.read(told("user.created"), instance_id="ins_1", verified_only=False) is not None


# Training


def read(body: str) -> Wanted | None:
    return training.read(parse(body.encode()))


STARTED = {"job_id": "job-1", "user_id": "user_1", "model": "llama 3", "estimated_gpu_hours": 2}


def test_a_start_tells_user_model_and_estimate() -> None:
    found = training.read({"type": "training.started", "data": STARTED})
    assert found == Wanted(
        "training.started", {"job": "job-1", "user": "user_1", "model": "llama 3", "hours": "2"}
    )


def test_a_start_need_not_tell_the_model() -> None:
    for silent in ({}, {"model": None}, {"model": ""}):
        data = {**{name: value for name, value in STARTED.items() if name != "model"}, **silent}
        found = training.read({"type": "training.started", "data": data})
        assert found is not None
        assert found.fields["model"] == ""


@pytest.mark.parametrize(
    "body",
    [
        '{"type":"training.completed","data":{"job_id":"job-1","metrics":{"gpu_hours":1.5,"loss":0.1}}}',
        '{"type":"training.completed","job_id":"job-1","metrics":{"gpu_hours":1.5}}',
        '{"jobId":"job-1","status":"completed","metrics":{"gpu_hours":1.5}}',
    ],
)
def test_a_completion_is_understood_in_each_form(body: str) -> None:
    assert read(body) == Wanted("training.completed", {"job": "job-1", "hours": "1.5"})


def test_a_completion_may_tell_the_user() -> None:
    body = {
        "type": "training.completed",
        "job_id": "job-1",
        "user_id": "user_1",
        "metrics": {"gpu_hours": "7"},
    }
    assert training.read(body) == Wanted(
        "training.completed", {"job": "job-1", "hours": "7", "user": "user_1"}
    )
    guide = {"jobId": "job-1", "userId": "user_1", "status": "completed", "metrics": {"gpu_hours": 7}}
    assert training.read(guide) == training.read(body)


@pytest.mark.parametrize(
    "metrics", [{}, {"metrics": None}, {"metrics": {}}, {"metrics": {"gpu_hours": None}}]
)
def test_a_failure_need_not_tell_hours(metrics: dict[str, Any]) -> None:
    found = training.read({"type": "training.failed", "data": {"job_id": "job-1", **metrics}})
    assert found == Wanted("training.failed", {"job": "job-1"})
    spent = training.read({"type": "training.failed", "job_id": "job-1", "metrics": {"gpu_hours": 3}})
    assert spent == Wanted("training.failed", {"job": "job-1", "hours": "3"})


@pytest.mark.parametrize("body", ['{"type":"training.resumed"}', '{"status":"running","jobId":"job-1"}'])
def test_other_trainings_are_not_wanted(body: str) -> None:
    assert read(body) is None


@pytest.mark.parametrize(
    ("hours", "read_as"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0.1", "0.1"),
        ("2.675", "2.675"),
        ("1e-7", "0.0000001"),
        ("1E3", "1000"),
        ("1000000", "1000000"),
        ("4.033333333333333", "4.033333333333333"),
        ('"12.50"', "12.5"),
        ('"0"', "0"),
    ],
)
def test_hours_are_exact(hours: str, read_as: str) -> None:
    found = read(f'{{"jobId":"job-1","status":"completed","metrics":{{"gpu_hours":{hours}}}}}')
    assert found is not None
    assert found.fields["hours"] == read_as


@pytest.mark.parametrize(
    "hours",
    [
        *(
            "-1",
            "-0.001",
            "1000000.1",
            "1e7",
            "1e-300",
            "1e300",
            "9" * 4000,
            "true",
            "null",
            "[]",
            "{}",
            '""',
        ),
        *('"NaN"', '"inf"', '"1_0"', '" 1"', '"\uff11"', '"1,5"', '"two"', "0.12345678901234567890123456789"),
    ],
)
def test_what_is_no_sensible_number_of_hours_is_unusable(hours: str) -> None:
    with pytest.raises(Unusable, match=r"^metrics.gpu_hours: must be a number from 0 to 1000000"):
        read(f'{{"jobId":"job-1","status":"completed","metrics":{{"gpu_hours":{hours}}}}}')


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"job_id": None}, "job_id: must be 1 to 200"),
        ({"job_id": 7}, "job_id: must be 1 to 200"),
        ({"job_id": ""}, "job_id: must be 1 to 200"),
        ({"job_id": "a b"}, "job_id: must be 1 to 200"),
        ({"job_id": "x" * 201}, "job_id: must be 1 to 200"),
        ({"job_id": "\ud800"}, "job_id: must be 1 to 200"),
        ({"user_id": None}, "user_id: must be 1 to 128"),
        ({"user_id": "a:b"}, "user_id: must be 1 to 128"),
        ({"model": "\n"}, "model: must be at most 255"),
        ({"model": "\ud800"}, "model: must be at most 255"),
        ({"model": ["llama"]}, "model: must be at most 255"),
        ({"estimated_gpu_hours": -1}, "estimated_gpu_hours: must be a number from 0"),
    ],
)
def test_a_start_with_an_odd_field_is_unusable(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Unusable, match=complaint) as refused:
        training.read({"type": "training.started", "data": {**STARTED, **change}})
    assert refused.value.event_type == "training.started"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": 1},
        {"status": 1},
        {"type": "training.completed", "data": None},
        {"type": "training.completed", "data": []},
        {"type": "training.completed", "data": {"job_id": "job-1"}},
        {"type": "training.completed", "data": {"job_id": "job-1", "metrics": [1]}},
        {"type": "training.completed", "data": {"metrics": {"gpu_hours": 1}}},
        # Beside `data` nothing counts: a body must not say two things.
        {"type": "training.completed", "data": {}, "job_id": "job-1", "metrics": {"gpu_hours": 1}},
    ],
)
def test_a_training_without_what_is_needed_is_unusable(body: dict[str, Any]) -> None:
    with pytest.raises(Unusable, match="must be"):
        training.read(body)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    [
        "type",
        "data",
        "status",
        "jobId",
        "job_id",
        "user_id",
        "metrics",
        "id",
        "email_addresses",
        "instance_id",
    ]
)
TYPES = st.sampled_from(
    ["user.created", "user.deleted", "training.started", "training.completed", "training.failed"]
)


@given(st.dictionaries(NAMES, VALUES | TYPES | st.dictionaries(NAMES, VALUES)))
def test_whatever_an_event_holds_it_is_wanted_in_plain_json_or_not_at_all(body: dict[str, Any]) -> None:
    for read_one in (CLERK, training.read):
        try:
            wanted = read_one(body)
        except Unusable:
            continue
        if wanted is not None:
            json.dumps(wanted.fields, ensure_ascii=False).encode()
