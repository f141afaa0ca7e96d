"""VisitorService: deletes visitors everywhere and proves it, for whoever holds the token."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from shopintent.server.deadlines import Deadline
from shopintent.server.deletion import StoreCount, VisitorEraser
from shopintent.server.interceptors.request_id import current_request_id
from shopintent.server.permission import Permission
from shopintent.server.services import convert
from shopintent.server.services.validation import check_visitor
from shopintent.v1 import visitor_service_pb2 as pb
from shopintent.v1 import visitor_service_pb2_grpc

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

SESSIONS_TIMEOUT_S = 30.0
"""What the store of the sessions may take; the files take as long as they are large."""


@dataclass(frozen=True, eq=False)
class VisitorService(visitor_service_pb2_grpc.VisitorServiceServicer):
    """Asks the eraser. Every deletion is a line of the log, which names nobody who was deleted."""

    eraser: VisitorEraser
    permission: Permission

    async def DeleteVisitor(
        self, request: pb.DeleteVisitorRequest, context: Context
    ) -> pb.DeleteVisitorResponse:
        """Deletes under every id given and returns the receipt."""
        keys = self._keys(request, context)
        receipt = await self.eraser.delete(keys, timeout_s=_timeout_s(context))
        fields = {
            "receipt_id": receipt.receipt_id,
            "who": f"rpc:{current_request_id()}@{unquote(context.peer())}",
            "deleted": {each.store: each.count for each in receipt.stores},
        }
        logger.warning("visitor deleted", extra={"fields": fields})
        delete_time = Timestamp()
        delete_time.FromNanoseconds(round(receipt.delete_time * 1e9))
        return pb.DeleteVisitorResponse(
            receipt_id=receipt.receipt_id,
            delete_time=delete_time,
            stores=_counts_to_proto(receipt.stores),
        )

    async def VerifyDeletion(
        self, request: pb.VerifyDeletionRequest, context: Context
    ) -> pb.VerifyDeletionResponse:
        """Searches every store and returns what was found."""
        keys = self._keys(request, context)
        found = await self.eraser.verify(keys, timeout_s=_timeout_s(context))
        return pb.VerifyDeletionResponse(
            deleted=not any(each.count for each in found), stores=_counts_to_proto(found)
        )

    def _keys(
        self, request: pb.DeleteVisitorRequest | pb.VerifyDeletionRequest, context: Context
    ) -> list[str]:
        """Permission comes first: who has none learns nothing, not even what a request lacks."""
        self.permission.check(context.invocation_metadata() or ())
        check_visitor(request)
        return convert.every_key(request.visitor)


def _timeout_s(context: Context) -> float:
    deadline = Deadline.for_call(context.time_remaining(), at_most_s=SESSIONS_TIMEOUT_S)
    return deadline.share_s()


def _counts_to_proto(counts: Iterable[StoreCount]) -> list[pb.StoreCount]:
    return [pb.StoreCount(store=each.store, unit=each.unit, count=each.count) for each in counts]
