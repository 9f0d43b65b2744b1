"""What can be known to be wrong with the settings of the jobs before anything is connected."""

from sparked_clerk.asking import check_access
from sparked_clerk.errors import DirectoryRefused
from sparked_credits.errors import InvalidIntent, StoreRefused
from sparked_credits.pricing import PriceBook
from sparked_workers.outgoing.endpoints import check_endpoints
from sparked_workers.queues import queue_settings
from sparked_workers.settings import JobsSettings, check_app


def check_jobs_settings(settings: JobsSettings) -> None:
    """Nothing, if the jobs can do with `settings`, as far as these alone tell.

    Raises:
        StoreRefused: The queue's URL, or Clerk's API or key, can't be used.
        InvalidIntent: The price book, its price of trainings, their app, or an endpoint; the message says which.
    """
    queue_settings((settings.jobs_url or settings.url).get_secret_value())
    prices = PriceBook.load(settings.prices) if settings.prices else PriceBook.default()
    try:
        prices.cost(settings.training_price, 1)
    except InvalidIntent as error:
        raise InvalidIntent(f"CREDITS_TRAINING_PRICE: {error}") from None
    check_app("CREDITS_TRAINING_APP", settings.training_app)
    check_endpoints(settings.event_endpoints, private_addresses=settings.event_private_addresses)
    if settings.clerk_secret_key is not None:
        try:
            check_access(settings.clerk_api_url, settings.clerk_secret_key.get_secret_value())
        except DirectoryRefused as error:
            raise StoreRefused(f"settings: {error}") from None
