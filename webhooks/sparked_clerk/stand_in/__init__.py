"""A small Clerk on this machine, for tests and demos: users, sessions and webhooks, all in memory.

    async with ClerkStandIn() as clerk:
        clerk.send_to("http://127.0.0.1:8000/webhooks/clerk", secret)
        user = clerk.sign_up(email="someone@example.com")
        token = clerk.session_token(user)

For browsers it has pages to sign up and in, and a script that pages use as they use Clerk's own. Pages are given its
`publishable_key`, and it is told of them: `clerk.allow_origin("http://127.0.0.1:3000")`. They must be at 127.0.0.1.

It speaks as much of Clerk's API as credits need, in Clerk's words, so that the official SDK understands it. Anything
that can go wrong with the real one can be made to go wrong here.
"""

from sparked_clerk.stand_in.clerk import ClerkStandIn
from sparked_clerk.stand_in.faults import Fault, How
from sparked_clerk.stand_in.users import Quirk
from sparked_clerk.stand_in.webhooks import RETRIES_S, Attempt, Message

__all__ = ["RETRIES_S", "Attempt", "ClerkStandIn", "Fault", "How", "Message", "Quirk"]
