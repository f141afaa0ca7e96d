"""Every RPC once: how its request is made and how long it may take. Both clients build on it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask

from shopintent.v1.catalog_service_pb2 import (
    BatchUpdateProductsRequest,
    DeleteProductRequest,
    GetProductRequest,
)
from shopintent.v1.event_service_pb2 import TrackEventsRequest
from shopintent.v1.product_pb2 import PRODUCT_VIEW_UNSPECIFIED, Product, ProductView
from shopintent.v1.recommendation_service_pb2 import (
    PredictIntentRequest,
    ProductFilter,
    RecommendRequest,
    StreamIntentsRequest,
)
from shopintent.v1.release_service_pb2 import (
    CanaryReleaseRequest,
    DeleteReleaseRequest,
    GetReleaseRequest,
    ListReleasesRequest,
    PromoteReleaseRequest,
    RollbackReleaseRequest,
    ShadowReleaseRequest,
    VerifyReleaseRequest,
)
from shopintent.v1.user_event_pb2 import UserEvent, Visitor
from shopintent.v1.visitor_service_pb2 import DeleteVisitorRequest, VerifyDeletionRequest

Request = TypeVar("Request", covariant=True)

TIMEOUT_S = 1.0
STREAM_TIMEOUT_S = 10.0
"""A server that restarts, or another, is found within."""
BATCH_TIMEOUT_S = 60.0
"""A thousand new texts are embedded within one call."""
RELEASE_TIMEOUT_S = 300.0
"""A release is loaded into Triton and tried before it takes traffic."""
DELETION_TIMEOUT_S = 600.0
"""Files of the event log are searched whole, and written again."""


@dataclass(frozen=True)
class Call(Generic[Request]):
    """A request and its deadline."""

    request: Request
    timeout_s: float


def predict_intent(
    visitor: str | Visitor = "",
    recent_events: Iterable[UserEvent] = (),
    *,
    consistency_token: str = "",
    timeout_s: float = TIMEOUT_S,
) -> Call[PredictIntentRequest]:
    """Predicts the next action of a visitor, and a purchase in this visit and each horizon.

    Of the answer's optional fields those are set that the release predicts: ask `HasField`.
    `visitor` is a visitor id or a Visitor; `recent_events` have not been tracked and will not be.
    With the `consistency_token` of `track_events` the answer is sure to know what was tracked.
    """
    request = PredictIntentRequest(
        visitor=to_visitor(visitor),
        recent_events=recent_events,
        consistency_token=consistency_token,
    )
    return Call(request, timeout_s)


def recommend(
    visitor: str | Visitor = "",
    recent_events: Iterable[UserEvent] = (),
    *,
    placement: str = "",
    page_size: int = 0,
    product_filter: ProductFilter | None = None,
    view: ProductView = PRODUCT_VIEW_UNSPECIFIED,
    consistency_token: str = "",
    timeout_s: float = TIMEOUT_S,
) -> Call[RecommendRequest]:
    """Recommends products, best first; fields left out get the defaults of RecommendRequest."""
    request = RecommendRequest(
        visitor=to_visitor(visitor),
        recent_events=recent_events,
        placement=placement,
        page_size=page_size,
        filter=product_filter,
        view=view,
        consistency_token=consistency_token,
    )
    return Call(request, timeout_s)


def stream_intents(
    visitor: str | Visitor,
    events: Iterable[UserEvent] = (),
    *,
    consistency_token: str = "",
    timeout_s: float = STREAM_TIMEOUT_S,
) -> Call[StreamIntentsRequest]:
    """Returns one request of a stream; events without an `event_id` get a random one."""
    request = StreamIntentsRequest(
        visitor=to_visitor(visitor), events=events, consistency_token=consistency_token
    )
    _identify(request.events)
    return Call(request, timeout_s)


def track_events(
    visitor: str | Visitor, events: Iterable[UserEvent], *, timeout_s: float = TIMEOUT_S
) -> Call[TrackEventsRequest]:
    """Records events of a visitor, all or none.

    Events without an `event_id` get a random one, so that a retry is never counted twice.
    """
    request = TrackEventsRequest(visitor=to_visitor(visitor), events=events)
    _identify(request.events)
    return Call(request, timeout_s)


def get_product(product_id: str, *, timeout_s: float = TIMEOUT_S) -> Call[GetProductRequest]:
    """Returns one product; raises ProductNotFoundError when the catalog does not have it."""
    return Call(GetProductRequest(product_id=product_id), timeout_s)


def batch_update_products(
    products: Iterable[Product],
    *,
    update_mask: Sequence[str] = (),
    timeout_s: float = BATCH_TIMEOUT_S,
) -> Call[BatchUpdateProductsRequest]:
    """Creates or updates products, all or none; without `update_mask` every field is written."""
    mask = FieldMask(paths=update_mask) if update_mask else None
    return Call(BatchUpdateProductsRequest(products=products, update_mask=mask), timeout_s)


def delete_product(product_id: str, *, timeout_s: float = TIMEOUT_S) -> Call[DeleteProductRequest]:
    """Deletes a product; one that does not exist is no error."""
    return Call(DeleteProductRequest(product_id=product_id), timeout_s)


def list_releases(
    *, page_size: int = 0, page_token: str = "", timeout_s: float = BATCH_TIMEOUT_S
) -> Call[ListReleasesRequest]:
    """Returns a page of releases, newest first, and how traffic is routed.

    This and every call about releases needs the client's `release_token`, and raises
    PermissionDeniedError otherwise.
    """
    return Call(ListReleasesRequest(page_size=page_size, page_token=page_token), timeout_s)


def get_release(release_id: str, *, timeout_s: float = BATCH_TIMEOUT_S) -> Call[GetReleaseRequest]:
    """Returns one release; raises ReleaseNotFoundError when there is none."""
    return Call(GetReleaseRequest(release_id=release_id), timeout_s)


def verify_release(
    release_id: str, *, timeout_s: float = RELEASE_TIMEOUT_S
) -> Call[VerifyReleaseRequest]:
    """Has a release prove that it may take traffic; raises ReleaseNotReadyError, saying why not."""
    return Call(VerifyReleaseRequest(release_id=release_id), timeout_s)


def shadow_release(
    release_id: str, percent: float, *, why: str, timeout_s: float = RELEASE_TIMEOUT_S
) -> Call[ShadowReleaseRequest]:
    """Has a release asked what a share of the visitors ask; it answers nobody."""
    request = ShadowReleaseRequest(release_id=release_id, percent=percent, why=why)
    return Call(request, timeout_s)


def canary_release(
    release_id: str,
    percent: float,
    *,
    why: str,
    forced: bool = False,
    timeout_s: float = RELEASE_TIMEOUT_S,
) -> Call[CanaryReleaseRequest]:
    """Has a release answer a share of the visitors; raises ReleaseNotReadyError.

    `forced` goes on although its metrics are worse than those of the serving release.
    """
    request = CanaryReleaseRequest(release_id=release_id, percent=percent, why=why, forced=forced)
    return Call(request, timeout_s)


def promote_release(
    release_id: str, *, why: str, forced: bool = False, timeout_s: float = RELEASE_TIMEOUT_S
) -> Call[PromoteReleaseRequest]:
    """Has a release answer everybody; raises ReleaseNotReadyError.

    `forced` goes on although its metrics are worse than those of the serving release.
    """
    return Call(PromoteReleaseRequest(release_id=release_id, why=why, forced=forced), timeout_s)


def rollback_release(
    release_id: str, *, why: str, timeout_s: float = BATCH_TIMEOUT_S
) -> Call[RollbackReleaseRequest]:
    """Takes a release out of traffic; when it served, the release before answers again."""
    return Call(RollbackReleaseRequest(release_id=release_id, why=why), timeout_s)


def delete_release(
    release_id: str, *, why: str, timeout_s: float = RELEASE_TIMEOUT_S
) -> Call[DeleteReleaseRequest]:
    """Deletes a release that plays no part in the routing."""
    return Call(DeleteReleaseRequest(release_id=release_id, why=why), timeout_s)


def delete_visitor(
    visitor: str | Visitor, *, timeout_s: float = DELETION_TIMEOUT_S
) -> Call[DeleteVisitorRequest]:
    """Deletes a visitor everywhere and returns the receipt.

    This and `verify_deletion` need the client's `visitor_token`, and raise PermissionDeniedError
    otherwise.
    """
    return Call(DeleteVisitorRequest(visitor=to_visitor(visitor)), timeout_s)


def verify_deletion(
    visitor: str | Visitor, *, timeout_s: float = DELETION_TIMEOUT_S
) -> Call[VerifyDeletionRequest]:
    """Searches every store for a visitor; name every id that the visitor had."""
    return Call(VerifyDeletionRequest(visitor=to_visitor(visitor)), timeout_s)


def to_visitor(visitor: str | Visitor) -> Visitor:
    """Returns the Visitor; a text is a visitor id."""
    return Visitor(visitor_id=visitor) if isinstance(visitor, str) else visitor


def _identify(events: Iterable[UserEvent]) -> None:
    """Names events that have no name, so that they count once however often they are sent."""
    for event in events:
        event.event_id = event.event_id or str(uuid.uuid4())
