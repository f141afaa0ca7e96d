"""Why a call failed, decoded from the google.rpc.Status that the server sends with it.

The reasons and their metadata are documented in protos/shopintent/v1/error_reason.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

PRODUCT_NOT_FOUND = "ERROR_REASON_PRODUCT_NOT_FOUND"
RELEASE_NOT_FOUND = "ERROR_REASON_RELEASE_NOT_FOUND"
RELEASE_NOT_READY = "ERROR_REASON_RELEASE_NOT_READY"
REQUEST_ID_KEY = "x-request-id"


@dataclass(frozen=True)
class FieldViolation:
    """One bad field of a request."""

    field: str
    """Its path, for example "recent_events[3].product_id"."""
    description: str
    """What is wrong and what to do instead."""


@dataclass(frozen=True)
class Failure:
    """Everything a failed call says."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    violations: tuple[FieldViolation, ...] = ()
    retry_after_s: float | None = None


class ShopIntentError(Exception):
    """A call failed. `reason` is empty when the failure did not come from the service itself."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code.name}: {failure.message}")
        self.code = failure.code
        self.reason = failure.reason
        """The name of an ErrorReason."""
        self.metadata = failure.metadata
        """As documented for the reason."""
        self.request_id = failure.request_id
        """The server logs the call under this id; empty when it never got there."""
        self.retry_after_s = failure.retry_after_s
        """How long the server asks to wait; None when it did not say, or waiting does not help."""


class InvalidRequestError(ShopIntentError):
    """The request breaks the contract; `violations` names every bad field."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.violations = failure.violations


class ProductNotFoundError(ShopIntentError):
    """The catalog has no product `product_id`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.product_id = failure.metadata.get("productId", "")


class ReleaseNotFoundError(ShopIntentError):
    """The server's releases root has no release `release_id`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.release_id = failure.metadata.get("releaseId", "")


class ReleaseNotReadyError(ShopIntentError):
    """A release `release_id` may not take the traffic it was to take; nothing changed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.release_id = failure.metadata.get("releaseId", "")


class PermissionDeniedError(ShopIntentError):
    """The call needs a token that was not sent, or another one."""


class UnavailableError(ShopIntentError):
    """The server, or something it needs, does not answer; retries did not help."""


class DeadlineExceededError(ShopIntentError):
    """No answer came within `timeout_s`."""


class FailedCall(Protocol):
    """What a grpc.RpcError and a grpc.aio.AioRpcError both offer."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def initial_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...
    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def decode(call: FailedCall) -> ShopIntentError:
    """Returns the error to raise for a failed call."""
    failure = _failure(call)
    match failure.code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidRequestError(failure)
        case grpc.StatusCode.NOT_FOUND if failure.reason == PRODUCT_NOT_FOUND:
            return ProductNotFoundError(failure)
        case grpc.StatusCode.NOT_FOUND if failure.reason == RELEASE_NOT_FOUND:
            return ReleaseNotFoundError(failure)
        case grpc.StatusCode.FAILED_PRECONDITION if failure.reason == RELEASE_NOT_READY:
            return ReleaseNotReadyError(failure)
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return PermissionDeniedError(failure)
        case grpc.StatusCode.UNAVAILABLE:
            return UnavailableError(failure)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceededError(failure)
        case _:
            return ShopIntentError(failure)


def _failure(call: FailedCall) -> Failure:
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry_info = error_details_pb2.RetryInfo()
    for detail in _details(call):
        for message in (info, bad_request, retry_info):
            detail.Unpack(message)
    delay = retry_info.retry_delay.ToTimedelta()
    return Failure(
        code=call.code(),
        message=call.details() or "no details",
        reason=info.reason,
        metadata=dict(info.metadata),
        request_id=_request_id(call) or info.metadata.get("requestId", ""),
        violations=tuple(
            FieldViolation(each.field, each.description) for each in bad_request.field_violations
        ),
        retry_after_s=delay.total_seconds() if delay else None,
    )


def _details(call: FailedCall) -> Sequence[Any]:
    try:
        status = rpc_status.from_call(cast(grpc.Call, call))
    except (ValueError, DecodeError):
        # A proxy replaced the status or its details: what it says itself is all there is.
        return ()
    return () if status is None else status.details


def _request_id(call: FailedCall) -> str:
    for key, value in (*(call.initial_metadata() or ()), *(call.trailing_metadata() or ())):
        if key == REQUEST_ID_KEY and isinstance(value, str):
            return value
    return ""
