"""The OpenAPI document, and whether the gateway does what it says, whatever it is asked."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from pydantic import BaseModel
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sparked_credits import Entry, Hold, Receipt, Statement
from sparked_credits.background import Background
from sparked_gateway import answered
from sparked_gateway.app import OPERATIONS
from sparked_gateway.callers import Scope
from sparked_gateway.openapi import document
from tests.integration.gateway_callers import USER, caller
from tests.integration.listening import staged
from tests.integration.test_webhook_outages import own_system

EXAMPLES = 5
"""Of each operation, asked as it should be; and as many asked as it should not."""

# Those that look at one answer alone.
CHECKED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


class Whole(NamedTuple):
    """A gateway with all behind it, and who may do everything there."""

    url: str
    key: str
    person: str


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Whole]:
    async with own_system(folder) as (_, system):
        await system.start_worker()
        async with (
            system.admin() as admin,
            staged(system) as stage,
            await caller(system, stage, *Scope) as all_,
        ):
            await admin.open_account(USER, initial=10**12)
            await admin.open_account("user_1", initial=100)
            token = str(all_.headers["authorization"]).removeprefix("Bearer ")
            yield Whole(stage.url, token, stage.token("user_1"))
        await system.stop()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """In a thread of its own, for schemathesis asks as a client that is not async."""
    with Background(running(tmp_path_factory.mktemp("whole"))) as background:
        yield background.value


def test_every_operation_and_every_answer_is_described() -> None:
    told = document(OPERATIONS)
    assert told["openapi"] == "3.1.0"
    described = [(method, path) for path, methods in told["paths"].items() for method in methods]
    assert described == [(each.method.lower(), each.path) for each in OPERATIONS]
    names = [each["operationId"] for methods in told["paths"].values() for each in methods.values()]
    assert len(set(names)) == len(names)
    charge = told["paths"]["/v1/charges"]["post"]
    assert charge["security"] == [{"apiKey": ["charge"]}]
    assert sorted(charge["responses"]) == [
        *("200", "202", "400", "401", "402", "403", "404", "408", "409", "413", "422", "429", "500", "503")
    ]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (answered.ReceiptAnswer, Receipt),
        (answered.EntryAnswer, Entry),
        (answered.HoldAnswer, Hold),
        (answered.StatementAnswer, Statement),
    ],
)
def test_answers_are_described_with_all_their_fields(answer: type[BaseModel], told: type[Any]) -> None:
    computed = {"available", "required", "refunded", "seq", "at", "posted", "held"}
    assert set(told.__dataclass_fields__) <= set(answer.model_fields)
    assert set(answer.model_fields) <= set(told.__dataclass_fields__) | computed


@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_whatever_is_asked_is_answered_as_the_document_says(whole: Whole, mode: GenerationMode) -> None:
    told = httpx.get(f"{whole.url}/openapi.json", timeout=20).json()
    for methods in told["paths"].values():
        for operation in methods.values():
            # Who may ask is not for chance to say.
            del operation["security"]
    schema = schemathesis.openapi.from_dict(told)
    asked = set()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        @settings(
            max_examples=EXAMPLES,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(mode))
        def ask(case: Case[Any]) -> None:
            asked.add((case.method, case.path))
            if mode is GenerationMode.POSITIVE:
                _aim(case)
            token = whole.person if case.path.startswith("/me/") else whole.key
            answer = case.call(whole.url, headers={"authorization": f"Bearer {token}"}, timeout=20)
            case.validate_response(answer, checks=CHECKED)

        if mode is GenerationMode.POSITIVE:
            ask()
        else:
            # Of some, nothing can be wrong.
            with suppress(Unsatisfiable):
                ask()
    assert len(asked) > len(OPERATIONS) - (8 if mode is GenerationMode.NEGATIVE else 1)


def _aim(case: Case[Any]) -> None:
    """Have every other request be about an account that there is, and none give up soon."""
    for asked in (case.body, case.path_parameters):
        if isinstance(asked, dict):
            user, timeout = asked.get("user"), asked.get("timeout")
            if isinstance(user, str) and len(user) % 2:
                asked["user"] = USER
            if isinstance(timeout, float | int):
                asked["timeout"] = max(5, timeout)
