"""Work that is done once per key, however often it is asked for."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

_KEPT = 1000


class InProgress(Exception):
    """The same work is under way for an earlier request. Ask again later, with the same key."""


class Once:
    """The answers to the last thousand pieces of work, by user and key.

    The ledger takes a key's credits once for ever. This is for what they pay for: a request that is sent again, as
    after a lost answer, gets the first answer, and no second piece of work.
    """

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str], Mapping[str, Any]] = OrderedDict()
        self._under_way: set[tuple[str, str]] = set()

    async def answer(
        self, user: str, key: str, work: Callable[[], Awaitable[Mapping[str, Any]]]
    ) -> Mapping[str, Any]:
        """What `work` returned the first time, or returns now. One that fails may be tried again.

        Raises:
            InProgress: It has begun, and is not done yet.
        """
        name = user, key
        if name in self._answers:
            return self._answers[name]
        if name in self._under_way:
            raise InProgress
        self._under_way.add(name)
        try:
            answer = await work()
        finally:
            self._under_way.discard(name)
        self._answers[name] = answer
        if len(self._answers) > _KEPT:
            self._answers.popitem(last=False)
        return answer
