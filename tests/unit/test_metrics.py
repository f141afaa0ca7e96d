"""What the metrics count, and that the numbers of several processes are summed."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shopintent.artifacts.routing import Routing
from shopintent.server import metrics as the_metrics
from shopintent.server.app import App
from shopintent.server.config import ConfigError, read_placements
from shopintent.server.hydrate import Degraded
from shopintent.server.metrics import (
    BLOCK_BYTES,
    CODES,
    DEGRADED,
    METHODS,
    OTHER,
    STAGE,
    STAGES,
    Block,
    Metrics,
)
from shopintent.server.metrics_page import serve_metrics
from shopintent.server.serving import Backends, serve_release
from shopintent.server.traffic import Traffic
from shopintent.v1 import (
    catalog_service_pb2,
    event_service_pb2,
    recommendation_service_pb2,
    recommendation_service_pb2_grpc,
)
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.user_event_pb2 import EVENT_TYPE_VIEW_PRODUCT, UserEvent
from support.server import config_of, failure_of, make_outside, running

RECOMMEND = "shopintent.v1.RecommendationService/Recommend"


def scraped(*blocks: Block) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Returns every sample of the page, read over HTTP as Prometheus reads it."""
    with urllib.request.urlopen(f"http://{serve_metrics('127.0.0.1:0', blocks)}/metrics") as page:
        text = page.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sample(
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str
) -> float | None:
    return samples.get((name, frozenset(labels.items())))


@pytest.fixture
def shared() -> Iterator[int]:
    file = os.memfd_create("block")
    os.truncate(file, BLOCK_BYTES)
    yield file
    os.close(file)


