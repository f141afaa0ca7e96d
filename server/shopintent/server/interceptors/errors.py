"""Turns what goes wrong in a call into the status that the proto guide promises.

Requests are parsed in here too: gRPC would answer INTERNAL to bytes that are no message, and they
are the caller's mistake.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from shopintent.server.errors import (
    FieldViolation,
    InternalError,
    InvalidRequest,
    ShopIntentError,
)
from shopintent.server.interceptors.handlers import Call, Context
from shopintent.server.interceptors.request_id import current_request_id

logger = logging.getLogger(__name__)

DOMAIN = "shopintent"

MAX_VIOLATION_BYTES = 3_000
"""A status travels in HTTP trailers, of which clients take 8 KiB by default."""


def guarded(call: Call, parse: Callable[[bytes], Any]) -> Call:
    """Parses the request, answers it, and aborts with a status when either fails."""

    async def answer(request: bytes, context: Context) -> Any:
        try:
            return await call(parsed(request, parse), context)
        except ShopIntentError as error:
            failure = error
        except grpc.aio.AbortError:
            raise
        except Exception:
            request_id = current_request_id()
            logger.exception("call failed", extra={"fields": {"request_id": request_id}})
            failure = InternalError(request_id)
        status: Any = rpc_status.to_status(to_status(failure))
        # Aborting replaces what was set before, and the request id must arrive.
        trailing = (*(context.trailing_metadata() or ()), *status.trailing_metadata)
        await context.abort_with_status(status._replace(trailing_metadata=trailing))

    return answer


def parsed(request: bytes, parse: Callable[[bytes], Any]) -> Any:
    """Returns the message. Raises InvalidRequest for bytes that are none."""
    try:
        return parse(request)
    except DecodeError as error:
        what = "the bytes are not the message of this call, or a text in it is not UTF-8"
        raise InvalidRequest(
            [FieldViolation("request", f"{what}; send what the proto says")]
        ) from (error)


def to_status(error: ShopIntentError) -> Any:
    """Returns the google.rpc.Status of an error, with one ErrorInfo and what else helps."""
    status = status_pb2.Status(
        code=getattr(code_pb2, error.code.name),
        message=str(error),
    )
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    status.details.add().Pack(info)
    if isinstance(error, InvalidRequest):
        status.details.add().Pack(_bad_request(error.violations))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(1000 * error.retry_after_s))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def _bad_request(violations: Sequence[FieldViolation]) -> Any:
    """Returns the violations; of very many, those that fit and how many are left out."""
    listed: list[tuple[str, str]] = []
    size = 0
    for position, each in enumerate(violations):
        size += len(each.field.encode()) + len(each.description.encode())
        if listed and size > MAX_VIOLATION_BYTES:
            left_out = f"{each.description}; {len(violations) - position - 1} more are not listed"
            listed.append((each.field, left_out))
            break
        listed.append((each.field, each.description))
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
            for field, description in listed
        ]
    )
