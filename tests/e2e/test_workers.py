"""Several server processes on one port, with the real Triton: what clients see of them."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.processes import Process
from deploy.demo.stack import Stack, server
from shopintent.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    event_service_pb2,
    event_service_pb2_grpc,
    recommendation_service_pb2_grpc,
)
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.product_pb2 import Product
from shopintent.v1.user_event_pb2 import EVENT_TYPE_VIEW_PRODUCT, UserEvent, Visitor
from support.stack import World

PATIENCE_S = 60.0
RECOMMEND = "shopintent.v1.RecommendationService/Recommend"


@dataclass(frozen=True)
class Workers:
    """A server of two workers."""

    process: Process
    address: str
    metrics_address: str

    @contextmanager
    def connection(self) -> Iterator[grpc.Channel]:
        """Opens a connection that nothing else uses, to whichever worker the kernel chooses."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self.address, options) as channel:
            yield channel

    def logged(self, message: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.process.log_file.read_text().splitlines()]
        return [line for line in lines if line["message"] == message]

    def answering(self, channel: grpc.Channel) -> int:
        """Returns the number of the worker that answers a connection."""
        request_id = str(uuid.uuid4())
        stub: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(channel)
        stub.Recommend(
            pb.RecommendRequest(),
            metadata=[("x-request-id", request_id)],
            timeout=PATIENCE_S,
        )

        def told() -> list[int]:
            lines = self.logged("call")
            return [line["worker"] for line in lines if line["request_id"] == request_id]

        assert eventually(told)
        return told()[0]

    def running(self) -> dict[int, int]:
        """Returns the process id of each worker, by its number."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_text().split("\0")
                assignment = json.loads(words[words.index("--worker") + 1])
            except (OSError, ValueError):
                continue
            if assignment["supervisor"] == self.process.popen.pid:
                found[int(assignment["number"])] = int(folder.name)
        return found

    def metric(self, name: str, **labels: str) -> float:
        """Returns the sum of the samples of a name that have these labels."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics") as page:
            text = page.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def wait_until_both_serve(self) -> None:
        assert eventually(lambda: {each["worker"] for each in self.logged("serving")} == {0, 1})


