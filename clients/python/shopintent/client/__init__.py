"""The Python client of shopintent: a channel, deadlines, retries and typed errors.

from shopintent.client import ShopIntentClient, events

with ShopIntentClient("localhost:50051", insecure=True) as client:
    client.track_events("visitor-1", [events.view_product("product-1")])
    answer = client.predict_intent("visitor-1")
    with client.stream_intents("visitor-1") as visit:  # Both at once, in one call for a visit.
        answer = visit.send([events.view_product("product-1")]).intent
"""

from shopintent.client import events, money
from shopintent.client.aio import AsyncShopIntentClient
from shopintent.client.aio_stream import AsyncIntentStream
from shopintent.client.channel import tls_credentials
from shopintent.client.errors import (
    DeadlineExceededError,
    FieldViolation,
    InvalidRequestError,
    PermissionDeniedError,
    ProductNotFoundError,
    ReleaseNotFoundError,
    ReleaseNotReadyError,
    ShopIntentError,
    UnavailableError,
)
from shopintent.client.sync import ShopIntentClient
from shopintent.client.sync_stream import IntentStream
from shopintent.v1.user_event_pb2 import Visitor

__all__ = [
    "AsyncIntentStream",
    "AsyncShopIntentClient",
    "DeadlineExceededError",
    "FieldViolation",
    "IntentStream",
    "InvalidRequestError",
    "PermissionDeniedError",
    "ProductNotFoundError",
    "ReleaseNotFoundError",
    "ReleaseNotReadyError",
    "ShopIntentClient",
    "ShopIntentError",
    "UnavailableError",
    "Visitor",
    "events",
    "money",
    "tls_credentials",
]
