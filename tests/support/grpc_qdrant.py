"""A Qdrant server for tests: qdrant-client's in-process mode behind Qdrant's own gRPC services.

It proves what the in-process mode alone can not: that requests survive the wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from qdrant_client import AsyncQdrantClient, models
from qdrant_client import grpc as qdrant
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

Context = grpc.aio.ServicerContext[Any, Any]


class Collections(qdrant.CollectionsServicer):
    def __init__(self, store: AsyncQdrantClient) -> None:
        self.store = store

    async def CollectionExists(self, request: Any, context: Context) -> Any:
        exists = await self.store.collection_exists(request.collection_name)
        return qdrant.CollectionExistsResponse(result=qdrant.CollectionExists(exists=exists))

    async def Get(self, request: Any, context: Context) -> Any:
        info = await self.store.get_collection(request.collection_name)
        converted = RestToGrpc.convert_collection_info(info)
        return qdrant.GetCollectionInfoResponse(result=converted)

    async def Create(self, request: Any, context: Context) -> Any:
        await self.store.create_collection(
            request.collection_name,
            vectors_config=GrpcToRest.convert_vectors_config(request.vectors_config),
            metadata=GrpcToRest.convert_payload(request.metadata),
        )
        return qdrant.CollectionOperationResponse(result=True)

    async def Update(self, request: Any, context: Context) -> Any:
        metadata = GrpcToRest.convert_payload(request.metadata)
        await self.store.update_collection(request.collection_name, metadata=metadata)
        return qdrant.CollectionOperationResponse(result=True)

    async def Delete(self, request: Any, context: Context) -> Any:
        await self.store.delete_collection(request.collection_name)
        return qdrant.CollectionOperationResponse(result=True)


class Points(qdrant.PointsServicer):
    def __init__(self, store: AsyncQdrantClient) -> None:
        self.store = store

    async def CreateFieldIndex(self, request: Any, context: Context) -> Any:
        return _written(request.wait)

    async def Upsert(self, request: Any, context: Context) -> Any:
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        await self.store.upsert(request.collection_name, points)
        return _written(request.wait)

    async def Delete(self, request: Any, context: Context) -> Any:
        selector = GrpcToRest.convert_points_selector(request.points)
        await self.store.delete(request.collection_name, selector)
        return _written(request.wait)

    async def Get(self, request: Any, context: Context) -> Any:
        records = await self.store.retrieve(
            request.collection_name,
            ids=[GrpcToRest.convert_point_id(point_id) for point_id in request.ids],
            with_payload=GrpcToRest.convert_with_payload_selector(request.with_payload),
            with_vectors=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        )
        return qdrant.GetResponse(result=[RestToGrpc.convert_record(each) for each in records])

    async def Query(self, request: Any, context: Context) -> Any:
        response = await self.store.query_points(
            request.collection_name,
            query=GrpcToRest.convert_query(request.query),
            query_filter=GrpcToRest.convert_filter(request.filter),
            limit=request.limit,
            with_payload=GrpcToRest.convert_with_payload_selector(request.with_payload),
        )
        found = [RestToGrpc.convert_scored_point(point) for point in response.points]
        return qdrant.QueryResponse(result=found)


def _written(wait: bool) -> Any:
    status = models.UpdateStatus.COMPLETED if wait else models.UpdateStatus.ACKNOWLEDGED
    result = models.UpdateResult(operation_id=0, status=status)
    return qdrant.PointsOperationResponse(result=RestToGrpc.convert_update_result(result))


@asynccontextmanager
async def serve_qdrant() -> AsyncIterator[int]:
    """Serves an empty Qdrant on a port of this machine, which it yields."""
    store = AsyncQdrantClient(":memory:")
    server = grpc.aio.server()
    qdrant.add_CollectionsServicer_to_server(Collections(store), server)  # type: ignore[no-untyped-call]
    qdrant.add_PointsServicer_to_server(Points(store), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)
        await store.close()
