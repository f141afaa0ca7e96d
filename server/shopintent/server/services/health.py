"""grpc.health.v1: what the release monitor found, under the names that probes ask for.

"" and every service of shopintent.v1 say whether the release may answer. They stay SERVING when a
dependency dies later: answers are degraded then and say so, and taking every replica out at once
would take the fallback away too. `dependency.triton` and `dependency.index` tell of that.
"""

from __future__ import annotations

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from shopintent.server.releases import Component, ReleaseMonitor
from shopintent.v1 import (
    catalog_service_pb2,
    event_service_pb2,
    recommendation_service_pb2,
    release_service_pb2,
    visitor_service_pb2,
)

SERVICES = tuple(
    service.full_name
    for module in (
        recommendation_service_pb2,
        event_service_pb2,
        catalog_service_pb2,
        release_service_pb2,
        visitor_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
)
"""The full names of the services of shopintent.v1."""

DEPENDENCIES = {
    "dependency.triton": frozenset({Component.INTENT_MODEL, Component.ENCODERS}),
    "dependency.index": frozenset({Component.INDEX}),
}


async def publish_health(servicer: health_aio.HealthServicer, monitor: ReleaseMonitor) -> None:
    """Sets every health name to what the monitor found last."""
    for name in ("", *SERVICES):
        await servicer.set(name, _status(monitor.serving))
    for name, components in DEPENDENCIES.items():
        await servicer.set(name, _status(components.isdisjoint(monitor.down)))


def _status(serving: bool) -> int:
    answer = health_pb2.HealthCheckResponse
    return answer.SERVING if serving else answer.NOT_SERVING
