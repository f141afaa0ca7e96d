"""CatalogService: keeps the products that recommendations come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from shopintent.server.catalog_writes import CatalogWriter
from shopintent.server.deadlines import Deadline
from shopintent.server.services import convert
from shopintent.server.services.validation import check_product_id, check_update_products
from shopintent.server.traffic import Traffic
from shopintent.v1 import catalog_service_pb2 as pb
from shopintent.v1 import catalog_service_pb2_grpc, product_pb2


@dataclass(frozen=True, eq=False)
class CatalogService(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Reads and writes the catalog; `timeout_s` is the most a call may take."""

    traffic: Traffic
    writer: CatalogWriter
    timeout_s: float

    async def GetProduct(
        self, request: pb.GetProductRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetProductResponse:
        """Returns one product in full."""
        deadline = Deadline.for_call(context.time_remaining(), at_most_s=self.timeout_s)
        check_product_id(request.product_id)
        product = await self.traffic.serving.catalog.get(request.product_id, deadline=deadline)
        return pb.GetProductResponse(
            product=convert.product_to_proto(product, product_pb2.PRODUCT_VIEW_FULL)
        )

    async def BatchUpdateProducts(
        self, request: pb.BatchUpdateProductsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.BatchUpdateProductsResponse:
        """Writes the fields that the mask names, all products or none."""
        deadline = Deadline.for_call(context.time_remaining(), at_most_s=self.timeout_s)
        check_update_products(request)
        products = await self.writer.update(
            [convert.product_from_proto(product) for product in request.products],
            convert.written_fields(request.update_mask.paths),
            deadline=deadline,
        )
        return pb.BatchUpdateProductsResponse(
            products=[
                convert.product_to_proto(product, product_pb2.PRODUCT_VIEW_FULL)
                for product in products
            ]
        )

    async def DeleteProduct(
        self, request: pb.DeleteProductRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeleteProductResponse:
        """Deletes one product, or finds it gone already."""
        deadline = Deadline.for_call(context.time_remaining(), at_most_s=self.timeout_s)
        check_product_id(request.product_id)
        await self.writer.delete(request.product_id, deadline=deadline)
        return pb.DeleteProductResponse()
