"""Takes events in from Clerk and the training service, and requests for reconciliations: verified, durable, then 2xx.

Start reading at `app.py` (the routes), then `intake.py` (the way of an event).
"""

from sparked_webhooks.app import create_app
from sparked_webhooks.signatures import UnusableSecret

__all__ = ["UnusableSecret", "create_app"]