def eventually(holds: Callable[[], object]) -> bool:
    """Returns whether it holds at last."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def two_workers(world: World, triton_address: str, folder: Path) -> Iterator[Workers]:
    options = ["--workers=2", "--metrics-listen=127.0.0.1:0", "--check-interval-s=0.5"]
    state = [f"--state-path={folder / 'state'}", f"--index-path={folder / 'index'}"]
    with server(world.releases, triton_address, folder, server_options=[*options, *state]) as (
        process,
        address,
    ):
        ready = json.loads((folder / "server.json").read_text())
        workers = Workers(process, address, ready["metrics_address"])
        workers.wait_until_both_serve()
        yield workers


@pytest.fixture(scope="module")
def workers(
    world: World, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    with two_workers(world, stack.triton_address, tmp_path_factory.mktemp("workers")) as workers:
        yield workers


@pytest.fixture(scope="module")
def seen(world: World) -> str:
    return next(world.dataset.products()).product_id


def recommend(channel: grpc.Channel, visitor: str, **options: Any) -> pb.RecommendResponse:
    stub: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(channel)
    request = pb.RecommendRequest(visitor=Visitor(visitor_id=visitor), page_size=5, **options)
    answer: pb.RecommendResponse = stub.Recommend(request, timeout=PATIENCE_S)
    return answer


def test_every_worker_answers_and_their_calls_are_summed(workers: Workers, seen: str) -> None:
    viewed = [UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id=seen)]
    before = workers.metric("rpc_server_call_duration_seconds_count", rpc_method=RECOMMEND)
    answers = []
    for _ in range(30):
        with workers.connection() as channel:
            answers.append(recommend(channel, "", recent_events=viewed))
    assert {each.recommendations[0].source for each in answers} == {
        pb.RECOMMENDATION_SOURCE_PERSONALIZED
    }
    # Whichever worker answers, with copies of one index.
    first = [each.product.id for each in answers[0].recommendations]
    assert all(first == [each.product.id for each in answer.recommendations] for answer in answers)
    after = workers.metric("rpc_server_call_duration_seconds_count", rpc_method=RECOMMEND)
    assert after - before == 30
    assert eventually(lambda: {each["worker"] for each in workers.logged("call")} == {0, 1})


def test_what_one_worker_is_told_of_a_visitor_all_know(workers: Workers, seen: str) -> None:
    request = event_service_pb2.TrackEventsRequest(
        visitor=Visitor(visitor_id="shared"),
        events=[UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id=seen)],
    )
    with workers.connection() as channel:
        stub: Any = event_service_pb2_grpc.EventServiceStub(channel)
        stub.TrackEvents(request, timeout=PATIENCE_S)
    for _ in range(12):
        with workers.connection() as channel:
            answer = recommend(channel, "shared")
        assert answer.recommendations[0].source == pb.RECOMMENDATION_SOURCE_PERSONALIZED
        assert seen not in [each.product.id for each in answer.recommendations]


def test_what_one_worker_writes_to_the_catalog_all_see(workers: Workers) -> None:
    product = Product(id="written-by-one", title="A new chair")
    with workers.connection() as channel:
        stub: Any = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        stub.BatchUpdateProducts(
            catalog_service_pb2.BatchUpdateProductsRequest(products=[product]), timeout=PATIENCE_S
        )

    def read_by_all() -> bool:
        read = []
        for _ in range(12):
            with workers.connection() as channel:
                stub: Any = catalog_service_pb2_grpc.CatalogServiceStub(channel)
                request = catalog_service_pb2.GetProductRequest(product_id=product.id)
                try:
                    read.append(stub.GetProduct(request, timeout=PATIENCE_S).product.title)
                except grpc.RpcError as error:
                    read.append(str(error.code().name))
        assert set(read) <= {product.title, "NOT_FOUND"}
        return read == [product.title] * 12

    assert eventually(read_by_all)


def test_a_killed_worker_fails_no_call_of_the_other_and_is_replaced(
    workers: Workers, seen: str
) -> None:
    viewed = [UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id=seen)]
    before = workers.running()
    with workers.connection() as channel:
        survivor = workers.answering(channel)
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(recommend, channel, "", recent_events=viewed) for _ in range(400)]
            os.kill(before[1 - survivor], signal.SIGKILL)
            answers = [call.result() for call in calls]
    assert not any(answer.degraded_reasons for answer in answers)
    assert eventually(lambda: workers.running().keys() == {0, 1})
    assert workers.running()[survivor] == before[survivor]
    assert workers.running()[1 - survivor] != before[1 - survivor]
    [ended] = workers.logged("a worker ended")
    assert (ended["worker"], ended["why"]) == (1 - survivor, "killed by SIGKILL")
    # It takes part again, with the catalog and the sessions as they were.
    assert eventually(lambda: len(workers.logged("serving")) == 3)


def test_running_calls_finish_when_all_are_told_to_end(
    world: World, stack: Stack, seen: str, tmp_path: Path
) -> None:
    viewed = [UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id=seen)]
    with two_workers(world, stack.triton_address, tmp_path) as workers:
        answered: list[str] = []
        refused: list[str] = []

        def ask_until_refused() -> None:
            with workers.connection() as channel:
                while True:
                    try:
                        answer = recommend(channel, "", recent_events=viewed)
                    except grpc.RpcError as error:
                        refused.append(str(error.code().name))
                        return
                    answered.append(answer.attribution_token)

        with ThreadPoolExecutor(6) as pool:
            asking = [pool.submit(ask_until_refused) for _ in range(6)]
            time.sleep(1.0)
            workers.process.popen.terminate()
            for each in asking:
                each.result(PATIENCE_S)
        assert workers.process.popen.wait(PATIENCE_S) == 0
        assert workers.running() == {}
        # What the server knew of it answered: gRPC refused the rest before it came that far.
        assert set(refused) <= {"UNAVAILABLE", "CANCELLED"}
        assert [each["code"] for each in workers.logged("call")] == ["OK"] * len(answered)


def test_nothing_is_left_of_a_server_whose_supervisor_is_killed(
    world: World, stack: Stack, tmp_path: Path
) -> None:
    with two_workers(world, stack.triton_address, tmp_path) as workers:
        assert workers.running().keys() == {0, 1}
        os.kill(workers.process.popen.pid, signal.SIGKILL)
        assert eventually(lambda: workers.running() == {})
    # The folders are free for the next.
    with two_workers(world, stack.triton_address, tmp_path) as again:
        assert again.running().keys() == {0, 1}
