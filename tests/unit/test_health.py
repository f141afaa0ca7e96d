"""When the release may answer, and what health and errors say when it may not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from shopintent.artifacts import Manifest
from shopintent.artifacts.signature import FINGERPRINT_PARAMETER, Signature, Tensor
from shopintent.server.services.health import SERVICES
from shopintent.v1 import catalog_service_pb2 as catalog_pb
from shopintent.v1 import event_service_pb2 as event_pb
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.user_event_pb2 import EVENT_TYPE_VIEW_PRODUCT, UserEvent, Visitor
from support.server import Failure, Outside, Served, eventually, failure_of, make_outside, serving

VIEW = UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id="p8")
NAMES = ("", *SERVICES)


async def failures(served: Served) -> list[Failure]:
    """Returns how every RPC that needs the release fails; each must."""
    calls = (
        served.recommendation.Recommend(pb.RecommendRequest(recent_events=[VIEW])),
        served.recommendation.Recommend(pb.RecommendRequest()),
        served.recommendation.PredictIntent(pb.PredictIntentRequest()),
        served.catalog.DeleteProduct(catalog_pb.DeleteProductRequest(product_id="p8")),
    )
    return [await failure_of(call) for call in calls]


async def recommend(served: Served) -> pb.RecommendResponse:
    answer: pb.RecommendResponse = await served.recommendation.Recommend(
        pb.RecommendRequest(recent_events=[VIEW])
    )
    return answer


async def test_a_verified_release_is_serving_under_every_name(tmp_path: Path) -> None:
    async with serving(make_outside(tmp_path)) as served:
        for name in (*NAMES, "dependency.triton", "dependency.index"):
            assert await served.health(name) == "SERVING"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.health("no.such.Service")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def without_triton(outside: Outside) -> None:
    outside.repository.down = True


def without_the_model(outside: Outside) -> None:
    del outside.repository.models["intent_r1"]


def without_the_product_encoder(outside: Outside) -> None:
    del outside.repository.models["product_encoder_r1"]


def without_index(outside: Outside) -> None:
    outside.index.down = True


ABSENCES: dict[str, tuple[Callable[[Outside], None], str]] = {
    "Triton": (without_triton, "ERROR_REASON_MODEL_UNAVAILABLE"),
    "the intent model": (without_the_model, "ERROR_REASON_MODEL_UNAVAILABLE"),
    "the product encoder": (without_the_product_encoder, "ERROR_REASON_MODEL_UNAVAILABLE"),
    "the index": (without_index, "ERROR_REASON_INDEX_UNAVAILABLE"),
}


@pytest.mark.parametrize("name", ABSENCES)
async def test_nothing_answers_until_what_was_absent_at_start_appears(
    tmp_path: Path, name: str
) -> None:
    remove, reason = ABSENCES[name]
    outside = make_outside(tmp_path)
    models = dict(outside.repository.models)
    remove(outside)
    async with serving(outside) as served:
        assert {await served.health(each) for each in NAMES} == {"NOT_SERVING"}
        for failure in await failures(served):
            assert failure.code is grpc.StatusCode.UNAVAILABLE
            assert failure.info.reason == reason
        outside.repository.down = outside.index.down = False
        outside.repository.models = models
        await served.app.check()
        assert {await served.health(each) for each in NAMES} == {"SERVING"}
        assert not (await recommend(served)).degraded_reasons


async def test_a_server_starts_serving_by_itself_when_triton_appears(tmp_path: Path) -> None:
    outside = make_outside(tmp_path)
    outside.repository.down = True
    async with serving(outside, check_interval_s=0.02) as served:
        assert await served.health() == "NOT_SERVING"
        outside.repository.down = False

        async def is_serving() -> bool:
            return await served.health() == "SERVING"

        await eventually(is_serving)


async def test_answers_are_degraded_while_triton_is_dead_and_whole_once_verified_again(
    tmp_path: Path,
) -> None:
    outside = make_outside(tmp_path)
    async with serving(outside) as served:
        outside.repository.down = True
        await served.app.check()
        assert {await served.health(each) for each in NAMES} == {"SERVING"}
        assert await served.health("dependency.triton") == "NOT_SERVING"
        assert await served.health("dependency.index") == "SERVING"
        answer = await recommend(served)
        assert list(answer.degraded_reasons) == [pb.DEGRADED_REASON_MODEL_UNAVAILABLE]
        assert outside.model.behaviors == []
        outside.repository.down = False
        await served.app.check()
        assert await served.health("dependency.triton") == "SERVING"
        assert not (await recommend(served)).degraded_reasons


async def test_answers_are_degraded_while_the_index_is_dead(tmp_path: Path) -> None:
    outside = make_outside(tmp_path)
    async with serving(outside) as served:
        outside.index.down = True
        await served.app.check()
        assert {await served.health(each) for each in NAMES} == {"SERVING"}
        assert await served.health("dependency.index") == "NOT_SERVING"
        answer = await recommend(served)
        assert list(answer.degraded_reasons) == [pb.DEGRADED_REASON_INDEX_UNAVAILABLE]
        assert outside.model.behaviors == []
        await served.recommendation.PredictIntent(pb.PredictIntentRequest())


def another_fingerprint(outside: Outside) -> str:
    model = outside.repository.models["intent_r1"]
    outside.repository.models["intent_r1"] = replace(
        model, parameters={FINGERPRINT_PARAMETER: "0" * 64}
    )
    return "intent_r1"


def no_fingerprint(outside: Outside) -> str:
    model = outside.repository.models["intent_r1"]
    outside.repository.models["intent_r1"] = replace(model, parameters={})
    return "intent_r1"


def reshape(outside: Outside, model_name: str, tensor: str, /, **changes: Any) -> str:
    model = outside.repository.models[model_name]

    def changed(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(replace(t, **changes) if t.name == tensor else t for t in tensors)

    signature = Signature(changed(model.signature.inputs), changed(model.signature.outputs))
    outside.repository.models[model_name] = replace(model, signature=signature)
    return model_name


def another_window(outside: Outside) -> str:
    return reshape(outside, "intent_r1", "events", shape=(17, 9))


def another_type(outside: Outside) -> str:
    return reshape(outside, "intent_r1", "event_times", dtype="INT32")


def another_embedding(outside: Outside) -> str:
    return reshape(outside, "intent_r1", "behavior_embedding", shape=(64,))


def another_text_embedding(outside: Outside) -> str:
    return reshape(outside, "text_encoder_r1", "text_embedding", shape=(384,))


def renamed_output(outside: Outside) -> str:
    return reshape(outside, "product_encoder_r1", "product_embedding", name="embedding")


def small_batches(outside: Outside) -> str:
    model = outside.repository.models["product_encoder_r1"]
    outside.repository.models["product_encoder_r1"] = replace(model, max_batch_size=8)
    return "product_encoder_r1"


def empty_collection(outside: Outside) -> str:
    outside.index.products.clear()
    return "products_r1"


def another_dimension(outside: Outside) -> str:
    outside.index.embedding_size = 64
    return "products_r1"


MISMATCHES = (
    another_fingerprint,
    no_fingerprint,
    another_window,
    another_type,
    another_embedding,
    another_text_embedding,
    renamed_output,
    small_batches,
    empty_collection,
    another_dimension,
)


@pytest.mark.parametrize("mismatch", MISMATCHES)
@pytest.mark.parametrize("when", ["at start", "later"])
async def test_a_mismatch_stops_every_answer_and_names_the_part(
    tmp_path: Path, mismatch: Callable[[Outside], str], when: str
) -> None:
    outside = make_outside(tmp_path)
    component = mismatch(outside) if when == "at start" else ""
    async with serving(outside) as served:
        if when == "later":
            assert await served.health() == "SERVING"
            component = mismatch(outside)
            await served.app.check()
        assert {await served.health(each) for each in NAMES} == {"NOT_SERVING"}
        for failure in await failures(served):
            assert failure.code is grpc.StatusCode.UNAVAILABLE
            assert failure.info.reason == "ERROR_REASON_RELEASE_MISMATCH"
            assert dict(failure.info.metadata) == {"releaseId": "r1", "component": component}
            assert component in failure.message
            assert failure.retry_delay_s is None
        tracked = await served.events.TrackEvents(
            event_pb.TrackEventsRequest(visitor=Visitor(visitor_id="v"), events=[VIEW])
        )
        assert tracked.recorded_count == 1


def wrong_fingerprint(manifest: Manifest) -> Manifest:
    return replace(manifest, behavior_fingerprint="0" * 64)


def wrong_id(manifest: Manifest) -> Manifest:
    return replace(manifest, release_id="r2")


def wrong_text_size(manifest: Manifest) -> Manifest:
    return replace(manifest, text_embedding_size=9)


def no_horizons(manifest: Manifest) -> Manifest:
    return replace(manifest, horizons_s=())


@pytest.mark.parametrize("change", [wrong_fingerprint, wrong_id, wrong_text_size, no_horizons])
async def test_files_of_a_release_that_do_not_fit_are_never_served(
    tmp_path: Path, change: Callable[[Manifest], Manifest]
) -> None:
    outside = make_outside(tmp_path)
    manifest = change(outside.release.manifest)
    async with serving(
        replace(outside, release=replace(outside.release, manifest=manifest))
    ) as served:
        assert await served.health() == "NOT_SERVING"
        for failure in await failures(served):
            assert failure.info.reason == "ERROR_REASON_RELEASE_MISMATCH"
            assert "publish the release again" in failure.message


async def test_a_release_with_answers_of_a_later_version_is_never_served(tmp_path: Path) -> None:
    outside = make_outside(tmp_path)
    manifest = replace(outside.release.manifest, answers=("expected_weight",))
    release = replace(outside.release, manifest=manifest)
    async with serving(replace(outside, release=release)) as served:
        assert await served.health() == "NOT_SERVING"
        for failure in await failures(served):
            assert failure.info.reason == "ERROR_REASON_RELEASE_MISMATCH"
            assert "expected_weight; update the server" in failure.message


async def test_a_mismatch_that_is_repaired_serves_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = make_outside(tmp_path)
    models = dict(outside.repository.models)
    async with serving(outside) as served:
        another_fingerprint(outside)
        await served.app.check()
        assert await served.health() == "NOT_SERVING"
        outside.repository.models = models
        await served.app.check()
        assert await served.health() == "SERVING"
        assert not (await recommend(served)).degraded_reasons
    told = [each.message for each in caplog.records if "serving" in each.message]
    assert told == ["serving", "not serving", "serving"]


async def test_a_catalog_that_grew_or_shrank_still_fits(tmp_path: Path) -> None:
    outside = make_outside(tmp_path)
    for product_id in list(outside.index.products)[1:]:
        del outside.index.products[product_id]
    async with serving(outside) as served:
        assert await served.health() == "SERVING"


async def test_a_check_that_breaks_does_not_stop_the_checks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = make_outside(tmp_path)
    describe = outside.index.describe

    async def broken(*, timeout_s: float) -> Any:
        raise np.linalg.LinAlgError("odd")

    async with serving(outside) as served:
        outside.index.describe = broken  # type: ignore[method-assign]
        await served.app.check()
        assert await served.health("dependency.index") == "NOT_SERVING"
        assert await served.health() == "SERVING"
        assert any(each.exc_info for each in caplog.records)
        outside.index.describe = describe  # type: ignore[method-assign]
        await served.app.check()
        assert await served.health("dependency.index") == "SERVING"
