"""ReleaseService: shifts traffic between releases, for whoever holds the token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc

from shopintent.artifacts import ReleaseError
from shopintent.artifacts.routing import Routing, RoutingError, read_routing
from shopintent.server.errors import ReleaseNotFound, ReleaseNotReady, StateUnavailable
from shopintent.server.interceptors.request_id import current_request_id
from shopintent.server.permission import Permission
from shopintent.server.releases.manager import Reason, ReleaseManager, roles
from shopintent.server.services.release_messages import (
    Page,
    Place,
    check_request,
    damaged_release,
    page_of,
    page_token,
    release_to_proto,
    routing_to_proto,
)
from shopintent.server.traffic import Traffic
from shopintent.v1 import release_service_pb2 as pb
from shopintent.v1 import release_service_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, eq=False)
class ReleaseService(release_service_pb2_grpc.ReleaseServiceServicer):
    """Asks the manager; `traffic` tells what this server does with the routing."""

    manager: ReleaseManager
    traffic: Traffic
    permission: Permission

    async def ListReleases(
        self, request: pb.ListReleasesRequest, context: Context
    ) -> pb.ListReleasesResponse:
        """Returns a page of releases, newest first."""
        self._check_permission(context)
        page = page_of(request)
        with told(""):
            return await asyncio.to_thread(self._list, page)

    async def GetRelease(
        self, request: pb.GetReleaseRequest, context: Context
    ) -> pb.GetReleaseResponse:
        """Returns one release."""
        self._check(request, context)
        with told(request.release_id):
            return await asyncio.to_thread(self._get, request.release_id)

    async def ShadowRelease(
        self, request: pb.ShadowReleaseRequest, context: Context
    ) -> pb.ShadowReleaseResponse:
        """Has a release asked beside the serving one."""
        self._check(request, context)
        change = self.manager.shadow(request.release_id, request.percent, reason(request, context))
        return pb.ShadowReleaseResponse(**await self._changed(request.release_id, change))

    async def CanaryRelease(
        self, request: pb.CanaryReleaseRequest, context: Context
    ) -> pb.CanaryReleaseResponse:
        """Has a release answer a share of the visitors."""
        self._check(request, context)
        change = self.manager.canary(request.release_id, request.percent, reason(request, context))
        return pb.CanaryReleaseResponse(**await self._changed(request.release_id, change))

    async def PromoteRelease(
        self, request: pb.PromoteReleaseRequest, context: Context
    ) -> pb.PromoteReleaseResponse:
        """Has a release answer everybody."""
        self._check(request, context)
        change = self.manager.promote(request.release_id, reason(request, context))
        return pb.PromoteReleaseResponse(**await self._changed(request.release_id, change))

    async def RollbackRelease(
        self, request: pb.RollbackReleaseRequest, context: Context
    ) -> pb.RollbackReleaseResponse:
        """Takes a release out of traffic."""
        self._check(request, context)
        why = reason(request, context)
        change = asyncio.to_thread(self.manager.rollback, why, request.release_id)
        return pb.RollbackReleaseResponse(**await self._changed(request.release_id, change))

    async def DeleteRelease(
        self, request: pb.DeleteReleaseRequest, context: Context
    ) -> pb.DeleteReleaseResponse:
        """Deletes a release that plays no part."""
        self._check(request, context)
        with told(request.release_id):
            await self.manager.delete(request.release_id, reason(request, context))
        return pb.DeleteReleaseResponse()

    async def VerifyRelease(
        self, request: pb.VerifyReleaseRequest, context: Context
    ) -> pb.VerifyReleaseResponse:
        """Has a release prove that it is ready."""
        self._check(request, context)
        with told(request.release_id):
            await self.manager.verify(request.release_id)
            got = await asyncio.to_thread(self._get, request.release_id)
        return pb.VerifyReleaseResponse(release=got.release)

    def _check(self, request: Any, context: Context) -> None:
        """The permission comes first: who has none learns nothing of what is there."""
        self._check_permission(context)
        check_request(request)

    def _check_permission(self, context: Context) -> None:
        self.permission.check(context.invocation_metadata() or ())

    async def _changed(self, release_id: str, change: Awaitable[Routing]) -> dict[str, Any]:
        """Makes a change and returns the fields of its response."""
        with told(release_id):
            routing = await change
        _, release = await asyncio.to_thread(self._placed, release_id, routing)
        return {"release": release, "routing": routing_to_proto(routing, self.traffic)}

    def _get(self, release_id: str) -> pb.GetReleaseResponse:
        routing, release_ids = self._routing(), self.manager.root.release_ids()
        if release_id not in release_ids:
            raise ReleaseNotFound(release_id, release_ids)
        _, release = self._placed(release_id, routing)
        return pb.GetReleaseResponse(
            release=release, routing=routing_to_proto(routing, self.traffic)
        )

    def _routing(self) -> Routing | None:
        return read_routing(self.manager.root.path)

    def _list(self, page: Page) -> pb.ListReleasesResponse:
        routing = self._routing()
        found = [self._placed(each, routing) for each in self.manager.root.release_ids()]
        found.sort(key=lambda each: each[0], reverse=True)
        rest = [each for each in found if page.after is None or each[0] < page.after]
        shown = rest[: page.size]
        return pb.ListReleasesResponse(
            releases=[release for _, release in shown],
            next_page_token=page_token(shown[-1][0]) if len(rest) > len(shown) else "",
            routing=routing_to_proto(routing, self.traffic),
        )

    def _placed(self, release_id: str, routing: Routing | None) -> tuple[Place, pb.Release]:
        """Returns a release and its place; one whose manifest is damaged or gone comes last."""
        try:
            status = self.manager.status(release_id)
        except (ReleaseError, ReleaseNotFound) as error:
            parts = roles(routing, release_id)
            return ("", release_id), damaged_release(release_id, parts, str(error))
        return (status.manifest.created_at, release_id), release_to_proto(status, self.traffic)


def reason(request: Any, context: Context) -> Reason:
    """Returns who asks, and why, for the audit log."""
    who = f"rpc:{current_request_id()}@{unquote(context.peer())}"
    return Reason(who, request.why.strip(), forced=getattr(request, "forced", False))


@contextmanager
def told(release_id: str) -> Iterator[None]:
    """Turns what is wrong with the files of the root into errors that callers are told."""
    try:
        yield
    except ReleaseError as error:
        raise ReleaseNotReady(release_id, str(error)) from error
    except (RoutingError, OSError) as error:
        raise StateUnavailable("routing", str(error)) from error
