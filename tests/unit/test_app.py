"""The life of the server: addresses, TLS, reflection, overload and drain."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from shopintent.artifacts import ReleasesRoot
from shopintent.server import app as apps
from shopintent.server.__main__ import main
from shopintent.server.config import Config, ConfigError, check_listen
from shopintent.server.metrics import Metrics
from shopintent.server.popularity.counters import Popularity
from shopintent.server.popularity.snapshot_file import SnapshotFile
from shopintent.server.services.convert import EVERYTHING
from shopintent.server.services.health import SERVICES
from shopintent.server.sessions import Counted
from shopintent.v1 import catalog_service_pb2 as catalog_pb
from shopintent.v1 import event_service_pb2 as event_pb
from shopintent.v1 import event_service_pb2_grpc, recommendation_service_pb2_grpc
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.user_event_pb2 import EVENT_TYPE_VIEW_PRODUCT, UserEvent, Visitor
from support.certificates import make_certificate
from support.counting import count_of
from support.server import (
    app_of,
    config_of,
    eventually,
    failure_of,
    make_outside,
    running,
    serving,
    write_small_release,
)

VIEW = UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id="p8")


async def started_call(served: Any) -> Any:
    """Returns a call of PredictIntent that is waiting for the model."""
    call = served.recommendation.PredictIntent(pb.PredictIntentRequest())
    await served.outside.model.asked.wait()
    return call


async def test_a_running_call_finishes_while_the_server_drains(tmp_path: Path) -> None:
    async with serving(make_outside(tmp_path)) as served:
        served.outside.model.delay_s = 0.3
        call = await started_call(served)
        stopping = asyncio.create_task(served.app.stop())
        answer = await call
        assert answer.model.model_version == "1"
        await stopping
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.recommendation.PredictIntent(pb.PredictIntentRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_watchers_of_health_learn_of_the_drain_first(tmp_path: Path) -> None:
    async with serving(make_outside(tmp_path)) as served:
        served.outside.model.delay_s = 0.3
        call = await started_call(served)
        stub: Any = health_pb2_grpc.HealthStub(served.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(served.app.stop())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        await call
        await stopping


async def test_calls_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    async with serving(make_outside(tmp_path), max_concurrent_rpcs=1) as served:
        served.outside.model.delay_s = 0.5
        running = await started_call(served)
        call = served.recommendation.Recommend(
            pb.RecommendRequest(), metadata=(("x-request-id", "shop-42"),)
        )
        failure = await failure_of(call)
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.info.reason == "ERROR_REASON_OVERLOADED"
        assert failure.retry_delay_s == 0.5
        assert dict(await call.trailing_metadata())["x-request-id"] == "shop-42"
        # Who watches over the server and who keeps the catalog are never turned away.
        assert await served.health() == "SERVING"
        await served.catalog.GetProduct(catalog_pb.GetProductRequest(product_id="p7"))
        await running
        await served.recommendation.Recommend(pb.RecommendRequest())


async def test_a_product_deleted_by_another_server_stops_being_popular(tmp_path: Path) -> None:
    async with serving(make_outside(tmp_path), popular_refresh_s=0.05) as served:

        async def best() -> str:
            answer = await served.recommendation.Recommend(pb.RecommendRequest(page_size=1))
            return str(answer.recommendations[0].product.id)

        gone = await best()
        del served.outside.index.products[gone]

        async def is_gone() -> bool:
            return await best() != gone

        await eventually(is_gone)


@pytest.mark.events
async def test_popular_products_are_read_as_soon_as_a_release_serves(tmp_path: Path) -> None:
    outside = make_outside(tmp_path)
    like = outside.index.products["p8"]
    outside.index.products["new"] = replace(like, product=replace(like.product, product_id="new"))
    app = app_of(config_of(popular_refresh_s=3600.0), outside)
    popular = app.traffic.serving.popular
    popular.popularity.count([Counted("purchase", int(time.time()), "new")] * 100)
    async with running(app):

        async def is_popular() -> bool:
            return popular.top(1, EVERYTHING)[0][0].product_id == "new"

        await eventually(is_popular)


async def test_reflection_names_every_service(tmp_path: Path) -> None:
    async with serving(make_outside(tmp_path)) as served:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(served.channel)  # type: ignore[arg-type]
        call = stub.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        answer = await call.read()
        names = {each.name for each in answer.list_services_response.service}
        assert {*SERVICES, "grpc.health.v1.Health"} <= names


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051", "shop.example:443"])
def test_an_address_others_can_reach_needs_tls_or_an_explicit_insecure(listen: str) -> None:
    with pytest.raises(ConfigError, match="SHOPINTENT_TLS_CERTIFICATE"):
        check_listen(Config(listen=listen))
    check_listen(Config(listen=listen, insecure=True))
    check_listen(Config(listen=listen, tls_certificate=Path("c"), tls_private_key=Path("k")))


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:1", "[::1]:0", "unix:/tmp/s"])
def test_loopback_needs_nothing(listen: str) -> None:
    check_listen(Config(listen=listen))


async def predict_over(channel: grpc.aio.Channel) -> pb.PredictIntentResponse:
    stub: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(channel)
    answer: pb.PredictIntentResponse = await stub.PredictIntent(
        pb.PredictIntentRequest(), timeout=5
    )
    return answer


async def test_with_mutual_tls_only_clients_with_a_certificate_are_served(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    outside = make_outside(tmp_path / "root")
    config = Config(
        listen="127.0.0.1:0",
        tls_certificate=certificate,
        tls_private_key=key,
        tls_client_ca=certificate,
        grace_s=0.0,
    )
    app = app_of(config, outside)
    port = await app.start()
    await app.check()
    trusted = certificate.read_bytes()
    ours = grpc.ssl_channel_credentials(trusted, key.read_bytes(), trusted)
    nobody = grpc.ssl_channel_credentials(trusted)
    try:
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", ours) as channel:
            assert (await predict_over(channel)).model.release_id == "r1"
        tls = [f"--tls-certificate={certificate}", f"--tls-private-key={key}"]
        for client_ca, exit_code in (([f"--tls-client-ca={certificate}"], 0), ([], 1)):
            health = ["health", f"--listen=127.0.0.1:{port}", *tls, *client_ca]
            assert await asyncio.to_thread(main, health) == exit_code
        for channel in (
            grpc.aio.secure_channel(f"127.0.0.1:{port}", nobody),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}"),
        ):
            async with channel:
                with pytest.raises(grpc.aio.AioRpcError):
                    await predict_over(channel)
    finally:
        await app.stop()


async def test_a_port_that_is_taken_is_reported_with_its_variable(tmp_path: Path) -> None:
    outside = make_outside(tmp_path)
    config = Config(listen="127.0.0.1:0", grace_s=0.0)
    first = app_of(config, outside)
    port = await first.start()
    second = app_of(Config(listen=f"127.0.0.1:{port}", grace_s=0.0), outside)
    try:
        with pytest.raises(ConfigError, match="SHOPINTENT_LISTEN"):
            await second.start()
    finally:
        await first.stop()
        await second.stop()


async def test_serve_tells_its_address_answers_without_triton_and_stops_on_sigterm(
    tmp_path: Path,
) -> None:
    write_small_release(ReleasesRoot(tmp_path / "root"))
    config = Config(
        releases=tmp_path / "root",
        listen="127.0.0.1:0",
        triton_address="127.0.0.1:1",
        check_timeout_s=0.2,
        grace_s=0.0,
    )
    told: list[tuple[str, str]] = []
    serving_task = asyncio.create_task(
        apps.serve(
            config, Metrics(), lambda address, release_id: told.append((address, release_id))
        )
    )

    async def is_listening() -> bool:
        return bool(told) or serving_task.done()

    await eventually(is_listening)
    [(address, release_id)] = told
    assert release_id == "r1"
    async with grpc.aio.insecure_channel(address) as channel:
        failure = await failure_of(predict_over(channel))
        assert failure.info.reason == "ERROR_REASON_MODEL_UNAVAILABLE"
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(serving_task, timeout=20)


async def serve_one_event(config: Config) -> None:
    """Serves, tracks a view and stops."""
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving_task = asyncio.create_task(
        apps.serve(config, Metrics(), lambda address, _: listening.set_result(address))
    )
    async with grpc.aio.insecure_channel(await listening) as channel:
        stub: Any = event_service_pb2_grpc.EventServiceStub(channel)
        await stub.TrackEvents(
            event_pb.TrackEventsRequest(visitor=Visitor(visitor_id="anna"), events=[VIEW])
        )
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(serving_task, timeout=20)


@pytest.mark.events
async def test_a_server_that_stops_writes_down_what_it_counted_and_goes_on_from_there(
    tmp_path: Path,
) -> None:
    write_small_release(ReleasesRoot(tmp_path))
    config = Config(
        releases=tmp_path, listen="127.0.0.1:0", triton_address="127.0.0.1:1", grace_s=0.0
    )
    for views in (1, 2):
        await serve_one_event(config)
        counters = Popularity()
        assert SnapshotFile(tmp_path / "state" / "popularity.json").restore(counters)
        assert count_of(counters.popular, "p8", time.time()) == pytest.approx(views, rel=0.01)
