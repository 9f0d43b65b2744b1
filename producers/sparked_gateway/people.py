"""What people read about themselves: whose account it is comes from their session, never from the request."""

from sparked_credits.intents import SYSTEM
from sparked_gateway import answered, asked
from sparked_gateway.operations import Answer, Call, Operation, Who
from sparked_gateway.problems import Kind
from sparked_gateway.reads import history_of

_AMONG_ADMINS = ("actor", "granted_by", "reason")
"""Of what an admin did: their name is not the user's business, and what they noted was not written for the user."""


async def balance(call: Call, query: asked.NoQuery) -> Answer:
    user = _me(call)
    return Answer({"user": user, **(await call.system.reads.balance(user)).as_dict()})


async def history(call: Call, query: asked.HistoryQuery) -> Answer:
    answer = await history_of(call, _me(call), query)
    for entry in answer.body["entries"]:
        if entry["origin"] == SYSTEM:
            entry["metadata"] = {
                name: value for name, value in entry["metadata"].items() if name not in _AMONG_ADMINS
            }
    return answer


def _me(call: Call) -> str:
    assert call.caller.user is not None, "only people get here"
    return call.caller.user


OPERATIONS = (
    Operation(
        "GET",
        "/me/balance",
        Who.PERSON,
        "What I have",
        balance,
        answered.BalanceAnswer,
        asked.NoQuery,
        (Kind.ACCOUNT_NOT_FOUND,),
    ),
    Operation(
        "GET",
        "/me/history",
        Who.PERSON,
        "What happened to my credits, newest first",
        history,
        answered.HistoryAnswer,
        asked.HistoryQuery,
        (Kind.ACCOUNT_NOT_FOUND,),
    ),
)