def test_the_labels_are_those_of_the_contract() -> None:
    modules = (recommendation_service_pb2, event_service_pb2, catalog_service_pb2)
    methods = {
        f"{service.full_name}/{method.name}"
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert set(METHODS) == methods
    assert tuple(code.name for code in grpc.StatusCode) == CODES
    assert set(DEGRADED) == {*map(str, Degraded), OTHER}


def test_the_event_log_is_counted_and_a_process_begins_without_waiting(shared: int) -> None:
    metrics = Metrics(Block(shared))
    metrics.log_written(3)
    metrics.log_written(2)
    metrics.log_failed()
    metrics.log_waits(1.2)
    samples = scraped(metrics.block)
    assert sample(samples, "shopintent_event_log_records_total") == 5
    assert sample(samples, "shopintent_event_log_failures_total") == 1
    assert sample(samples, "shopintent_event_log_wait_seconds") == 2
    samples = scraped(Metrics(Block(shared)).block)
    assert sample(samples, "shopintent_event_log_records_total") == 5
    assert sample(samples, "shopintent_event_log_wait_seconds") == 0


def test_a_call_is_counted_by_method_and_code_with_its_duration() -> None:
    metrics = Metrics()
    for code, duration_s in (("OK", 0.005), ("OK", 0.0051), ("RESOURCE_EXHAUSTED", 0.0001)):
        metrics.call_started(RECOMMEND)
        metrics.call_ended(RECOMMEND, code, duration_s)
    metrics.call_started(RECOMMEND)
    samples = scraped(metrics.block)
    name, labels = "rpc_server_call_duration_seconds", {"rpc_method": RECOMMEND}
    ok = {**labels, "rpc_response_status_code": "OK"}
    assert sample(samples, f"{name}_count", **ok) == 2
    assert sample(samples, f"{name}_sum", **ok) == pytest.approx(0.0101)
    assert sample(samples, f"{name}_bucket", le="0.005", **ok) == 1
    assert sample(samples, f"{name}_bucket", le="0.0075", **ok) == 2
    assert sample(samples, "shopintent_calls_in_flight", **labels) == 1
    assert sample(samples, "shopintent_refused_calls_total", **labels) == 1


def test_callers_can_not_make_labels() -> None:
    metrics = Metrics()
    metrics.call_started("forged/Method")
    metrics.call_ended("forged/Method", "FORGED", 0.1)
    metrics.degraded("forged/Method", "forged")
    samples = scraped(metrics.block)
    assert not [labels for _, labels in samples if "forged" in str(labels)]
    degraded = {"rpc_method": OTHER, "reason": OTHER}
    assert sample(samples, "shopintent_degraded_answers_total", **degraded) == 1
    assert sample(samples, "shopintent_calls_in_flight", rpc_method=OTHER) == 0


COUNTS = """
import sys
from shopintent.server.metrics import Block, Metrics
metrics = Metrics(Block(int(sys.argv[1])))
metrics.stages["model"].observe(0.002)
metrics.call_started("shopintent.v1.RecommendationService/Recommend")
metrics.releases({"r1": "serving", "r2": "canary"})
"""


def test_the_numbers_of_processes_are_summed_and_outlive_them(shared: int) -> None:
    mine = Metrics()
    mine.stages["model"].observe(0.002)
    mine.releases({"r1": "serving"})
    reader = Block(shared)
    for _ in range(2):
        subprocess.run([sys.executable, "-c", COUNTS, str(shared)], pass_fds=[shared], check=True)
    samples = scraped(mine.block, reader)
    assert sample(samples, "shopintent_stage_duration_seconds_count", stage="model") == 3
    assert (
        sample(samples, "shopintent_stage_duration_seconds_bucket", stage="model", le="0.002") == 3
    )
    # What a dead process was answering is in flight no more once another took its place.
    assert sample(samples, "shopintent_calls_in_flight", rpc_method=RECOMMEND) == 1
    assert sample(samples, "shopintent_worker_starts_total") == 3
    assert sample(samples, "shopintent_release_workers", release_id="r1", role="serving") == 2
    assert sample(samples, "shopintent_release_workers", release_id="r2", role="canary") == 1
    assert sample(samples, "shopintent_worker_resident_memory_bytes", worker="1") == 0
    assert (sample(samples, "shopintent_worker_resident_memory_bytes", worker="0") or 0) > 1e6


def test_batches_and_waits_are_counted() -> None:
    metrics = Metrics()
    metrics.batch_rows.observe(64)
    metrics.batch_rows.observe(3)
    metrics.queue_wait.observe(0.0003)
    samples = scraped(metrics.block)
    assert sample(samples, "shopintent_model_batch_rows_bucket", le="4.0") == 1
    assert sample(samples, "shopintent_model_batch_rows_bucket", le="64.0") == 2
    assert sample(samples, "shopintent_model_batch_rows_sum") == 67
    assert sample(samples, "shopintent_model_queue_wait_seconds_count") == 1


def test_a_long_list_of_releases_is_left_out_and_not_cut() -> None:
    metrics = Metrics()
    metrics.releases({f"release-{n}": "ready" for n in range(1000)})
    assert metrics.block.read_note() == {}


def test_an_address_that_is_taken_is_told_with_its_variable() -> None:
    address = serve_metrics("127.0.0.1:0", [Metrics().block])
    with pytest.raises(ConfigError, match="SHOPINTENT_METRICS_LISTEN"):
        serve_metrics(address, [Metrics().block])


async def test_calls_of_a_server_are_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    outside, config = make_outside(tmp_path), config_of()
    backends = Backends(outside.model, outside.encoder, outside.repository, outside.index)
    weights, close = read_placements(None), outside.index.close
    release = serve_release(config, outside.release, backends, weights, close, metrics)
    traffic = Traffic(release, Routing(release.release_id))
    app = App(config, outside.sessions, outside.journal, traffic, metrics)
    async with running(app) as (_, channel):
        stub: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(channel)
        await stub.Recommend(pb.RecommendRequest())
        await failure_of(stub.Recommend(pb.RecommendRequest(page_size=-1)))
        viewed = [UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id="p7")]
        await stub.Recommend(pb.RecommendRequest(recent_events=viewed))
        outside.model.down = True
        await stub.Recommend(pb.RecommendRequest(recent_events=viewed))
        await app.check()
    block = metrics.block
    ok, _ = block.read(the_metrics.CALLS, (RECOMMEND, "OK"))
    bad, _ = block.read(the_metrics.CALLS, (RECOMMEND, "INVALID_ARGUMENT"))
    assert (sum(ok), sum(bad)) == (3, 1)
    samples = scraped(block)
    degraded = {"rpc_method": RECOMMEND, "reason": "model-unavailable"}
    assert sample(samples, "shopintent_degraded_answers_total", **degraded) == 1
    stages = {stage: sample(samples, f"{STAGE.name}_count", stage=stage) for stage in STAGES}
    assert stages == {"validate": 3, "session": 3, "tokens": 2, "model": 1, "index": 1, "answer": 3}
    served = {"release_id": "r1", "role": "serving"}
    assert sample(samples, "shopintent_release_workers", **served) == 1
    assert block.read(the_metrics.IN_FLIGHT, (RECOMMEND,)) == ([0], 0.0)
