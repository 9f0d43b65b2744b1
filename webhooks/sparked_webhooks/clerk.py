"""Clerk's events, `{data, object, type, timestamp, instance_id}`: users that came, changed or went.

Only `data.id` is relied upon, and of the e-mail addresses no more is kept than whether the primary one is verified.
"""

from collections.abc import Mapping
from typing import Any

from sparked_credits.errors import InvalidIntent
from sparked_credits.intents import checked_name
from sparked_webhooks.signatures import NotAuthentic
from sparked_webhooks.sources import Unusable, Wanted, type_of

CREATED, UPDATED, DELETED = "user.created", "user.updated", "user.deleted"


def read(body: Mapping[str, Any], *, instance_id: str | None, verified_only: bool) -> Wanted | None:
    """What an event of Clerk's asks for; None for events that change nothing here.

    Args:
        instance_id: The only one whose events count; None: any that is signed with our secret.
        verified_only: Whether accounts wait for a verified address, so that later changes of a user matter.

    Raises:
        NotAuthentic: It is another instance's, such as the one for development.
        Unusable: It does not say of which user it tells.
    """
    if instance_id is not None and body.get("instance_id") != instance_id:
        raise NotAuthentic("another instance of Clerk")
    event_type = type_of(body)
    if event_type not in {CREATED, DELETED} and not (event_type == UPDATED and verified_only):
        return None
    user = body.get("data")
    if not isinstance(user, dict):
        raise Unusable("data: must be an object", event_type)
    try:
        name = checked_name("user", user.get("id"))
    except InvalidIntent:
        raise Unusable("data.id: must be a name that an account can have", event_type) from None
    if event_type == DELETED:
        return Wanted(event_type, {"user": name})
    return Wanted(event_type, {"user": name, "verified": _is_verified(user)})


def _is_verified(user: Mapping[str, Any]) -> bool:
    """Whether Clerk says, without any doubt, that the primary address is the user's."""
    primary, addresses = user.get("primary_email_address_id"), user.get("email_addresses")
    if not isinstance(primary, str) or not isinstance(addresses, list):
        return False
    found = [each for each in addresses if isinstance(each, dict) and each.get("id") == primary]
    verifications = [each.get("verification") for each in found]
    return bool(found) and all(isinstance(v, dict) and v.get("status") == "verified" for v in verifications)
