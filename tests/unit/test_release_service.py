"""ReleaseService: who may call it, what each call does, and what callers are told."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from shopintent.artifacts import Manifest
from shopintent.artifacts.metrics import Gate, MetricRow
from shopintent.artifacts.routing import (
    BUCKETS,
    MAX_WHY,
    Routing,
    read_audit,
    read_routing,
    routing_path,
)
from shopintent.server.app import App
from shopintent.server.errors import ReleaseNotReady
from shopintent.server.permission import release_permission
from shopintent.server.releases.manager import ReleaseManager
from shopintent.server.services.release_messages import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from shopintent.server.traffic import MAX_SHADOWED, Traffic
from shopintent.v1 import release_service_pb2 as pb
from shopintent.v1 import release_service_pb2_grpc
from support.releases import released
from support.server import (
    config_of,
    eventually,
    failure_of,
    make_outside,
    open_release,
    running,
)

pytestmark = pytest.mark.releases

PROTOS = Path(__file__).parents[2] / "protos" / "shopintent" / "v1"
TOKEN = "a-token-that-nobody-guesses"
CREDENTIALS = (("authorization", f"Bearer {TOKEN}"),)
NDCG = MetricRow(
    model="shopintent", metric="ndcg", k=10, split="time", value=0.5, ci=(0.4, 0.6),
    gate=Gate(at_least=0.7),
)  # fmt: skip
COVERAGE = MetricRow(model="shopintent", metric="coverage", split="time", value=0.9)


@dataclass
class Shop:
    """A server of ReleaseService over releases r1 (serving), r2 and r3, and what is wrong there."""

    root: Path
    stub: Any
    unready: dict[str, str] = field(default_factory=dict)
    worse: set[str] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    async def prove(self, release_id: str) -> None:
        if release_id in self.unready:
            raise ReleaseNotReady(release_id, self.unready[release_id])

    def objection(self, candidate: Manifest, serving: Manifest) -> str | None:
        return "its ndcg fell" if candidate.release_id in self.worse else None

    async def remove(self, release_id: str) -> None:
        self.removed.append(release_id)

    async def call(self, method: str, request: Any, metadata: Any = CREDENTIALS) -> Any:
        return await getattr(self.stub, method)(request, metadata=metadata, timeout=20)


@asynccontextmanager
async def shop_of(folder: Path, token: str = TOKEN) -> AsyncIterator[Shop]:
    """Runs a server that was given a token, on a free port."""
    outside = make_outside(folder)
    root = released(folder, "r1", "r2", "r3")
    shop = Shop(folder, None)
    config = config_of(release_token=token)
    traffic = Traffic(open_release(config, outside), Routing("r1"))
    traffic.refused = shop.refused
    manager = ReleaseManager(root, shop.prove, shop.objection, shop.remove)
    app = App(config, outside.sessions, outside.journal, traffic, manager=manager)
    async with running(app) as (_, channel):
        shop.stub = release_service_pb2_grpc.ReleaseServiceStub(channel)
        yield shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop_of(tmp_path) as shop:
        yield shop


REQUESTS: dict[str, Any] = {
    "ListReleases": pb.ListReleasesRequest(),
    "GetRelease": pb.GetReleaseRequest(release_id="r2"),
    "ShadowRelease": pb.ShadowReleaseRequest(release_id="r2", percent=50, why="to see"),
    "CanaryRelease": pb.CanaryReleaseRequest(release_id="r2", percent=5, why="to see"),
    "PromoteRelease": pb.PromoteReleaseRequest(release_id="r2", why="it is better"),
    "RollbackRelease": pb.RollbackReleaseRequest(release_id="r2", why="it is worse"),
    "DeleteRelease": pb.DeleteReleaseRequest(release_id="r2", why="to free the disk"),
    "VerifyRelease": pb.VerifyReleaseRequest(release_id="r2"),
}
ABOUT_ONE = sorted(set(REQUESTS) - {"ListReleases"})
CHANGES = [name for name in ABOUT_ONE if name not in ("GetRelease", "VerifyRelease")]


def test_every_rpc_is_tried_here() -> None:
    methods = pb.DESCRIPTOR.services_by_name["ReleaseService"].methods_by_name
    assert sorted(REQUESTS) == sorted(methods)


@pytest.mark.parametrize("method", REQUESTS)
async def test_whoever_holds_the_token_is_answered(shop: Shop, method: str) -> None:
    assert await shop.call(method, REQUESTS[method]) is not None


@pytest.mark.parametrize(
    "credentials",
    [(), (("authorization", TOKEN),), (("authorization", f"Basic {TOKEN}"),),
     (("authorization", "Bearer "),)],
    ids=["nothing", "no scheme", "another scheme", "no token"],
)  # fmt: skip
async def test_without_credentials_nobody_is_answered(shop: Shop, credentials: Any) -> None:
    before = read_routing(shop.root)
    for method, request in REQUESTS.items():
        failure = await failure_of(shop.call(method, request, credentials))
        assert failure.code is grpc.StatusCode.UNAUTHENTICATED
        assert failure.info.reason == "ERROR_REASON_CREDENTIALS_MISSING"
    assert read_routing(shop.root) == before


@pytest.mark.parametrize("token", [f"{TOKEN}x", TOKEN[:-1], TOKEN.upper()])
async def test_another_token_is_denied(shop: Shop, token: str) -> None:
    before = read_routing(shop.root)
    for method, request in REQUESTS.items():
        failure = await failure_of(
            shop.call(method, request, (("authorization", f"Bearer {token}"),))
        )
        assert failure.code is grpc.StatusCode.PERMISSION_DENIED
        assert failure.info.reason == "ERROR_REASON_PERMISSION_DENIED"
        assert token not in failure.message
    assert read_routing(shop.root) == before


async def test_a_server_without_a_token_lets_nobody_in_and_says_what_to_do(
    tmp_path: Path,
) -> None:
    async with shop_of(tmp_path, token="") as shop:
        for metadata in (CREDENTIALS, ()):
            failure = await failure_of(
                shop.call("ListReleases", REQUESTS["ListReleases"], metadata)
            )
            assert failure.code is grpc.StatusCode.PERMISSION_DENIED
            assert "SHOPINTENT_RELEASE_TOKEN_FILE" in failure.message


async def test_the_permission_is_asked_before_the_request_is_looked_at(shop: Shop) -> None:
    failure = await failure_of(shop.call("PromoteRelease", pb.PromoteReleaseRequest(), ()))
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED


async def test_the_token_is_never_logged(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await shop.call("ListReleases", REQUESTS["ListReleases"])
    await failure_of(
        shop.call("ListReleases", REQUESTS["ListReleases"], (("authorization", "Bearer guess"),))
    )

    def logged() -> str:
        return "".join(f"{each.getMessage()}{each.__dict__}" for each in caplog.records)

    async def denial_is_logged() -> bool:
        return "PERMISSION_DENIED" in logged()

    await eventually(denial_is_logged)
    assert TOKEN not in logged()
    assert "guess" not in logged()
    assert TOKEN not in repr(release_permission(TOKEN))


async def test_a_rollout_goes_from_shadow_to_promotion_and_back(shop: Shop) -> None:
    shadowed = await shop.call("ShadowRelease", REQUESTS["ShadowRelease"])
    assert list(shadowed.release.roles) == [pb.RELEASE_ROLE_SHADOW]
    assert (shadowed.routing.shadow.release_id, shadowed.routing.shadow.percent) == ("r2", 50)
    canary = await shop.call("CanaryRelease", REQUESTS["CanaryRelease"])
    assert list(canary.release.roles) == [pb.RELEASE_ROLE_CANARY, pb.RELEASE_ROLE_SHADOW]
    assert canary.routing.generation == shadowed.routing.generation + 1
    promoted = await shop.call("PromoteRelease", REQUESTS["PromoteRelease"])
    assert promoted.routing.serving_release_id == "r2"
    assert promoted.routing.previous_release_id == "r1"
    assert not promoted.routing.HasField("canary")
    back = await shop.call("RollbackRelease", REQUESTS["RollbackRelease"])
    assert back.routing.serving_release_id == "r1"
    assert list(back.release.roles) == []
    assert (back.routing.change.action, back.routing.change.why) == ("rollback", "it is worse")
    assert back.routing.change.change_time.seconds > 1_500_000_000


async def test_rolling_back_twice_does_not_go_forth_again(shop: Shop) -> None:
    await shop.call("PromoteRelease", REQUESTS["PromoteRelease"])
    once = await shop.call("RollbackRelease", REQUESTS["RollbackRelease"])
    assert await shop.call("RollbackRelease", REQUESTS["RollbackRelease"]) == once


@pytest.mark.parametrize("method", CHANGES)
async def test_every_change_is_audited_with_who_what_and_why(shop: Shop, method: str) -> None:
    if method == "RollbackRelease":
        await shop.call("PromoteRelease", REQUESTS["PromoteRelease"])
    metadata = (*CREDENTIALS, ("x-request-id", "request-1"))
    await shop.call(method, REQUESTS[method], metadata)
    last = read_audit(shop.root)[-1]
    assert last["who"].startswith("rpc:request-1@ipv4:127.0.0.1:")
    assert last["action"] == method.removesuffix("Release").lower()
    assert (last["release_id"], last["why"]) == ("r2", REQUESTS[method].why)


async def test_worse_metrics_keep_a_release_from_visitors_unless_forced(shop: Shop) -> None:
    shop.worse.add("r2")
    for method in ("CanaryRelease", "PromoteRelease"):
        request = REQUESTS[method]
        failure = await failure_of(shop.call(method, request))
        assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
        assert failure.info.reason == "ERROR_REASON_RELEASE_NOT_READY"
        assert "ndcg" in failure.message
        forced = type(request)()
        forced.MergeFrom(request)
        forced.forced = True
        answer = await shop.call(method, forced)
        assert answer.routing.change.forced


@pytest.mark.parametrize(
    "method", ["VerifyRelease", "ShadowRelease", "CanaryRelease", "PromoteRelease"]
)
async def test_a_release_that_is_not_ready_takes_no_part_and_the_reason_is_told(
    shop: Shop, method: str
) -> None:
    shop.unready["r2"] = "golden request 3 is answered otherwise"
    before = read_routing(shop.root)
    failure = await failure_of(shop.call(method, REQUESTS[method]))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "golden request 3" in failure.message
    assert dict(failure.info.metadata) == {"releaseId": "r2"}
    assert read_routing(shop.root) == before


async def test_a_release_that_does_not_exist_is_not_found(shop: Shop) -> None:
    for method in ABOUT_ONE:
        request = type(REQUESTS[method])()
        request.MergeFrom(REQUESTS[method])
        request.release_id = "r9"
        failure = await failure_of(shop.call(method, request))
        assert failure.code is grpc.StatusCode.NOT_FOUND
        assert failure.info.reason == "ERROR_REASON_RELEASE_NOT_FOUND"


async def test_a_release_in_use_is_not_deleted_and_another_is_gone(shop: Shop) -> None:
    in_use = pb.DeleteReleaseRequest(release_id="r1", why="to free the disk")
    failure = await failure_of(shop.call("DeleteRelease", in_use))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert failure.info.reason == "ERROR_REASON_RELEASE_IN_USE"
    assert "serving" in failure.message
    await shop.call("DeleteRelease", REQUESTS["DeleteRelease"])
    assert shop.removed == ["r2"]
    again = await failure_of(shop.call("DeleteRelease", REQUESTS["DeleteRelease"]))
    assert again.code is grpc.StatusCode.NOT_FOUND


def edit_manifest(shop: Shop, release_id: str, **changes: Any) -> None:
    path = shop.root / "releases" / release_id / "manifest.json"
    replace(Manifest.load(path), **changes).save(path)


async def test_a_release_says_what_was_measured_of_it_and_what_this_server_does_with_it(
    shop: Shop,
) -> None:
    edit_manifest(
        shop, "r2", metrics=(NDCG, COVERAGE), forced="a new season", parent="r1",
        created_at="2026-02-01T00:00:00Z",
    )  # fmt: skip
    shop.refused["r2"] = "intent_r2 is not loaded"
    release = (await shop.call("GetRelease", REQUESTS["GetRelease"])).release
    assert release.create_time.ToJsonString() == "2026-02-01T00:00:00Z"
    assert (release.parent_release_id, release.forced_reason) == ("r1", "a new season")
    assert (release.ready, release.refusal) == (False, "intent_r2 is not loaded")
    assert release.product_count == 40
    [metric] = release.metrics
    assert (metric.name, metric.value) == ("ndcg@10", 0.5)
    assert (metric.minimum_value, metric.maximum_value) == (0.4, 0.6)
    assert metric.gate_minimum == 0.7
    assert not metric.HasField("gate_maximum")
    assert metric.gate_failed
    serving = await shop.call("GetRelease", pb.GetReleaseRequest(release_id="r1"))
    assert serving.release.ready


async def test_releases_are_listed_newest_first_in_pages(shop: Shop) -> None:
    for release_id, month in (("r1", "01"), ("r2", "03"), ("r3", "02")):
        edit_manifest(shop, release_id, created_at=f"2026-{month}-01T00:00:00Z")
    whole = await shop.call("ListReleases", pb.ListReleasesRequest())
    assert [each.id for each in whole.releases] == ["r2", "r3", "r1"]
    assert whole.next_page_token == ""
    assert whole.routing.serving_release_id == "r1"
    first = await shop.call("ListReleases", pb.ListReleasesRequest(page_size=2))
    assert [each.id for each in first.releases] == ["r2", "r3"]
    rest = pb.ListReleasesRequest(page_size=2, page_token=first.next_page_token)
    second = await shop.call("ListReleases", rest)
    assert [each.id for each in second.releases] == ["r1"]
    assert second.next_page_token == ""


async def test_a_damaged_release_is_listed_with_what_is_wrong_and_takes_no_traffic(
    shop: Shop,
) -> None:
    (shop.root / "releases" / "r2" / "manifest.json").write_text("{")
    listed = await shop.call("ListReleases", pb.ListReleasesRequest())
    assert [each.id for each in listed.releases][-1] == "r2"
    assert "cannot be read" in listed.releases[-1].refusal
    failure = await failure_of(shop.call("PromoteRelease", REQUESTS["PromoteRelease"]))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "cannot be read" in failure.message


async def test_a_serving_release_whose_files_are_lost_can_be_rolled_back(shop: Shop) -> None:
    await shop.call("PromoteRelease", REQUESTS["PromoteRelease"])
    (shop.root / "releases" / "r2" / "manifest.json").unlink()
    back = await shop.call("RollbackRelease", REQUESTS["RollbackRelease"])
    assert back.routing.serving_release_id == "r1"
    assert "r2" in back.release.refusal


async def test_a_damaged_routing_is_told_with_the_remedy(shop: Shop) -> None:
    routing_path(shop.root).write_text("{")
    for method in sorted(set(REQUESTS) - {"VerifyRelease"}):
        failure = await failure_of(shop.call(method, REQUESTS[method]))
        assert failure.code is grpc.StatusCode.UNAVAILABLE
        assert dict(failure.info.metadata) == {"state": "routing"}
        assert "shopintent-server releases promote" in failure.message


BAD: dict[str, tuple[Any, str]] = {
    "no release": (pb.GetReleaseRequest(), "release_id"),
    "a path": (pb.VerifyReleaseRequest(release_id="../r1"), "release_id"),
    "capitals": (pb.GetReleaseRequest(release_id="R1"), "release_id"),
    "64 characters": (pb.GetReleaseRequest(release_id="r" * 64), "release_id"),
    "no reason": (pb.PromoteReleaseRequest(release_id="r2"), "why"),
    "spaces for a reason": (pb.DeleteReleaseRequest(release_id="r2", why=" \n"), "why"),
    "501 characters": (pb.RollbackReleaseRequest(release_id="r2", why="x" * 501), "why"),
    "no percent": (pb.ShadowReleaseRequest(release_id="r2", why="w"), "percent"),
    "too much": (pb.CanaryReleaseRequest(release_id="r2", percent=100.1, why="w"), "percent"),
    "negative": (pb.CanaryReleaseRequest(release_id="r2", percent=-5, why="w"), "percent"),
    "no number": (
        pb.CanaryReleaseRequest(release_id="r2", percent=float("nan"), why="w"), "percent",
    ),
    "negative page": (pb.ListReleasesRequest(page_size=-1), "page_size"),
    "a token of nothing": (pb.ListReleasesRequest(page_token="page 2"), "page_token"),
    "a forged token": (pb.ListReleasesRequest(page_token="WzEsMl0="), "page_token"),
}  # fmt: skip


async def test_a_bad_field_is_named_and_nothing_changes(shop: Shop) -> None:
    before = read_routing(shop.root)
    for name, (request, bad_field) in BAD.items():
        method = request.DESCRIPTOR.name.removesuffix("Request")
        failure = await failure_of(shop.call(method, request))
        assert failure.code is grpc.StatusCode.INVALID_ARGUMENT, name
        assert set(failure.violations) == {bad_field}, name
    assert read_routing(shop.root) == before


async def test_every_bad_field_is_named_at_once(shop: Shop) -> None:
    failure = await failure_of(shop.call("CanaryRelease", pb.CanaryReleaseRequest()))
    assert set(failure.violations) == {"release_id", "percent", "why"}


GOOD: dict[str, Any] = {
    "63 characters": pb.GetReleaseRequest(release_id="r" * 63),
    "500 characters": pb.PromoteReleaseRequest(release_id="r2", why="ü" * 500),
    "everybody": pb.CanaryReleaseRequest(release_id="r2", percent=100, why="w"),
    "hardly anybody": pb.CanaryReleaseRequest(release_id="r2", percent=0.001, why="w"),
    "a large page": pb.ListReleasesRequest(page_size=10_000),
}


async def test_what_the_proto_allows_is_allowed(shop: Shop) -> None:
    released(shop.root, "r1", "r" * 63)
    for name, request in GOOD.items():
        method = request.DESCRIPTOR.name.removesuffix("Request")
        assert await shop.call(method, request) is not None, name


def test_the_proto_states_the_limits_that_are_kept() -> None:
    stated = (PROTOS / "release_service.proto").read_text()
    assert stated.count(f"1 to {MAX_WHY} characters that are not all spaces") == len(CHANGES)
    assert f"default of {DEFAULT_PAGE_SIZE}; above {MAX_PAGE_SIZE} is lowered" in stated
    assert f"At most {MAX_SHADOWED} requests are asked of a shadow at once" in stated
    assert "above 0 and at most 100, in hundredths" in stated
    assert BUCKETS == 100 * 100


async def test_a_page_holds_no_more_than_the_proto_says(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopintent.server.services.release_messages.MAX_PAGE_SIZE", 2)
    monkeypatch.setattr("shopintent.server.services.release_messages.DEFAULT_PAGE_SIZE", 1)
    for page_size, expected in ((0, 1), (1_000, 2)):
        page = await shop.call("ListReleases", pb.ListReleasesRequest(page_size=page_size))
        assert len(page.releases) == expected
