"""Why a call failed. Each error knows its status code, its reason and its metadata.

The reasons are documented in protos/shopintent/v1/error_reason.proto; a test compares both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

SHOWN_VIOLATIONS = 3
"""Bad fields that the message of an InvalidRequest names; its details hold more."""


@dataclass(frozen=True)
class FieldViolation:
    """One bad field of a request."""

    field: str
    """Its path, for example "recent_events[3].product_id"."""
    description: str
    """What is wrong and what to do instead."""


class ShopIntentError(Exception):
    """A failure that callers are told about."""

    code: grpc.StatusCode
    reason: str
    retry_after_s: float | None = None

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.metadata = metadata


class InvalidRequest(ShopIntentError):
    """The request breaks the contract; it names every bad field."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "ERROR_REASON_INVALID_REQUEST"

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        shown = [f"{each.field}: {each.description}" for each in violations[:SHOWN_VIOLATIONS]]
        left_out = len(violations) - len(shown)
        more = [f"and {left_out} more bad fields"] if left_out else []
        super().__init__("; ".join([*shown, *more]))
        self.violations = tuple(violations)


class ProductNotFound(ShopIntentError):
    """The catalog has no such product."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "ERROR_REASON_PRODUCT_NOT_FOUND"

    def __init__(self, product_id: str) -> None:
        super().__init__(f"no product has the id {product_id!r}", productId=product_id)


class ModelUnavailable(ShopIntentError):
    """A model in Triton did not answer in time, or Triton could not be reached."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "ERROR_REASON_MODEL_UNAVAILABLE"
    retry_after_s = 1.0

    def __init__(self, model_name: str, why: str) -> None:
        super().__init__(f"model {model_name} did not answer: {why}", modelName=model_name)


class IndexUnavailable(ShopIntentError):
    """The product index did not answer in time, or could not be reached."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "ERROR_REASON_INDEX_UNAVAILABLE"
    retry_after_s = 1.0

    def __init__(self, collection: str, why: str) -> None:
        message = f"product collection {collection} did not answer: {why}"
        super().__init__(message, collection=collection)


class StateUnavailable(ShopIntentError):
    """The server's own state on disk could not be read or written in time."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "ERROR_REASON_STATE_UNAVAILABLE"
    retry_after_s = 1.0

    def __init__(self, state: str, why: str) -> None:
        super().__init__(f"the server's {state} could not be used: {why}", state=state)


class Overloaded(ShopIntentError):
    """There is more to answer than can be answered in time; nothing was done for this call."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "ERROR_REASON_OVERLOADED"
    retry_after_s = 0.5

    def __init__(self) -> None:
        super().__init__("the server has more calls than it can answer in time; call again later")


class StreamEnded(ShopIntentError):
    """The server ends a stream between two requests; a new call goes on where this one ended."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "ERROR_REASON_STREAM_ENDED"
    retry_after_s = 0.05


class ReleaseMismatch(ShopIntentError):
    """Parts of the release do not fit together. Waiting does not help."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "ERROR_REASON_RELEASE_MISMATCH"

    def __init__(self, release_id: str, component: str, why: str) -> None:
        message = f"release {release_id} does not fit: {component}: {why}"
        super().__init__(message, releaseId=release_id, component=component)


class ReleaseNotFound(ShopIntentError):
    """The releases root has no such release."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "ERROR_REASON_RELEASE_NOT_FOUND"

    def __init__(self, release_id: str, release_ids: Sequence[str]) -> None:
        message = f"no release has the id {release_id!r}; there are: {', '.join(release_ids)}"
        super().__init__(message, releaseId=release_id)


class ReleaseNotReady(ShopIntentError):
    """A release may not take the traffic it was to take; nothing changed."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "ERROR_REASON_RELEASE_NOT_READY"

    def __init__(self, release_id: str, why: str) -> None:
        super().__init__(f"release {release_id} is not ready: {why}", releaseId=release_id)


class ReleaseInUse(ShopIntentError):
    """A release that plays a part cannot be deleted."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "ERROR_REASON_RELEASE_IN_USE"

    def __init__(self, release_id: str, roles: Sequence[str]) -> None:
        message = f"release {release_id} is {' and '.join(roles)}: route past it first"
        super().__init__(message, releaseId=release_id)


class CredentialsMissing(ShopIntentError):
    """The call needs a permission and names none."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "ERROR_REASON_CREDENTIALS_MISSING"

    def __init__(self) -> None:
        super().__init__("send the metadata authorization: Bearer TOKEN, with the server's token")


class PermissionDenied(ShopIntentError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "ERROR_REASON_PERMISSION_DENIED"


class InternalError(ShopIntentError):
    """A fault of the server. It says nothing but the id it was logged under."""

    code = grpc.StatusCode.INTERNAL
    reason = "ERROR_REASON_INTERNAL"

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"the server failed; its log has request {request_id}", requestId=request_id
        )
