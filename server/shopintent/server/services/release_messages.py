"""Between the messages of ReleaseService and the releases of the root: checks, and both ways."""

from __future__ import annotations

import base64
import binascii
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from google.protobuf import timestamp_pb2

from shopintent.artifacts.layout import RELEASE_ID
from shopintent.artifacts.metrics import Gate, MetricRow
from shopintent.artifacts.routing import MAX_WHY, Change, Routing, Share
from shopintent.server.releases.manager import ReleaseStatus
from shopintent.server.services.validation import Violations
from shopintent.server.traffic import Traffic
from shopintent.v1 import release_service_pb2 as pb

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200

ROLES = {
    "serving": pb.RELEASE_ROLE_SERVING,
    "canary": pb.RELEASE_ROLE_CANARY,
    "shadow": pb.RELEASE_ROLE_SHADOW,
    "previous": pb.RELEASE_ROLE_PREVIOUS,
}

Place = tuple[str, str]
"""Where a release stands in the list: when it was published, and its id."""


def check_request(request: Any) -> None:
    """Raises InvalidRequest when a request about one release breaks the contract.

    `why` and `percent` are checked of the requests that have them.
    """
    violations = Violations()
    if not RELEASE_ID.fullmatch(request.release_id):
        violations.add(
            "release_id", 'use 1 to 63 characters of a-z, 0-9 and "-", as ListReleases names them'
        )
    known = request.DESCRIPTOR.fields_by_name
    if "why" in known:
        if not request.why.strip():
            violations.add("why", "is empty; say why, for whoever reads the audit log")
        violations.check_length("why", request.why, MAX_WHY)
    if "percent" in known and not 0 < request.percent <= 100:
        violations.add("percent", f"is {request.percent:g}; send more than 0 and at most 100")
    violations.raise_if_any()


@dataclass(frozen=True)
class Page:
    """Which part of the list is asked for."""

    size: int
    after: Place | None
    """The last release of the page before; None for the first page."""


def page_of(request: pb.ListReleasesRequest) -> Page:
    """Returns the page that is asked for. Raises InvalidRequest."""
    violations = Violations()
    if request.page_size < 0:
        violations.add("page_size", "is negative; send 1 to 200, or 0 for the default of 50")
    after = None
    if request.page_token:
        after = _place(request.page_token)
        if after is None:
            violations.add("page_token", "is none; send the next_page_token of the page before")
    violations.raise_if_any()
    return Page(min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE), after)


def page_token(after: Place) -> str:
    """Returns the token of the page that follows a release."""
    return base64.urlsafe_b64encode(json.dumps(after).encode()).decode()


def _place(token: str) -> Place | None:
    with suppress(binascii.Error, ValueError, TypeError):
        created_at, release_id = json.loads(base64.urlsafe_b64decode(token.encode()))
        if isinstance(created_at, str) and isinstance(release_id, str):
            return created_at, release_id
    return None


def release_to_proto(status: ReleaseStatus, traffic: Traffic) -> pb.Release:
    """Returns what there is to say of a release, and of what this server does with it."""
    manifest = status.manifest
    return pb.Release(
        id=manifest.release_id,
        create_time=_timestamp(manifest.created_at),
        roles=[ROLES[role] for role in status.roles],
        parent_release_id=manifest.parent or "",
        product_count=manifest.n_products,
        metrics=[_metric(row) for row in status.deciding_metrics],
        forced_reason=manifest.forced or "",
        ready=traffic.opened(manifest.release_id) is not None,
        refusal=traffic.refused.get(manifest.release_id, ""),
    )


def damaged_release(release_id: str, roles: tuple[str, ...], why: str) -> pb.Release:
    """Returns what there is to say of a release whose manifest cannot be read."""
    return pb.Release(id=release_id, roles=[ROLES[role] for role in roles], refusal=why)


def routing_to_proto(routing: Routing | None, traffic: Traffic) -> pb.Routing | None:
    """Returns how traffic is routed; None when it is not yet."""
    if routing is None:
        return None
    return pb.Routing(
        generation=routing.generation,
        followed_generation=traffic.routing.generation,
        serving_release_id=routing.serving,
        previous_release_id=routing.previous or "",
        canary=_share(routing.canary),
        shadow=_share(routing.shadow),
        change=_change(routing.change),
    )


def _share(share: Share | None) -> pb.ReleaseShare | None:
    if share is None:
        return None
    return pb.ReleaseShare(release_id=share.release_id, percent=share.percent)


def _change(change: Change | None) -> pb.RoutingChange | None:
    if change is None:
        return None
    return pb.RoutingChange(
        action=change.action,
        release_id=change.release_id,
        who=change.who,
        why=change.why,
        forced=change.forced,
        change_time=_timestamp(change.at),
    )


def _metric(row: MetricRow) -> pb.ReleaseMetric:
    low, high = row.ci or (None, None)
    gate = row.gate or Gate()
    return pb.ReleaseMetric(
        name=row.name,
        value=row.value,
        minimum_value=low,
        maximum_value=high,
        gate_minimum=gate.at_least,
        gate_maximum=gate.at_most,
        gate_failed=row.failure is not None,
    )


def _timestamp(text: str) -> timestamp_pb2.Timestamp | None:
    """Returns an RFC 3339 time; None for what is none."""
    timestamp = timestamp_pb2.Timestamp()
    try:
        timestamp.FromJsonString(text)
    except ValueError:
        return None
    return timestamp
